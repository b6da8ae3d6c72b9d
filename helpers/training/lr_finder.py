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
    stepper: Stepper, train_step: Callable, batches: Iterable[tuple[Tensor, Tensor]], rates: np.ndarray
) -> RateCurve:
    """Train a copy of `stepper` by `train_step`, a batch f32[B,3,H,W], int64[B,H,W] at each of the rates.

    They grow, or are all the same: then nothing is suggested, and the losses show what that rate does.
    """
    twin = Stepper(stepper.settings, stepper.model.out.out_channels, stepper.device)
    twin.load(copy.deepcopy(stepper.state()))  # an optimizer that loads a state keeps its very tensors
    losses: list[float] = []
    mean = 0.0
    for (x, target), rate in zip(batches, rates.tolist(), strict=False):
        loss, _ = train_step(twin, x, target, rate)
        value = loss.item()
        if not math.isfinite(value):
            break
        mean = SMOOTH * mean + (1 - SMOOTH) * value
        losses.append(mean / (1 - SMOOTH ** (len(losses) + 1)))  # as if the mean had not begun at 0
        if losses[-1] > TOO_FAR * min(losses):
            break
    constant, rates = rates[0] == rates[-1], rates[: len(losses)]
    if constant:
        return RateCurve(rates, np.array(losses), float(rates[0]))
    if len(losses) < FEWEST:
        raise TrainingError(
            f"the loss diverged, or the steps ended, after {len(losses)} of the {FEWEST} steps that are needed: start "
            "at a lower rate, or take more steps"
        )
    return RateCurve(rates, np.array(losses), suggest(rates, np.array(losses)))


def suggest(rates: np.ndarray, losses: np.ndarray) -> float:
    """The rate at which the loss falls fastest, per decade of the rate, before its least.

    Where it is least the rate is already too high: there what it gains and what it spoils cancel out.
    """
    slope = np.gradient(losses, np.log10(rates))[: max(losses.argmin(), 1)]
    steepest = float(rates[slope.argmin()])
    return round(steepest, 1 - math.floor(math.log10(steepest)))  # two digits: it is known no better
