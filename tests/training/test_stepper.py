"""One step and all that it changes: oracles by hand and by torch, the fp16 scale, errors in the middle."""

import copy

import pytest
import tiny
import torch

from helpers import losses
from helpers.core.errors import TrainingError
from helpers.trainer import train_step
from helpers.training import checkpoint
from helpers.training import stepper as stepping

CPU = torch.device("cpu")


def make(**changes):
    return stepping.Stepper(tiny.settings(**changes), 11, CPU)


def overflowing(**changes):
    """Under fp16, with a scale at which the first steps' gradients overflow."""
    stepper = make(precision="fp16", **changes)
    stepper.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**26)
    return stepper


def batch(seed=0):
    own = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 32, 32, generator=own), torch.randint(0, 11, (2, 32, 32), generator=own)


def step(stepper, seed=0, rate=1e-3):
    return train_step(stepper, *batch(seed), rate)


def moments(stepper):
    """What the optimizer keeps of earlier gradients: every tensor of its state."""
    return [t for s in stepper.optimizer.state.values() for t in s.values() if t is not None]


def tensors(stepper):
    """Copies of every tensor that a step changes: weights, statistics and counts, average, moments."""
    state = stepper.state()
    return [t.clone() for t in (*state["model"].values(), *(state["average"] or {}).values(), *moments(stepper))]


def weights(stepper):
    return [p.detach().clone() for p in stepper.model.parameters()]


def cut(*rest):
    raise KeyboardInterrupt


# ---- the step by hand and by torch ----


def plain_optimizer(stepper):
    """A copy of the model, and torch's own for-loop form of its optimizer."""
    settings, twin = stepper.settings, copy.deepcopy(stepper.model)
    own = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
    kind = stepping.OPTIMIZERS[settings.optimizer]
    return twin, kind(twin.parameters(), lr=1e-3, weight_decay=settings.weight_decay, foreach=False, **own)


def check_steps(stepper, twin, plain):
    """Three steps of each on the same gradients; the weights must be equal after each."""
    for seed in range(3):
        step(stepper, seed)
        for mine, theirs in zip(stepper.model.parameters(), twin.parameters(), strict=True):
            theirs.grad = mine.grad.clone()
        plain.step()
        for mine, theirs in zip(stepper.model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])  # test_muon has its oracle
def test_fused_steps_equal_the_plain_optimizer_s(optimizer):
    stepper = make(optimizer=optimizer, ema_decay=0.0, clip=1e9)
    check_steps(stepper, *plain_optimizer(stepper))


def test_the_settings_momentum_counts_after_a_load_too():
    """A checkpoint made at momentum 0 holds none."""
    one, twin = make(optimizer="sgd", momentum=0.0), make(optimizer="sgd", momentum=0.5, ema_decay=0.0, clip=1e9)
    step(one)
    assert moments(one) == []
    twin.load(copy.deepcopy(one.state()))
    assert twin.optimizer.param_groups[0]["momentum"] == 0.5
    check_steps(twin, *plain_optimizer(twin))


@pytest.mark.parametrize("clip", [0.0, 1.0, 1e-2])
def test_clip_is_the_longest_gradient_and_0_means_none(monkeypatch, clip):
    """Plain SGD at rate 1e-3 moves the weights by 1e-3 gradients, here of a length above 10 if nothing clips them."""
    plain = losses.LOSSES["dice_ce"]
    monkeypatch.setitem(losses.LOSSES, "dice_ce", lambda logits, target: 100 * plain(logits, target))
    stepper = make(optimizer="sgd", momentum=0.0, weight_decay=0.0, ema_decay=0.0, clip=clip)
    twin, before, (x, target) = copy.deepcopy(stepper.model).train(), weights(stepper), batch()
    grads = torch.autograd.grad(losses.LOSSES["dice_ce"](twin(x), target), list(twin.parameters()))
    length = torch.cat([grad.flatten() for grad in grads]).norm()
    _, norm = step(stepper)
    torch.testing.assert_close(norm, length)
    assert length > 10
    scale = clip / length if clip else 1.0
    for new, old, grad in zip(stepper.model.parameters(), before, grads, strict=True):
        torch.testing.assert_close(new.detach(), old - 1e-3 * scale * grad, rtol=1e-4, atol=1e-7)


def test_the_average_of_the_weights_by_hand():
    stepper = make(ema_decay=0.5)
    start = weights(stepper)
    step(stepper)
    average = [old + (new - old) * 0.9 for old, new in zip(start, weights(stepper), strict=True)]  # 1 / (1 + 9) is kept
    torch.testing.assert_close(list(stepper.average.parameters()), average)
    step(stepper, 1)
    average = [old * 2 / 11 + new * 9 / 11 for old, new in zip(average, weights(stepper), strict=True)]
    torch.testing.assert_close(list(stepper.average.parameters()), average)


def test_a_compiled_network_is_the_model_s_own(monkeypatch):
    """torch.compile wraps what the step calls; weights, their names and the average stay the model's."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda module, **how: lambda x: calls.append(1) or module(x))
    plain, compiled = make(), make(compile=True)
    for one in (plain, compiled):
        step(one)
    assert len(calls) == 1 and compiled.model.state_dict().keys() == plain.model.state_dict().keys()
    assert tiny.same(tensors(compiled), tensors(plain))


EVERY = [("optimizer", name) for name in stepping.OPTIMIZERS] + [("loss", name) for name in losses.LOSSES]


@pytest.mark.parametrize(("setting", "name"), EVERY)
def test_nothing_in_a_step_waits_for_the_device(monkeypatch, setting, name):
    """No tensor becomes a Python number: each such turn would hold a GPU up."""
    stepper = make(**{setting: name})
    step(stepper)
    for turn in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy"):
        monkeypatch.setattr(torch.Tensor, turn, lambda *a, turn=turn: pytest.fail(f"{turn} waits"))
    step(stepper, 1)


# ---- half precision ----


@pytest.mark.parametrize("optimizer", stepping.OPTIMIZERS)
def test_the_scaler_s_own_skips_leave_nothing_behind_and_are_no_fault(optimizer):
    """Gradients scaled by 2**26 overflow: the scaler skips the step and halves, and in the end it steps."""
    stepper = overflowing(optimizer=optimizer)
    before = weights(stepper)
    loss, norm = step(stepper)
    assert loss.isfinite() and norm == 0 and not stepper.is_overflowing()
    assert tiny.same(before, weights(stepper)) and stepper.scaler.get_scale() == 2.0**25
    assert not any(moment.any() for moment in moments(stepper))
    for seed in range(12):
        step(stepper, seed)
    assert not tiny.same(before, weights(stepper)) and stepper.is_finite() and stepper.scaler.get_scale() < 2.0**25
    assert all(moment.isfinite().all() for moment in moments(stepper))


def test_under_fp16_a_loss_that_is_not_finite_is_returned_as_it_is():
    stepper = make(precision="fp16")
    step(stepper)
    before, (x, target) = weights(stepper), batch(1)
    loss, _ = train_step(stepper, x * torch.nan, target, 1e-3)
    assert not loss.isfinite() and tiny.same(before, weights(stepper))


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_learns_as_fp32_does(precision):
    full, half = make(precision="fp32"), make(precision=precision)
    for seed in range(9):
        one, other = (float(step(stepper, seed % 2)[0]) for stepper in (full, half))
    assert abs(one - other) < 0.05 * one, (one, other)


def test_the_scale_is_part_of_the_state():
    stepper, twin = overflowing(), make(precision="fp16")
    step(stepper)
    twin.load(copy.deepcopy(stepper.state()))
    assert twin.scaler.get_scale() == stepper.scaler.get_scale() == 2.0**25


def test_auto_is_what_the_device_can_do_and_unknown_names_list_the_known(monkeypatch):
    assert stepping.pick_precision("auto", CPU) == "fp32" and stepping.pick_precision("bf16", CPU) == "bf16"
    for bf16, chosen in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, bf16=bf16: bf16)
        assert stepping.pick_precision("auto", torch.device("cuda")) == chosen
    for change in ({"loss": "foo"}, {"optimizer": "sgdd"}, {"precision": "fp8"}):
        with pytest.raises(TrainingError, match="choose"):
            make(**change)


# ---- stopped and gone on, cut in the middle ----


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
    assert tiny.same(tensors(one), tensors(twin))
    for seed in (2, 3):
        step(twin, seed)
    assert tiny.same(tensors(straight), tensors(twin)) and twin.steps == 4


def test_an_error_before_the_update_leaves_all_as_it_was(monkeypatch):
    stepper = make()
    step(stepper)
    stepper.interrupted = False  # as the loop does after each whole step
    before = tensors(stepper)
    monkeypatch.setitem(losses.LOSSES, "dice_ce", cut)
    with pytest.raises(KeyboardInterrupt):
        step(stepper, 1)
    assert tiny.same(before, tensors(stepper)) and all(p.grad is None for p in stepper.model.parameters())
    assert not stepper.interrupted and stepper.steps == 1


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_step_that_was_cut_in_the_update_can_be_taken_again_after_loading(precision):
    """An old scaler would say that the gradients were unscaled already."""
    straight, stepper = make(precision=precision), make(precision=precision)
    for one in (straight, stepper):
        step(one)
    kept = copy.deepcopy(stepper.state())
    hook = stepper.optimizer.register_step_pre_hook(cut)
    with pytest.raises(KeyboardInterrupt):
        step(stepper, 1)
    assert stepper.interrupted
    hook.remove()
    stepper.load(kept)
    stepper.interrupted = False  # as whoever loads does, when all is taken over
    for one in (straight, stepper):
        step(one, 1)
    assert tiny.same(tensors(straight), tensors(stepper)) and stepper.steps == 2


@pytest.mark.parametrize(("then", "now", "fused"), [("fp16", "fp32", True), ("fp32", "fp16", False)])
def test_the_kernel_is_of_the_precision_and_not_of_the_checkpoint(then, now, fused):
    """SGD: fused in fp32, not under fp16's scaler, whatever the run began with."""
    one, twin = (make(optimizer="sgd", precision=precision) for precision in (then, now))
    step(one)
    twin.load(copy.deepcopy(one.state()))
    assert [group["fused"] for group in twin.optimizer.param_groups] == [fused]
    step(twin, 1)
    assert twin.steps == 2 and twin.is_finite()


def test_an_average_that_is_not_finite_is_found():
    stepper = make()
    stepper.average.out.bias.data[0] = float("nan")
    assert not stepper.is_finite()
