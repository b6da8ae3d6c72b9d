"""One step: masked where its loss is not finite, scaled under fp16, nothing shared with a copy."""

import copy

import pytest
import tiny
import torch

from helpers import losses, stepping
from helpers.errors import TrainingError

CPU = torch.device("cpu")


def make(**changes):
    return stepping.Stepper(tiny.settings(**changes), 11, CPU)


def batch(seed=0):
    own = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 32, 32, generator=own), torch.randint(0, 11, (2, 32, 32), generator=own)


def step(stepper, seed=0, rate=1e-3):
    stepper.update(stepper.backward(*batch(seed)), rate, 2)


def tensors(stepper):
    """Every tensor that a step could change: weights, statistics, average, moments, step counts."""
    state = stepper.state()
    found = list(state["model"].values()) + list((state["average"] or {}).values())
    return [t.clone() for t in found] + [t.clone() for s in state["optimizer"]["state"].values() for t in s.values()]


def same(one, other):
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_fused_steps_equal_the_plain_optimizer_s(optimizer):
    """The oracle: torch's own for-loop form, on the same gradients."""
    stepper = make(optimizer=optimizer, average=0.0, clip=1e9)
    twin = copy.deepcopy(stepper.model)
    kind = stepping.OPTIMIZERS[optimizer]
    plain = kind(twin.parameters(), lr=1e-3, weight_decay=stepper.settings.weight_decay, foreach=False)
    for seed in range(3):
        loss = stepper.backward(*batch(seed))
        for mine, theirs in zip(stepper.model.parameters(), twin.parameters(), strict=True):
            theirs.grad = mine.grad.clone()
        stepper.update(loss, 1e-3, 2)
        plain.step()
        for mine, theirs in zip(stepper.model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("where", ["loss", "gradient", "input"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_nothing(where, value):
    """Not weights, moments or step counts, and not batch norm's statistics, which the forward pass moves."""
    stepper = make()
    step(stepper)
    before = [p.clone() for p in stepper.model.parameters()]
    norms = [b.clone() for b in stepper.moving]
    x, target = batch(1)
    if where == "input":
        x[0, 0, 0, 0] = value
    loss = stepper.backward(x, target)
    if where == "gradient":
        stepper.model.out.bias.grad[0] = value
    stepper.update(loss * value if where == "loss" else loss, 1e-3, 2)
    assert same(norms, stepper.moving)
    assert same(before, list(stepper.model.parameters()))
    moments = [t for s in stepper.optimizer.state.values() for t in s.values()]
    assert all(t.isfinite().all() for t in moments) and {int(s["step"]) for s in stepper.optimizer.state.values()} == {
        1
    }
    assert stepper.is_finite() and stepper.read_bad() == 2


def test_the_first_bad_step_is_kept_and_its_loss_not_summed():
    stepper = make()
    good = float(stepper.update(stepper.backward(*batch(0)), 1e-3, 2))
    for _ in range(2):
        stepper.update(stepper.backward(*batch(1)) * float("nan"), 1e-3, 2)
    assert stepper.read() == (pytest.approx(good), 2)
    assert stepper.read()[0] == 0.0


def test_nothing_in_a_step_waits_for_the_device(monkeypatch):
    """No tensor becomes a Python number: each such turn would hold a GPU up."""
    stepper = make()
    step(stepper)
    for name in ("item", "tolist", "__bool__", "__float__", "__int__", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, lambda *a, name=name: pytest.fail(f"{name} waits"))
    stepper.update(stepper.backward(*batch(1)), 1e-3, 2)


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


def test_a_state_taken_over_goes_on_to_the_bit():
    straight, one = make(), make()
    for seed in range(4):
        step(straight, seed)
    for seed in range(2):
        step(one, seed)
    twin = make(seed=5)
    twin.load(copy.deepcopy(one.state()))
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


@pytest.mark.parametrize(
    ("error", "yes"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, yes):
    assert stepping.is_out_of_memory(error) is yes
