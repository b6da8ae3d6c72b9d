"""The learning-rate finder: the loss of a copy of the network while its rate grows (Smith 2015, arXiv 1506.01186)."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..core.errors import TrainingError
from .stepper import Stepper

SMOOTH = 0.8  # of the running mean that is kept at each step
FEWEST = 8  # steps from which a curve can be read
TOO_FAR = 3.0  # ends where the loss is so many times its least


@dataclass(frozen=True)
class RateCurve:
    """Rates float64[N], growing; smoothed losses float64[N]; the rate that is suggested as the schedule's peak."""

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float


def run(
    stepper: Stepper,
    train_step: Callable,
    batches: Iterable[tuple[Tensor, Tensor]],
    low: float,
    high: float,
    steps: int,
) -> RateCurve:
    """Train a copy of `stepper` by `train_step` on up to `steps` batches, f32[B,3,H,W] and int64[B,H,W]."""
    if not (0 < low < high and steps >= FEWEST):
        raise TrainingError(
            f"the learning-rate finder goes from a rate above 0 to a higher one in at least {FEWEST} steps, "
            f"got {low}, {high}, {steps}"
        )
    twin = Stepper(stepper.settings, stepper.model.out.out_channels, stepper.device)
    twin.load(copy.deepcopy(stepper.state()))  # an optimizer that loads a state keeps its very tensors
    rates: list[float] = []
    losses: list[float] = []
    mean = 0.0
    for (x, target), rate in zip(batches, np.geomspace(low, high, steps).tolist(), strict=False):
        loss, _ = train_step(twin, x, target, rate)
        value = loss.item()
        if not math.isfinite(value):
            break
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        rates.append(rate)
        losses.append(mean / (1 - SMOOTH ** len(rates)))  # as if the mean had not begun at 0
        if losses[-1] > TOO_FAR * min(losses):
            break
    if len(rates) < FEWEST:
        raise TrainingError(f"the loss diverged after {len(rates)} steps from rate {low:g} on: start at a lower rate")
    return RateCurve(np.array(rates), np.array(losses), suggest(rates, losses))


def suggest(rates: list[float], losses: list[float]) -> float:
    """The rate at which the loss falls fastest, per decade of the rate, before its least.

    Where it is least the rate is already too high: there what it gains and what it spoils cancel out.
    """
    slope = np.gradient(np.array(losses), np.log10(rates))[: max(int(np.argmin(losses)), 1)]
    steepest = rates[int(np.argmin(slope))]
    return round(steepest, 1 - math.floor(math.log10(steepest)))  # two digits: it is known no better
