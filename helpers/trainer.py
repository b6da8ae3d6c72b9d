"""The training loop, and all that a reader does with it: fit, interrupt, change the rate, undo, go on."""

import itertools
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import metrics, predict, preprocess
from .augment import Augment, halve, to_float, to_ids
from .batches import Feed
from .core import choice, distributed
from .core.errors import TrainingError
from .settings import Settings, run_dir
from .training import lr_finder, steering
from .training.history import FULL_SIZE, read_history
from .training.muon import as_matrix, orthogonal
from .training.session import Session
from .training.stepper import Stepper

# Notebooks import from the files at the top of helpers/ alone.
__all__ = ["Trainer", "as_matrix", "orthogonal", "read_history", "run_name", "train_step", "trained_weights"]

TRACE_EVERY = 10  # steps between two points of the loss curve


def run_name(settings: Settings) -> str:
    """The name of a run unless one is given: recipe, scale, and 'synthetic' where the data is."""
    synthetic = choice.source(settings.dataset) == "synthetic"
    return f"{settings.recipe}-{settings.scale}" + ("-synthetic" if synthetic else "")


def trained_weights(settings: Settings) -> Path:
    """The best weights of 04's run, or those that come with the project; where there are none, of one epoch's training.

    That epoch is 04's own: its next fit goes on from there.
    """
    best = run_dir(settings.dataset, run_name(settings)) / "best.pt"
    if not best.exists() and settings.dataset == "helen":
        return predict.PRETRAINED
    if not best.exists():
        print("04_dice_train has finished no epoch, so we train one first: rough results. 04 goes on from there.")
        Trainer(settings, preprocess.open_arrays(settings.dataset, settings.shape)).fit(1)
    return best


def train_step(stepper: Stepper, x: Tensor, target: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One step on f32[B,3,H,W] and int64[B,H,W]: its loss and gradient norm, scalars on the device, not waited for.

    Sets stepper.interrupted when it begins to change weights; the caller clears it when its own counts fit again.
    """
    with stepper.undone_on_error():
        stepper.model.train()
        with stepper.autocast():
            logits = stepper.replica(x)  # forward
        loss = stepper.loss(logits, target)
        stepper.optimizer.zero_grad(set_to_none=True)
        stepper.scaler.scale(loss).backward()
        distributed.all_reduce_mean(stepper.statistics)  # of the norms
    stepper.interrupted = True
    stepper.scaler.unscale_(stepper.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(stepper.model.parameters(), stepper.settings.clip or torch.inf)
    for group in stepper.optimizer.param_groups:
        group["lr"] = rate
    stepper.scaler.step(stepper.optimizer)
    stepper.scaler.update()
    stepper.steps += 1
    stepper.update_average()
    # fp16: an overflow of the scaled gradients is the scaler's own matter, which skips the step and halves the scale
    return loss.detach(), torch.zeros_like(norm) if stepper.scaler.is_enabled() else norm


class ValidationStopped(Exception):
    """A stop was asked for in the middle of validation: nothing is half done, it begins anew at the next fit."""


class Trainer(Session):
    """Trains one network on the arrays of 02; goes on from the run's last checkpoint if there is one.

    `fit(n)` trains to n epochs in all, `start(n)` does so in a background thread. The place in the data is
    (epoch, seen) and every random number a function of it and of the seed, so a run that was stopped anywhere goes
    on exactly as if it had not been. `start`: an export, by path or address, with whose weights a new run begins.
    """

    look_every = 2.0  # seconds between two looks for control.json
    save_every = 600.0  # seconds between two checkpoints within an epoch

    def __init__(
        self,
        settings: Settings,
        arrays: dict[str, preprocess.Arrays],
        run: str | None = None,
        device: torch.device | str | None = None,
        start: Path | str | None = None,
    ):
        run = run or run_name(settings)
        if any(other.running and other.folder == run_dir(settings.dataset, run) for other in steering.SHUTDOWN.running):
            raise TrainingError(
                f"run {run} is training in the background in this kernel: go on with the Trainer that does, "
                "or pause() it first, or give this one another run name"
            )
        super().__init__(settings, arrays, run, torch.device(device or distributed.pick_device()))
        self.feeds = {split: Feed(arrays[split], settings.batch, self.device) for split in ("train", "val")}
        self.augment = Augment(self.dataset.flip_pairs, settings.mean, settings.std, settings.seed, settings.augment)
        self.read_every = 1 if self.device.type == "cpu" else TRACE_EVERY  # steps: reading waits for a GPU
        self.began = (0.0, 0)  # when this part of the epoch began, and at which image
        self._check_same_on_all_ranks()
        self._resume()
        if start is not None:
            self._start_from(start)

    def __repr__(self) -> str:
        return f"Trainer(run={self.run!r}, epoch {self.progress:.2f}, step {self.step}, next rate {self.lr:.1e})"

    # ---- the loop ----

    def fit(self, epochs: int) -> "Trainer":
        """Train until `epochs` are done in all; a first interrupt ends it between two steps, a second one raises."""
        self._begin(epochs)
        with steering.noted_signals() as self.steering.signals:
            try:
                self._train(epochs)
            finally:
                self.background.notify("end")
        return self

    def start(self, epochs: int) -> None:
        """As fit, in a background thread: returns at once, and other cells can run. See pause() and wait()."""
        self._begin(epochs)
        steering.SHUTDOWN.register(self)
        self.background.start(lambda: self._train(epochs), f"train {self.run}")

    def _train(self, epochs: int) -> None:
        """fit's work, in whatever thread."""
        with self._prepared():
            if self.epoch >= epochs:
                done = "1 epoch is" if self.epoch == 1 else f"{self.epoch} epochs are"
                more = self.epoch + 1
                self.log(f"{done} done already; fit({more}) or more goes on (train: --set epochs={more})")
                return
            while self.epoch < self.target_epoch and not self.ended_early and not self._should_stop():
                self._train_epoch()
                if self.seen == len(self.arrays["train"]):
                    self._finish_epoch()
            self._end_or_pause()

    def _train_epoch(self) -> None:
        """The steps that are left of the current epoch, or as many as there are until a stop."""
        self.began = (time.perf_counter(), self.seen)
        batches = self.feeds["train"](self.settings.seed, self.epoch, self.seen)  # less those that were seen
        in_cell = not self.running and distributed.rank() == 0  # there the epoch's line takes the bar's place
        bar = tqdm(batches, f"epoch {self.epoch + 1}", leave=False, mininterval=1, file=sys.stdout, disable=not in_cell)
        for images, labels, numbers in bar:
            with self.gate.step():
                x, target = self._prepare(images, labels, numbers, self.epoch)
                rate = self.lr
                loss, norm = train_step(self.stepper, x, target, rate)
                self.step_log.add(loss, norm, self.step, len(numbers), rate)
                self.seen += len(numbers)
                self.stepper.interrupted = False
            self._between_steps()
            if self._should_stop():
                break

    def _between_steps(self) -> None:
        """Call the watchers, read the loss, look for commands, save: each when it is due."""
        self.background.notify("step")
        if self.step % self.read_every == 0:
            self._read_losses(point=self.step % TRACE_EVERY == 0)
        now = time.monotonic()
        look, save = now - self.steering.looked > self.look_every, now - self.run_folder.saved_at > self.save_every
        if self._follow_commands(look, save):
            self.save()

    def _read_losses(self, point: bool) -> None:
        """Back to the last checkpoint where a loss was not finite; with `point` the speed and a point of the curve."""
        with self.gate.exclusive():
            if fault := self.step_log.read():
                self._go_back(fault)
            if self.stepper.is_overflowing():
                self._go_back(f"fp16: gradients overflow at every scale, by step {self.step} at rate {self.lr:.1e}")
            if not point:
                return
            began, first = self.began
            if self.seen > first:
                self.images_per_second = (self.seen - first) / (time.perf_counter() - began)
            if (loss := self.step_log.take_window()) is not None:
                self.trace.append([self.progress, loss, self.optimizer.param_groups[0]["lr"]])

    def _finish_epoch(self) -> None:
        """Validation, the epoch's row and line, its files; from here on the next epoch is the current one."""
        self._read_losses(point=True)
        try:
            scores = self.validate(self.stepper.network)
        except ValidationStopped:
            return
        began, first = self.began
        if first == 0:
            self.epoch_seconds = (time.perf_counter() - began) * self.full_over_this_size
        row = {
            "epoch": self.epoch + 1,
            "step": self.step,
            "loss": self.step_log.epoch_loss / self.seen,
            "val_loss": scores["loss"],
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_s": self.images_per_second,
        }
        row |= {self.dataset.column(name): value for name, value in scores.items() if name != "loss"} | {"note": ""}
        with self.gate.exclusive():
            self.stepper.interrupted = True
            self.records.rows.append(row)
            self.epoch, self.seen, self.pending_row = self.epoch + 1, 0, row
            self.step_log.epoch_loss = 0.0
            if self.epoch == self.records.half_size_epochs:
                self._note(FULL_SIZE)
            self.stepper.interrupted = False
        self._write_epoch(row)
        self.log(self.records.line(row, self.target_epoch, self.seconds_left))
        if self.epoch == self.records.half_size_epochs:
            self.log("from here on at {}: {} x {}".format(FULL_SIZE, *self.settings.shape))
        self.background.notify("epoch")

    def _prepare(self, images: Tensor, labels: Tensor, numbers: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """uint8[B,H,W,3], uint8[B,H,W] -> f32[B,3,H,W] normalised and int64[B,H,W], changed at random if asked for.

        In the early epochs of half size: halved first.
        """
        images, labels = self.at_size(images, labels, epoch)
        if self.settings.augment:
            own, _ = distributed.shard(numbers)
            return self.augment(images, labels, own, epoch)
        return to_float(images, self.settings.mean, self.settings.std), to_ids(labels)

    @torch.no_grad()
    def validate(self, network: torch.nn.Module | None = None) -> dict[str, float]:
        """The recipe's mean loss ("loss") and metrics.measures from one pooled matrix, both on the validation split.

        At the size of the epoch's training.
        """
        network, classes = network or self.network, len(self.dataset.classes)
        matrix, loss = torch.zeros(classes, classes, dtype=torch.int64), 0.0
        for photos, truth, numbers in self.feeds["val"]():
            images, labels = self.at_size(photos, truth, self.epoch)
            x = to_float(images, self.settings.mean, self.settings.std)
            with self.stepper.autocast():
                logits = network(x)
            loss += self.stepper.loss(logits, to_ids(labels)).item() * len(numbers)
            matrix += metrics.confusion(logits.argmax(1).cpu(), labels.cpu(), classes)
            if self.training_thread is threading.current_thread():
                self._follow_commands(look=False)
                if self._should_stop():
                    raise ValidationStopped
        scores = metrics.measures(distributed.sum_on_cpu(matrix).numpy(), self.dataset)
        return {"loss": loss / len(self.arrays["val"])} | scores

    def _end_or_pause(self) -> None:
        """Say why the loop has ended before its last epoch; after a stop, save and say how to go on."""
        if self.ended_early and not self._should_stop():
            self.log(
                f"no better epoch than {self.best_epoch} for {self.settings.patience} epochs: stopped at {self.epoch}; "
                "settings.replace(patience=0) would go on"
            )
        elif self.epoch < self.target_epoch or self.seen:
            self.save()
            distributed.barrier()  # torchrun ends the rest 30 seconds after the first has left
            how = f"start({self.target_epoch})" if self.running else f"fit({self.target_epoch})"
            self.log(
                f"stopped at epoch {self.progress:.2f} (step {self.step}), saved: {how} goes on from here; "
                f"trainer.lr = {self.lr / 10:.1e} would lower the rate"
            )

    def at_size(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """uint8[B,H,W,3], uint8[B,H,W] as that epoch (from 0) sees them: halved in the early ones."""
        return halve(images, labels) if epoch < self.records.half_size_epochs else (images, labels)

    # ---- beside the training ----

    def find_lr(self, low: float = 1e-6, high: float = 1.0, steps: int = 100) -> lr_finder.RateCurve:
        """Losses of a copy while its rate grows from low to high, and a suggestion; this training is not changed.

        With high = low: what that rate does.
        """
        self._check_idle()

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            for epoch in itertools.count(self.epoch):  # as many as it takes
                for images, labels, numbers in self.feeds["train"](self.settings.seed, epoch):
                    yield self._prepare(images, labels, numbers, epoch)

        with self._explained():
            return lr_finder.run(self.stepper, train_step, batches(), np.geomspace(low, high, steps))
