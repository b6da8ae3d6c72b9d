"""A training's state, and what keeps it safe: its place, its rate, saving, resuming, what is not finite."""

import copy
import math
import threading

import torch

from .. import preprocess, unet
from ..core import hardware
from ..core.errors import CheckpointError, TrainingError
from ..core.registry import load_dataset
from ..settings import Settings
from . import steering
from .background import Background
from .checkpoint import FORMAT, RunFolder
from .faults import StepLog
from .history import History
from .schedule import LearningRate
from .stepper import Stepper

FULL_OVER_HALF = 3.0  # what an epoch of full size takes, in those of half size: 2.5 on two cores, 4 by the pixels


class Run:
    """One run of a training: network and optimizer, the place in the data, history, folder, whoever steers it.

    The place is (epoch, seen) and every random number a function of it and of the seed, so the state holds no random
    generator. What one step or epoch changes is changed within `gate`, so that a cell never sees half of it.
    """

    def __init__(self, settings: Settings, arrays: dict[str, preprocess.Arrays], run: str, device: torch.device):
        self.settings, self.arrays, self.run, self.device = settings, arrays, run, device
        self.dataset = load_dataset(settings.dataset)
        self.run_folder = RunFolder(settings.dataset, run)
        self.folder = self.run_folder.path  # runs/<dataset>/<run>/
        self.rate = LearningRate(settings)
        self.stepper = Stepper(settings, len(self.dataset.classes), device)
        self.model, self.average = self.stepper.model, self.stepper.average
        self.optimizer = self.stepper.optimizer  # every step sets its rate by the schedule: set trainer.lr instead
        self.records = History(self.dataset, settings)
        self.trace: list[list[float]] = []  # [epoch as a fraction, mean loss, rate] every few steps
        self.step_log = StepLog()
        self.epoch, self.seen = 0, 0  # whole epochs, images of the current one
        self.best = -2.0  # the best monitored score so far
        self.pending_row: dict | None = None  # the row of an epoch whose files could not be written
        self.target_epoch = 0  # epochs in all, of the fit that runs
        self.images_per_second = math.nan  # lately
        self.epoch_seconds = math.nan  # what an epoch at full size takes, validation included
        self.gate = steering.Gate()
        self.background = Background()
        self.watchers = self.background.watchers  # called with "step", "epoch", "note", "log" or "end"
        self.log_lines = self.background.lines  # what the background training has logged
        self.training_thread: threading.Thread | None = None  # in which the loop runs, if it does
        # not self.log: a Trainer in a circle of references would keep its GPU memory until Python looks for circles
        self.steering = steering.Steering(self.folder / "control.json", self.background.log)

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self.stepper.steps

    @property
    def progress(self) -> float:
        """Epochs done, the current one as a fraction."""
        return self.epoch + self.seen / len(self.arrays["train"])

    @property
    def history(self) -> list[dict]:
        """A row an epoch and one for each change by hand, as far as they go now."""
        return list(self.records.rows)

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation score; 0 before the first."""
        return self.records.best_epoch

    @property
    def ended_early(self) -> bool:
        """Whether training ends before its last epoch, by settings.patience."""
        return self.records.ends_early(self.epoch)

    @property
    def seconds_left(self) -> float:
        """Until the fit that runs ends, by what the last epoch took; NaN before anything was measured."""
        left = max(self.target_epoch - self.progress, 0)
        early = max(min(self.records.half_size_epochs, self.target_epoch) - self.progress, 0)
        seconds = self.epoch_seconds
        if math.isnan(seconds):  # in the first epoch: by its steps
            seconds = len(self.arrays["train"]) / self.images_per_second * self.full_over_this_size
        return (left - early + early / FULL_OVER_HALF) * seconds

    @property
    def full_over_this_size(self) -> float:
        """What an epoch at full size takes, in epochs of the current size."""
        return FULL_OVER_HALF if self.epoch < self.records.half_size_epochs else 1.0

    @property
    def network(self) -> unet.UNet:
        """A copy of the network to use, of one step's weights: the average if the recipe averages, else the model's."""
        with self.gate.exclusive():
            if fault := self._bad_weights():
                raise TrainingError(f"{fault}: fit goes back to the last checkpoint first")
            return copy.deepcopy(self.stepper.average or self.stepper.model).eval().requires_grad_(False)

    # ---- the learning rate ----

    @property
    def lr(self) -> float:
        """The rate of the next step: the schedule at this place, times what the reader made of it."""
        return self.rate.at(self.progress)

    @lr.setter
    def lr(self, rate: float) -> None:
        """Make the current rate exactly `rate` and scale the rest of the schedule; kept in the history.

        The state before the change is saved, so that undo() comes back to it.
        """
        rate = steering.check_rate(rate)
        if self.stepper.interrupted and self.training_thread is None:
            self._resume()  # else the next fit would do so, and forget this
        with self.gate.exclusive():
            if self.step not in (self.run_folder.saved_step, 0):
                self._try_to_save()
            self.rate.set(rate, self.progress)
            self._note(f"lr {rate:.2g}")
            if self.training_thread is None and self.run_folder.saved_step >= 0:
                self._try_to_save()  # the kernel may die before the next fit
        self.background.notify("note")

    # ---- messages ----

    def log(self, line: str) -> None:
        """Print a line, or keep it for the panel and wait() where the training runs in a thread."""
        self.background.log(line)

    def _note(self, text: str) -> None:
        """A row of the history for a change at this place."""
        self.records.note(text, self.progress, self.step, self.lr)

    # ---- save, resume ----

    def save(self, best: bool = False) -> None:
        """Write last.pt (the one before becomes previous.pt) and history.csv; never what is not finite.

        best: keep it as best_state.pt too. CheckpointError if the disk is full: all earlier files are as they were.
        """
        with self.gate.exclusive():
            self._check_good()
            self.run_folder.save(self._state(), self.records.to_csv(), best)

    def _try_to_save(self) -> None:
        """Save; a full disk is reported and changes nothing. Not over a checkpoint that another Trainer has written."""
        if self.training_thread is None and self.run_folder.was_trained_elsewhere():
            return
        if self.training_thread is not None and self._fault():
            return  # the loop finds it next: whoever went back here would leave it at the old place in the data
        try:
            self.save()
        except CheckpointError as error:
            self.log(str(error))

    def _state(self) -> dict:
        """All that a run is, as tensors and plain values."""
        return {
            "format": FORMAT,
            "settings": self.settings.asdict(),
            "classes": list(self.dataset.classes),
            "versions": hardware.versions(),
            "data": self._data(),
            "epoch": self.epoch,
            "seen": self.seen,
            "lr_scale": self.rate.lr_scale,
            "history": self.records.rows,
            "trace": self.trace,
            "best": self.best,
            "half_size_epochs": self.records.half_size_epochs,
            **self.step_log.state(),
            **self.stepper.state(),
        }

    def _data(self) -> dict[str, list]:
        """Number of images and checksum of the training and validation arrays."""
        return {split: [len(self.arrays[split]), self.arrays[split].content] for split in ("train", "val")}

    def _resume(self) -> None:
        """Go on from the run's newest readable checkpoint, if it has one."""
        found = self.run_folder.latest()
        if found is None:
            return
        state, line = found
        self._restore(state)
        self.run_folder.took_over()
        self.log(f"run {self.run}: {line}, epoch {self.progress:.2f} (step {self.step})")
        self._log_changes(state["settings"])

    def _restore(self, state: dict) -> None:
        """Take over a checkpoint's state; CheckpointError if it is another network's, or made on other data."""
        self.run_folder.check_fits(state, self.settings.asdict(), list(self.dataset.classes), self._data())
        with self.gate.exclusive():
            self.stepper.interrupted = True  # until all of it is taken over
            try:
                self.stepper.load(state)
            except (KeyError, ValueError, RuntimeError) as error:
                raise CheckpointError(
                    f"run {self.run}: the checkpoint does not fit the network as its code is now ({error!r:.200}): "
                    "give the run another name"
                ) from error
            self.step_log.load(state)
            self.epoch, self.seen, self.run_folder.saved_step = state["epoch"], state["seen"], state["step"]
            self.rate.lr_scale = state["lr_scale"]
            self.records.rows, self.trace = state["history"], state["trace"]
            half, fraction = state["half_size_epochs"], state["settings"]["half_size_fraction"]
            if self.epoch >= half and self.settings.half_size_fraction == fraction:
                self.records.half_size_epochs = half  # full size stays, whatever became of the number of epochs
            self.best = max(self.best, state["best"])  # best.pt holds the best, whatever was undone since
            self.stepper.interrupted, self.pending_row = False, None

    def _log_changes(self, before: dict) -> None:
        """Report and keep in the history which settings differ from those that the run had until now."""
        now = self.settings.asdict()
        changed = [f"{k} {before[k]} -> {now[k]}" for k in now if k in before and k != "recipe" and before[k] != now[k]]
        self.rate.adapt(before, self.progress)
        if changed:
            self.log(f"goes on with other settings: {', '.join(changed)}; rate of the next step {self.lr:.1e}")
            self._note(", ".join(changed))

    # ---- what is not finite ----

    def _bad_weights(self) -> str:
        """The message for weights that are not finite; "" if all are."""
        finite = self.stepper.is_finite()
        return "" if finite else f"weights are not finite, by step {self.step} at rate {self.lr:.1e}"

    def _fault(self) -> str:
        """What is not finite in the steps so far or in the weights; "" if all is well."""
        return self.step_log.read() or self._bad_weights()

    def _check_good(self) -> None:
        """Before anything is written: not a step cut in two, and only finite weights; else back to the last checkpoint.

        CheckpointError in another thread than the training's, which goes back by itself.
        """
        if self.stepper.interrupted:
            raise CheckpointError("not saved: the last step was cut in two; fit goes back to the last checkpoint first")
        fault = self._fault()
        if fault and self.training_thread not in (None, threading.current_thread()):
            raise CheckpointError(f"not saved: {fault}; the training that runs will find it and stop")
        if fault:
            self._go_back(fault)

    def _go_back(self, fault: str) -> None:
        """To the last checkpoint; always raises TrainingError, which says where training is now and what to do.

        A rate that was lowered since stays lowered, or the same rate would be tried for ever.
        """
        lowered = self.rate.lr_scale
        self._resume()
        if lowered < self.rate.lr_scale:
            self.rate.lr_scale = lowered
            self._note(f"lr {self.lr:.2g}")
        raise TrainingError(
            f"{fault}: training is back at the last checkpoint, epoch {self.progress:.2f}, step "
            f"{self.step}. Set the rate lower, for example trainer.lr = {self.lr / 10:.1e}, and go on with fit"
        )
