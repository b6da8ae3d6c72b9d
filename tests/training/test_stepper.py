"""One step: masked where its loss is not finite, scaled under fp16, nothing shared with a copy."""

import copy

import pytest
import tiny
import torch

from helpers import losses
from helpers.core.errors import TrainingError
from helpers.training import checkpoint
from helpers.training import stepper as stepping

CPU = torch.device("cpu")


def make(**changes):
    return stepping.Stepper(tiny.settings(**changes), 11, CPU)


def batch(seed=0):
    own = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 32, 32, generator=own), torch.randint(0, 11, (2, 32, 32), generator=own)


def step(stepper, seed=0, rate=1e-3):
    train_step(stepper, *batch(seed), rate)


def tensors(stepper):
    """Every tensor that a step could change: weights, statistics, average, moments, step counts."""
    state = stepper.state()
    found = list(state["model"].values()) + list((state["average"] or {}).values())
    return [t.clone() for t in found] + [t.clone() for s in state["optimizer"]["state"].values() for t in s.values()]


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def plain_optimizer(stepper):
    """A copy of the model, and torch's own for-loop form of its optimizer (Muon has no other)."""
    settings, twin = stepper.settings, copy.deepcopy(stepper.model)
    own = {"sgd": {"momentum": settings.momentum, "foreach": False}, "muon": {}}.get(
        settings.optimizer, {"foreach": False}
    )
    kind = stepping.OPTIMIZERS[settings.optimizer]
    return twin, kind(twin.parameters(), lr=1e-3, weight_decay=settings.weight_decay, **own)


def step_both(stepper, twin, plain, seed):
    """One step of each on the same gradients; the weights must be equal after it."""
    step(stepper, seed)
    for mine, theirs in zip(stepper.model.parameters(), twin.parameters(), strict=True):
        theirs.grad = mine.grad.clone()
    plain.step()
    for mine, theirs in zip(stepper.model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


def moments(stepper):
    """What the optimizer keeps of earlier gradients: every tensor of its state."""
    return [t for s in stepper.optimizer.state.values() for t in s.values()]


def test_a_compiled_network_is_the_model_s_own(monkeypatch):
    """torch.compile wraps what the step calls; weights, their names and the average stay the model's."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda module, **how: lambda x: calls.append(1) or module(x))
    plain, compiled = (stepping.Stepper(tiny.settings(compile=on), 11, torch.device("cpu")) for on in (False, True))
    batch = torch.randn(2, 3, 32, 32), torch.randint(0, 11, (2, 32, 32))
    for one in (plain, compiled):
        train_step(one, *batch, 1e-3)
    assert len(calls) == 1 and compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(compiled.model.parameters(), plain.model.parameters(), strict=True))


@pytest.mark.parametrize(
    "optimizer", [name for name in stepping.OPTIMIZERS if name != "muon"]
)  # test_muon has its oracle
def test_fused_steps_equal_the_plain_optimizer_s(optimizer):
    """The oracle: torch's own for-loop form, on the same gradients."""
    stepper = make(optimizer=optimizer, ema_decay=0.0, clip=1e9)
    twin, plain = plain_optimizer(stepper)
    for seed in range(3):
        step_both(stepper, twin, plain, seed)


@pytest.mark.parametrize("optimizer", stepping.OPTIMIZERS)
def test_a_first_step_that_the_scaler_skips_leaves_nothing_behind(optimizer):
    stepper = make(optimizer=optimizer, precision="fp16")
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)
    before = [p.clone() for p in stepper.model.parameters()]
    step(stepper)
    assert same(before, list(stepper.model.parameters())) and stepper.scaler.get_scale() == 2.0**25
    assert all((t == 0).all() for t in moments(stepper))
    for seed in range(12):
        step(stepper, seed)
    assert not same(before, list(stepper.model.parameters())) and stepper.is_finite()
    assert all(t.isfinite().all() for t in moments(stepper))


def test_sgd_by_hand():
    """Momentum 1/2, rate 1/4, weight decay 1/8: v = v/2 + (g + w/8), w = w - v/4, from v = 0."""
    weight = torch.nn.Parameter(torch.tensor([8.0]))
    net = torch.nn.ParameterList([weight])
    settings = tiny.settings(optimizer="sgd", momentum=0.5, lr=0.25, weight_decay=0.125)
    optimizer = stepping.make_optimizer(settings, net)
    seen = []
    for gradient in (3.0, 1.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        seen.append(weight.item())
    assert seen == [8 - 4 / 4, 7 - (4 / 2 + 1 + 7 / 8) / 4]


def test_sgd_without_momentum_keeps_none():
    stepper = make(optimizer="sgd", momentum=0.0)
    step(stepper)
    assert moments(stepper) == [] and stepper.is_finite()


@pytest.mark.parametrize(("clip", "length"), [(0.0, 500.0), (1.0, 1.0), (1e-2, 1e-2)])
def test_clip_is_the_longest_gradient_and_0_means_none(clip, length):
    """Plain SGD at rate 1e-3 moves the weights by 1e-3 gradients: of length 500 here, if nothing clips them."""
    stepper = make(optimizer="sgd", momentum=0.0, weight_decay=0.0, ema_decay=0.0, clip=clip)
    loss = stepper.backward(*batch(0))
    parameters = list(stepper.model.parameters())
    norm = torch.cat([p.grad.flatten() for p in parameters]).norm()
    for p in parameters:
        p.grad *= 500 / norm
    before, grads = [p.detach().clone() for p in parameters], [p.grad.clone() for p in parameters]
    stepper.update(loss, 1e-3, 2)
    for p, old, grad in zip(parameters, before, grads, strict=True):
        torch.testing.assert_close(p.detach(), old - 1e-3 * grad * length / 500, rtol=1e-5, atol=1e-7)


EVERY = [("optimizer", name) for name in stepping.OPTIMIZERS] + [("loss", name) for name in losses.LOSSES]


@pytest.mark.parametrize(("setting", "name"), EVERY)
def test_nothing_in_a_step_waits_for_the_device(monkeypatch, setting, name):
    """No tensor becomes a Python number: each such turn would hold a GPU up."""
    stepper = make(**{setting: name})
    step(stepper)
    for turn in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy"):
        monkeypatch.setattr(torch.Tensor, turn, lambda *a, turn=turn: pytest.fail(f"{turn} waits"))
    step(stepper, 1)


def test_the_scaler_s_own_skips_are_no_fault():
    """fp16: gradients scaled by 2**26 overflow, the scaler skips, halves, and in the end steps."""
    stepper = make(precision="fp16")
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)
    before = [p.clone() for p in stepper.model.parameters()]
    step(stepper)
    assert same(before, list(stepper.model.parameters())) and stepper.scaler.get_scale() == 2.0**25
    assert stepper.read_bad() == -1 and stepper.is_finite()
    for seed in range(12):
        step(stepper, seed)
    assert not same(before, list(stepper.model.parameters())) and stepper.scaler.get_scale() < 2.0**25
    assert stepper.read_bad() == -1 and stepper.is_finite()


def test_under_fp16_a_loss_that_is_not_finite_is_a_fault():
    stepper = make(precision="fp16")
    step(stepper)
    before = [p.clone() for p in stepper.model.parameters()]
    x, target = batch(1)
    stepper.update(stepper.backward(x * float("nan"), target), 1e-3, 2)
    assert stepper.read_bad() == 2 and same(before, list(stepper.model.parameters())) and stepper.is_finite()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_learns_as_fp32_does(precision):
    full, half = make(precision="fp32"), make(precision=precision)
    for seed in range(8):
        step(full, seed % 2)
        step(half, seed % 2)
    one, other = (float(s.backward(*batch(0))) for s in (full, half))
    assert abs(one - other) < 0.05 * one, (one, other)


def test_the_scale_is_part_of_the_state():
    stepper = make(precision="fp16")
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)
    step(stepper)
    twin = make(precision="fp16")
    twin.load(copy.deepcopy(stepper.state()))
    assert twin.scaler.get_scale() == stepper.scaler.get_scale() == 2.0**25


@pytest.mark.parametrize("optimizer", stepping.OPTIMIZERS)
def test_a_state_taken_over_goes_on_to_the_bit(tmp_path, optimizer):
    """Through a file, as a training that is stopped and taken up again."""
    straight, one = make(optimizer=optimizer), make(optimizer=optimizer)
    for seed in range(4):
        step(straight, seed)
    for seed in range(2):
        step(one, seed)
    checkpoint.save(tmp_path / "last.pt", one.state())
    twin = make(optimizer=optimizer, seed=5)
    twin.load(checkpoint.read(tmp_path / "last.pt", ""))
    assert same(tensors(one), tensors(twin))
    for seed in (2, 3):
        step(twin, seed)
    assert same(tensors(straight), tensors(twin)) and twin.steps == 4


def test_an_error_in_the_backward_pass_leaves_all_as_it_was(monkeypatch):
    stepper = make()
    step(stepper)
    before = tensors(stepper)

    def fails(logits, target):
        raise KeyboardInterrupt

    monkeypatch.setitem(losses.LOSSES, "dice_ce", fails)
    with pytest.raises(KeyboardInterrupt):
        stepper.backward(*batch(1))
    assert all(p.grad is None for p in stepper.model.parameters())
    after = tensors(stepper)
    floats = [(a, b) for a, b in zip(before, after, strict=True) if a.is_floating_point()]
    assert all(torch.equal(a, b) for a, b in floats)


def test_auto_is_fp32_without_a_card_and_others_are_checked():
    assert stepping.pick_precision("auto", CPU) == "fp32" and stepping.pick_precision("bf16", CPU) == "bf16"
    with pytest.raises(TrainingError, match="choose auto, fp32, fp16 or bf16"):
        stepping.pick_precision("fp8", CPU)


@pytest.mark.parametrize(("bf16", "chosen"), [(True, "bf16"), (False, "fp16")])
def test_a_card_without_bf16_gets_fp16(monkeypatch, bf16, chosen):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert stepping.pick_precision("auto", torch.device("cuda")) == chosen


def test_a_step_that_was_cut_after_unscaling_can_be_taken_again_after_loading():
    """An old scaler would say that the gradients were unscaled already."""
    stepper = make(precision="fp16")
    step(stepper)
    kept = copy.deepcopy(stepper.state())
    stepper.backward(*batch(1))
    stepper.scaler.unscale_(stepper.optimizer)
    stepper.load(kept)
    step(stepper, 1)
    assert stepper.steps == 2 and stepper.is_finite()
