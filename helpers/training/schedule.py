"""The learning rate: a pure function of the training's progress, times what the reader has made of it."""

import math

from ..core.errors import TrainingError
from ..settings import Settings


def schedule_factor(schedule: str, t: float) -> float:
    """Progress t in [0,1] -> factor in (0,1] of the peak rate.

    onecycle: linear from 1/10 to 1 over the first 15 %, then a cosine down to 1/100.
    steps: 1, from one half 1/10, from three quarters 1/100 (the original report's cuts by hand). constant: 1.
    Beyond t = 1, which is epoch `settings.epochs`, each goes on at its last value.
    """
    t = min(max(t, 0.0), 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "steps":
        return 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01
    if schedule != "onecycle":
        raise TrainingError(f"no schedule called {schedule!r}: choose onecycle, steps or constant")
    if t < 0.15:
        return 0.1 + 0.9 * t / 0.15
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (t - 0.15) / 0.85)) / 2


class LearningRate:
    """The scheduled rate times `lr_scale`, which changes when the reader sets a rate."""

    def __init__(self, settings: Settings):
        schedule_factor(settings.schedule, 0)  # an unknown name is an error now, not after an hour
        self.settings, self.lr_scale = settings, 1.0

    def at(self, epoch: float) -> float:
        """The rate at that many epochs (a fraction within one)."""
        return self.settings.lr * self.lr_scale * schedule_factor(self.settings.schedule, epoch / self.settings.epochs)

    def set(self, rate: float, epoch: float) -> None:
        """Make the rate at this place exactly `rate` and scale the rest of the schedule with it."""
        self.lr_scale *= rate / self.at(epoch)

    def adapt(self, before: dict, epoch: float) -> None:
        """After a resume with edited settings; `before` holds the settings that the run had until now.

        An edited peak rate counts as it stands. Otherwise a rate that was set by hand stays what it is when the
        schedule or the number of epochs changes.
        """
        now = self.settings
        if before["lr"] != now.lr:
            self.lr_scale = 1.0
        elif self.lr_scale != 1.0:
            was = schedule_factor(before["schedule"], epoch / before["epochs"])
            self.lr_scale *= was / schedule_factor(now.schedule, epoch / now.epochs)
