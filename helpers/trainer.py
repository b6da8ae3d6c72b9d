"""Trainer: fit, interrupt, learning rate, history, validation, checkpoints."""

import contextlib
import copy
import csv
import gc
import io
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import filelock
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import batches as feed
from . import metrics, preprocess, unet
from .augment import Augment, halve, to_float, to_ids
from .core import choice, distributed, env, files, hardware
from .core.errors import CheckpointError, TrainingError
from .core.registry import load_dataset
from .settings import Settings
from .training import checkpoint, lr_finder, steering, stepper

# A checkpoint goes on with no other network, optimizer or order of the data; all else may be changed on the way.
FIXED = ("dataset", "size", "columns", "width", "depth", "norm", "slope", "up", "mean", "std", "optimizer", "seed")
CHECK = 10  # steps between two readings of the loss from the device
SAVE_EVERY = 600  # seconds between two checkpoints within an epoch
LOOK_EVERY = 2  # seconds between two looks for control.json
FORMAT = 2  # of the checkpoint
WHOLE = "whole photos"  # the history's note where the early epochs of half size end
STOPS = ("", "epoch", "step")  # what a training may be told, the sooner the later here


def schedule_factor(schedule: str, t: float) -> float:
    """The schedule as a pure function: progress t in [0,1] -> factor in (0,1] of the peak rate.

    onecycle: linear from 1/10 to 1 over the first 15 %, then a cosine down to 1/100.
    steps: 1, from one half 1/10, from three quarters 1/100 (the write-up's cuts by hand). constant: 1.
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


def run_name(settings: Settings) -> str:
    """The name of a run unless one is given: recipe, scale, and 'synthetic' where the data is drawn."""
    drawn = choice.source(settings.dataset) == "synthetic"
    return f"{settings.recipe}-{settings.scale}" + ("-synthetic" if drawn else "")


class _StoppedError(Exception):
    """A stop was asked for in the middle of validation: nothing is half done, it is begun anew at the next fit."""


class Trainer:
    """Trains one network on the arrays of 02; goes on from the run's last checkpoint if there is one.

    `fit(n)` trains to n epochs in all, `start(n)` does so in a background thread. The place in the data is
    (epoch, seen) and every random number a function of it and of the seed, so a run that was stopped anywhere goes
    on exactly as if it had not been.
    """

    def __init__(
        self,
        settings: Settings,
        arrays: dict[str, preprocess.Arrays],
        run: str | None = None,
        device: torch.device | str | None = None,
    ):
        self.settings, self.arrays = settings, arrays
        self.dataset = load_dataset(settings.dataset)
        self.run = run or run_name(settings)
        self.folder = env.run_dir(settings.dataset, self.run)
        self.device = torch.device(device or distributed.pick_device())
        self.feeds = {split: feed.Feed(arrays[split], settings.batch, self.device) for split in ("train", "val")}
        schedule_factor(settings.schedule, 0)  # an unknown name is told before training
        self.stepper = stepper.Stepper(settings, len(self.dataset.classes), self.device)
        self.augment = Augment(self.dataset.flip_pairs, settings.mean, settings.std, settings.seed, settings.augment)
        self.epoch, self.seen = 0, 0  # whole epochs, images of the current one
        self.loss_sum = torch.zeros((), device=self.device)  # over the images seen in this epoch
        self.lr_scale = 1.0  # what the reader's changes have made of the schedule
        self.rows: list[dict] = []  # the history
        self.trace: list[list[float]] = []  # [epoch as a fraction, mean loss, rate] every few steps
        self.window = 0  # images since the loss was last read
        self.best = -2.0  # the best merit so far
        self.saved = -1  # the step of the newest checkpoint
        self.stamp: tuple | None = None  # last.pt as this Trainer last read or wrote it
        self.halved = int(settings.half_size_fraction * settings.epochs)  # epochs, the first, at half size
        self._init_steering()
        self._check_mates()
        self._resume()

    def _init_steering(self) -> None:
        """What reaches a running training: all of it may be set from another thread."""
        self.target_epoch = 0  # epochs in all, of the fit that runs
        self.stop = ""  # "step" or "epoch": after which to stop
        self.gate = steering.Gate()
        self.control_file = steering.ControlFile(self.folder / "control.json")
        self.signals: steering.Signals | None = None
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None  # of the thread, until wait() raises it
        self.log_lines: list[str] = []  # what a training in the background had to say
        self.printed = 0  # how many of them wait() has printed
        self.watchers: list[Callable[[str], None]] = []  # called with "step", "epoch", "log" or "end"
        self.step_interrupted = False  # whether an error or a second interrupt has cut a step in two
        self.pending_row: dict | None = None  # the row of an epoch whose files could not be written
        self.training_thread: threading.Thread | None = None  # the thread in which fit's loop runs, if it does
        self.images_per_second = math.nan  # images a second, lately
        self.clock = (0.0, 0.0)  # when that was last measured, and at what progress
        self.rates: list[float] = []  # of the steps since the loss was last read
        self.looked = self.saved_at = time.monotonic()  # for control.json; a checkpoint was written

    def __repr__(self) -> str:
        return f"Trainer(run={self.run!r}, epoch {self.progress:.2f}, step {self.step}, next rate {self.lr:.1e})"

    @property
    def model(self) -> unet.UNet:
        """The network that is trained."""
        return self.stepper.model

    @property
    def average(self) -> unet.UNet | None:
        """The running average of its weights, if the recipe has one."""
        return self.stepper.average

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its optimizer; set the rate by `trainer.lr`, since every step writes the schedule's into the optimizer."""
        return self.stepper.optimizer

    @property
    def step(self) -> int:
        """Optimizer steps so far."""
        return self.stepper.steps

    @property
    def history(self) -> list[dict]:
        """A row an epoch and one for each change by hand, as far as they go now."""
        return list(self.rows)

    @property
    def progress(self) -> float:
        """Epochs done, the current one as a fraction."""
        return self.epoch + self.seen / len(self.arrays["train"])

    @property
    def network(self) -> unet.UNet:
        """A copy of the network to use, of one step's weights: the average if the recipe averages, else the model's."""
        with self.gate.exclusive():
            return copy.deepcopy(self.stepper.average or self.stepper.model).eval().requires_grad_(False)

    # --- the learning rate ---------------------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """The rate of the next step: the schedule at this place, times what the reader made of it."""
        return (
            self.settings.lr
            * self.lr_scale
            * schedule_factor(self.settings.schedule, self.progress / self.settings.epochs)
        )

    @lr.setter
    def lr(self, rate: float) -> None:
        """Make the current rate exactly `rate` and scale the rest of the schedule; kept in the history.

        The state before the change is saved, so that undo() comes back to it.
        """
        rate = steering.check_rate(rate)
        if self.step_interrupted and self.training_thread is None:
            self._resume()  # else the next fit would do so, and forget this
        with self.gate.exclusive():
            if self.step not in (self.saved, 0):
                self._try_to_save()
            self.lr_scale *= rate / self.lr
            self._note(f"lr {rate:.2g}")
            if self.training_thread is None and self.saved >= 0:
                self._try_to_save()  # the kernel may die before the next fit
        self._notify("note")

    def find_lr(self, low: float = 1e-6, high: float = 1.0, steps: int = 100) -> lr_finder.RateCurve:
        """Losses of a copy while its rate grows from low to high, and a suggestion; nothing of this training moves."""
        self._check_idle()
        self._check_alone("find_lr")

        def batches() -> Iterator[tuple[Tensor, Tensor]]:
            epoch = self.epoch
            while True:  # as many epochs as it takes
                for images, labels, numbers in self._batches(epoch):
                    yield self._prepare(images.to(self.device), labels.to(self.device), numbers, epoch)
                epoch += 1

        try:
            return lr_finder.run(self.stepper, batches(), low, high, steps)
        except (RuntimeError, MemoryError) as error:
            self._raise_if_out_of_memory(error)
            raise

    # --- fit, start, pause, wait ---------------------------------------------------------------------------------

    def fit(self, epochs: int) -> "Trainer":
        """Train until `epochs` are done in all; a first interrupt ends it between two steps, a second one raises."""
        self._begin(epochs)
        with steering.Signals(ignore_repeat=distributed.world_size() > 1) as signals:
            self.signals = signals
            try:
                self._train(epochs)
            finally:
                self.signals = None
                self._notify("end")
        return self

    def start(self, epochs: int) -> None:
        """As fit, in a background thread: returns at once, and other cells can run. See pause() and wait()."""
        self._check_alone("start")
        self._begin(epochs)
        self.thread = threading.Thread(target=self._run_thread, args=(epochs,), name=f"train {self.run}", daemon=True)
        steering.SHUTDOWN.register(self)
        self.thread.start()

    def _begin(self, epochs: int) -> None:
        """Before a training, in the caller's thread: a pause that comes at once must find its flag untouched."""
        self._check_idle()
        self.target_epoch, self.stop, self.log_lines, self.printed, self.error = epochs, "", [], 0, None

    def _run_thread(self, epochs: int) -> None:
        """The thread: an error is kept for wait() and told to the watchers."""
        try:
            self._train(epochs)
        except Exception as error:  # whatever it is: nobody else would ever see it
            self.error = error
            self._log(f"{type(error).__name__}: {error}")
        finally:
            self.thread = None
            self._notify("end")

    @property
    def running(self) -> bool:
        """Whether a background thread trains."""
        thread = self.thread
        return thread is not None and thread.is_alive()

    def pause(self, timeout: float | None = None) -> None:
        """Stop the background training after its current step, saved, and wait for that; nothing if none runs."""
        thread = self.thread
        self.stop = "step" if thread is not None else self.stop
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def stop_after_epoch(self) -> None:
        """Stop the training that runs when its current epoch is whole; nothing if none runs."""
        self.stop = "epoch" if self.training_thread is not None else self.stop

    def wait(self) -> "Trainer":
        """Wait for the background training and print what it says; an interrupt pauses it. Raises its exception."""
        thread = self.thread
        with steering.Signals() as signals:
            while thread is not None and thread.is_alive():
                thread.join(0.1)
                self._print_lines()
                if signals.asked:
                    self.stop = "step"
        self._print_lines()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self

    def _print_lines(self) -> None:
        """Print what the thread has said since this was last called."""
        while self.printed < len(self.log_lines):
            print(self.log_lines[self.printed])
            self.printed += 1

    def _check_idle(self) -> None:
        """TrainingError if this Trainer trains already, in the background or in another thread."""
        if self.running or self.training_thread not in (None, threading.current_thread()):
            raise TrainingError(
                f"run {self.run} is training in the background: press Pause or call trainer.pause() first, "
                "or wait for its end by trainer.wait()"
            )

    @staticmethod
    def _check_alone(what: str) -> None:
        """TrainingError if several processes train together, for what is one reader's in one kernel."""
        if distributed.world_size() > 1:
            raise TrainingError(f"{what} is for one process: call it without torchrun")

    def _check_mates(self) -> None:
        """TrainingError in all processes if another than the first has other settings or data."""
        mine = self.settings.asdict(), self._data()
        (differ,) = distributed.all_reduce_max(mine != distributed.broadcast(mine))
        if differ:
            raise TrainingError("the processes of this training have other settings or data on one of the hosts: give "
                                "each the same command, and prepare the same data there")  # fmt: skip

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Only one training at a time writes into a run's folder, whatever kernel it runs in.

        Of several processes that train together rank 0 alone writes.
        """
        if distributed.rank() > 0:
            yield
            return
        with checkpoint.explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise TrainingError(
                f"run {self.run} is being trained elsewhere (another Trainer, or another notebook or terminal): "
                "pause it there, or give this one another name, Trainer(..., run='...')"
            ) from None
        except (OSError, NotImplementedError):
            yield  # a folder on Drive or a network that knows no locks: better without than not at all
            return
        try:
            for half in self.folder.glob("*.tmp"):  # of a save that was killed; nobody else writes here now
                half.unlink()
            yield
        finally:
            lock.release()

    def _train(self, epochs: int) -> None:
        """fit's work, in whatever thread."""
        with self._alone():
            self._recover()
            if self.epoch >= epochs:
                done = "1 epoch is" if self.epoch == 1 else f"{self.epoch} epochs are"
                self._log(f"{done} done already; fit({self.epoch + 1}) or more goes on "
                          f"(helpers.train: --set epochs={self.epoch + 1})")  # fmt: skip
                return
            self.training_thread, self.saved_at = threading.current_thread(), time.monotonic()
            try:
                while self.epoch < self.target_epoch and not self._asked() and not self.ended_early:
                    self._steer()
                    if not self._asked():
                        self._run_epoch()
                if self.ended_early and not self._asked():
                    self._log(f"no better epoch than {self.best_epoch} for {self.settings.patience} epochs: stopped at "
                              f"{self.epoch}; settings.replace(patience=0) would go on")  # fmt: skip
                elif self.epoch < self.target_epoch or self.seen:
                    self._pause_here()
            except RuntimeError as error:
                self._raise_if_left_alone(error)
                raise
            finally:
                self.training_thread, self.stop = None, ""

    def _raise_if_left_alone(self, error: RuntimeError) -> None:
        """Where another of several processes has died, in whatever step: rank 0 saves; raises TrainingError.

        Not on a card, where the step that waits for the dead one would have to end first.
        """
        if not distributed.is_peer_lost(error):
            return
        if distributed.rank() == 0 and self.device.type == "cpu" and not self.step_interrupted:
            self.save()
            # at once: torchrun's SIGTERM, which is on its way, may come before the error is printed
            self._log(f"another process has ended; saved at step {self.saved}")
        raise TrainingError(distributed.peer_lost_message(error, f"Saved at step {self.saved}")) from error

    @property
    def best_epoch(self) -> int:
        """The epoch with the best validation score of the history as it is; 0 before the first."""
        rows = [row for row in self.rows if not row["note"]]
        return int(max(rows, key=self._monitored_score)["epoch"]) if rows else 0

    @property
    def ended_early(self) -> bool:
        """Whether training ends before its last epoch: no better epoch for as many as settings.patience says."""
        patience = self.settings.patience
        return patience > 0 and self.epoch - self.best_epoch >= patience and self.epoch > self.halved

    def _recover(self) -> None:
        """Before training: mend what an earlier cut or a full disk has left; see that there is a checkpoint."""
        moved, torn = distributed.all_reduce_max(self._look_at_last() not in (self.stamp, None), self.step_interrupted)
        if moved:
            self._log(f"run {self.run} was trained elsewhere since this Trainer last saw it")
        if (torn or moved) and not self._resume():
            raise TrainingError("the last fit was cut in the middle of its first step: make a new Trainer")
        if self.pending_row is not None:
            self._write_epoch(self.pending_row)
        if self.saved < 0:
            self.save()  # so that there is always a good state to go back to

    def _look_at_last(self) -> tuple | None:
        """What tells one last.pt from another; None if there is none, or another process's."""
        if distributed.rank() > 0:
            return None
        try:
            stat = (self.folder / "last.pt").stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def _pause_here(self) -> None:
        """After an interrupt, a signal or a request: save, and say how to go on."""
        self.save()
        distributed.barrier()  # torchrun ends the rest 30 seconds after the first has left
        how = f"start({self.target_epoch})" if self.running else f"fit({self.target_epoch})"
        self._log(f"stopped at epoch {self.progress:.2f} (step {self.step}), saved: {how} goes on from here; "
                  f"trainer.lr = {self.lr / 10:.1e} would lower the rate")  # fmt: skip

    def _asked(self) -> bool:
        """Whether to stop after this step."""
        epoch_over = self.stop == "epoch" and self.seen == 0
        signal = (
            self.signals and self.signals.asked and distributed.world_size() == 1
        )  # several: as _steer_together agreed
        return self.stop == "step" or epoch_over or bool(signal)

    def _steer(self) -> None:
        """Obey control.json, if there is one."""
        if distributed.world_size() > 1:
            self._steer_together(True, False)
            return
        orders = self._read_orders()
        if "lr" in orders:
            self.lr = orders["lr"]
        self.stop = orders.get("stop", self.stop)

    def _read_orders(self) -> dict:
        """What control.json says, printed."""
        self.looked = time.monotonic()
        orders, report = self.control_file.read()
        if report:
            self._log(report)
        if orders:
            told = ", ".join(f"{key} {value}" for key, value in orders.items())
            self._log(f"control.json: {told}")
        return orders

    def _steer_together(self, look: bool, save: bool) -> bool:
        """_steer for several processes, so that all do the same after the same step; returns whether to save.

        Rank 0 reads control.json; a signal may have reached any of them.
        """
        orders = self._read_orders() if look and distributed.rank() == 0 else {}
        stop = "step" if self.signals and self.signals.asked else orders.get("stop", self.stop)
        rate, stop, save = distributed.all_reduce_max(orders.get("lr", 0.0), STOPS.index(stop), save)
        if rate:
            self.lr = rate
        self.stop = STOPS[int(stop)]
        return bool(save)

    def _log(self, line: str) -> None:
        """Print in a cell; in a thread, where a print is lost, keep the line for the panel and for wait()."""
        if distributed.rank() > 0:
            return
        if threading.current_thread() is self.thread:
            self.log_lines.append(line)
        else:
            print(line, flush=True)
        self._notify("log")

    def _notify(self, event: str) -> None:
        """Call the watchers; one that fails is dropped, since a picture must not cost a training."""
        for watcher in list(self.watchers):
            try:
                watcher(event)
            except Exception as error:  # a fault in drawing, whatever it is
                self.watchers = [other for other in self.watchers if other is not watcher]
                self._log(f"the panel is left behind ({type(error).__name__}: {error}); training goes on")

    # --- an epoch, a step ----------------------------------------------------------------------------------------

    def _batches(self, epoch: int, seen: int = 0) -> Iterable:
        """The training batches of an epoch, less those that were seen."""
        return self.feeds["train"](self.settings.seed, epoch, seen)

    def _run_epoch(self) -> None:
        """The rest of the current epoch; at its end validation, a history row, a checkpoint and a line."""
        self._note_whole()
        began, first = time.perf_counter(), self.seen
        self.clock = (began, self.progress)
        batches = self._batches(self.epoch, self.seen)
        # on stdout, where the epoch's line takes its place; stderr would keep an empty one
        if not self.running and distributed.rank() == 0:
            batches = tqdm(batches, f"epoch {self.epoch + 1}", leave=False, mininterval=1, file=sys.stdout)
        for images, labels, numbers in batches:
            self._step(images, labels, numbers)
            self._after_step()
            if self._asked():
                break
        if self.seen < len(self.arrays["train"]):
            return
        self._read_loss()
        if self.seen > first:
            self.images_per_second = (self.seen - first) / (time.perf_counter() - began)
        try:
            scores = self.validate(self.stepper.network)
        except _StoppedError:
            return
        except (RuntimeError, MemoryError) as error:
            self._raise_if_out_of_memory(error)
            raise
        self._finish_epoch(scores, time.perf_counter() - began)

    def _note_whole(self) -> None:
        """At the end of the early epochs: say so, and mark the place in the curves."""
        place = [row for row in self.rows if row["epoch"] == self.epoch and row["note"] == WHOLE]
        if self.halved and self.progress == self.halved and not place:
            rows, columns = self.settings.shape
            self._note(WHOLE)
            self._log(f"from here on {WHOLE}: {rows} x {columns}")

    def _step(self, images: Tensor, labels: Tensor, numbers: np.ndarray) -> None:
        """One batch, uint8[B,S,T,3] and uint8[B,S,T]: forward, backward, clip, update, average.

        Of several processes each has its share of the images; numbers are those of the whole batch.
        """
        try:
            with self.gate.step():
                own, _ = distributed.shard(numbers)
                x, target = self._prepare(images.to(self.device), labels.to(self.device), own, self.epoch)
                loss = self.stepper.backward(x, target)
                self.step_interrupted = True
                rate = self.lr
                self.loss_sum += self.stepper.update(loss, rate, len(numbers))
                self.seen += len(numbers)
                self.window += len(numbers)
                self.rates.append(rate)
                self.step_interrupted = False
        except (RuntimeError, MemoryError) as error:
            self._raise_if_out_of_memory(error)
            raise

    def _prepare(self, images: Tensor, labels: Tensor, numbers: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """uint8 batch -> float32[B,3,S,T] normalised and int64[B,S,T], changed at random where the recipe says so.

        In the early epochs of half size: halved first.
        """
        images, labels = self.at_size(images, labels, epoch)
        if self.settings.augment:
            return self.augment(images, labels, numbers, epoch)
        return to_float(images, self.settings.mean, self.settings.std), to_ids(labels)

    def _after_step(self) -> None:
        """Between two steps: read the loss, look for orders, save, tell the watchers, each when it is due."""
        if self.step % CHECK == 0:
            self._read_loss()
        now = time.monotonic()
        look, save = now - self.looked > LOOK_EVERY, now - self.saved_at > SAVE_EVERY
        if distributed.world_size() > 1:
            save = self._steer_together(look, save)
        elif look:
            self._steer()
        if save:
            self.save()
        self._notify("step")

    def _read_loss(self) -> None:
        """A point of the trace and the speed; where a loss was not finite, back to the last checkpoint."""
        with self.gate.exclusive():
            self._take_reading(*self.stepper.read())

    def _take_reading(self, loss: float, bad: int) -> None:
        """What _read_loss does with what it has read."""
        if bad >= 0:
            self._go_back(self._fault(bad))
        if self.stepper.is_overflowing():
            self._go_back(f"fp16: gradients overflow at every scale, by step {self.step} at rate {self.lr:.1e}")
        now, (then, before) = time.perf_counter(), self.clock
        if self.progress > before:
            self.images_per_second = (self.progress - before) * len(self.arrays["train"]) / (now - then)
        if self.window:
            self.trace.append([self.progress, loss / self.window, self.optimizer.param_groups[0]["lr"]])
        self.window, self.rates, self.clock = 0, [], (now, self.progress)

    def _fault(self, bad: int) -> str:
        """What was wrong in step `bad`, and at which rate; -1: the weights themselves."""
        if bad < 0:
            return f"weights are not finite, by step {self.step} at rate {self.lr:.1e}"
        ago = self.step - bad  # steps since
        rate = self.rates[-1 - ago] if ago < len(self.rates) else self.lr
        return f"the loss or its gradient was not finite in step {bad} at rate {rate:.1e}"

    @staticmethod
    def _drop_memory(error: BaseException) -> None:
        """Let go of what the failed step holds: its tensors hang on the frames of the traceback."""
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _raise_if_out_of_memory(self, error: BaseException) -> None:
        """If it is that: save, and raise TrainingError with what to try; the weights are those of a whole step."""
        if not stepper.is_out_of_memory(error):
            return
        fault = (str(error) or type(error).__name__).splitlines()[0]
        self._drop_memory(error)
        for split in self.feeds.values():
            split.leave_device()
        if distributed.world_size() > 1:  # this process ends, and the others, which still wait for it, with it
            raise TrainingError(f"out of memory on {self.device} after step {self.step} in process {distributed.rank()} "
                                f"({fault}): give fewer images a step, --set batch=...") from None  # fmt: skip
        if self.step_interrupted:  # it was cut in the update: to the last checkpoint
            self._resume()
        elif self.training_thread is threading.current_thread():
            self.save()
        batch, size = self.settings.batch, " x ".join(map(str, self.settings.shape))
        advice = (
            f"try half the batch, Trainer(settings.replace(batch={batch // 2}), arrays, run={self.run!r}): it goes on "
            "from here" if batch > 1 else "a batch of one image does not fit: take a smaller size or width"
        )  # fmt: skip
        raise TrainingError(f"out of memory on {self.device} after step {self.step}, with batch {batch} at {size} px "
                            f"({fault}). Nothing is lost, it is saved; {advice}") from None  # fmt: skip

    def _go_back(self, fault: str) -> None:
        """To the last checkpoint; always raises TrainingError, which says where training is now and what to do.

        A rate that was lowered since stays lowered, or the same rate would be tried for ever.
        """
        lowered = self.lr_scale
        if not self._resume():
            raise TrainingError(f"{fault}, before any checkpoint: make a new Trainer with a lower rate")
        if lowered < self.lr_scale:
            self.lr_scale = lowered
            self._note(f"lr {self.lr:.2g}")
        raise TrainingError(f"{fault}: it was left out, and training is back at the last checkpoint, epoch "
                            f"{self.progress:.2f}, step {self.step}. Set the rate lower, for example trainer.lr = "
                            f"{self.lr / 10:.1e}, and go on with fit")  # fmt: skip

    # --- validation, history, checkpoints ------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, network: unet.UNet | None = None) -> dict[str, float]:
        """metrics.measures on the validation split, at the size of the epoch's training, from one pooled matrix."""
        network, classes = network or self.network, len(self.dataset.classes)
        matrix = torch.zeros(classes, classes, dtype=torch.int64)
        for batch in self.feeds["val"]():
            images, labels = self.at_size(*(part.to(self.device) for part in batch[:2]), self.epoch)
            x = to_float(images, self.settings.mean, self.settings.std)
            with self.stepper.autocast():
                matrix += metrics.confusion(network(x).argmax(1).cpu(), labels.cpu(), classes)
            if self.training_thread is threading.current_thread() and self._asked_within_validation():
                raise _StoppedError
        return metrics.measures(distributed.sum_on_cpu(matrix).numpy(), self.dataset)

    def at_size(self, images: Tensor, labels: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """uint8[B,S,T,3], uint8[B,S,T] as that epoch (from 0) sees them: halved in the early ones."""
        return halve(images, labels) if epoch < self.halved else (images, labels)

    def _asked_within_validation(self) -> bool:
        """_asked; several processes see a signal after the same batch."""
        if distributed.world_size() > 1:
            self._steer_together(False, False)
        return self._asked()

    def _finish_epoch(self, scores: dict[str, float], seconds: float) -> None:
        """The epoch's row and line, its files; from here on the next epoch is the current one."""
        row = {
            "epoch": self.epoch + 1, "step": self.step, "loss": float(self.loss_sum) / self.seen,
            "lr": self.optimizer.param_groups[0]["lr"], "images_per_s": self.images_per_second,
        } | {self.dataset.column(name): value for name, value in scores.items()} | {"note": ""}  # fmt: skip
        with self.gate.exclusive():
            self.step_interrupted = True
            self.rows.append(row)
            self.epoch, self.seen, self.pending_row = self.epoch + 1, 0, row
            self.loss_sum.zero_()
            self.step_interrupted = False
        self._write_epoch(row)
        parts = {self.dataset.classes[i]: row[f"f1_{self.dataset.classes[i]}"] for i in self.dataset.small_classes}
        weakest = min(parts, key=lambda name: -1.0 if math.isnan(parts[name]) else parts[name])
        speed = "" if math.isnan(self.images_per_second) else f"  {self.images_per_second:.0f} images/s"
        left, primary_metric = (
            round((self.target_epoch - self.epoch) * seconds),
            row[self.dataset.column(self.dataset.primary_metric)],
        )
        named = (
            "F1" if self.dataset.primary_metric in self.dataset.rows else self.dataset.primary_metric.replace("_", " ")
        )
        self._log(f"epoch {self.epoch:3}/{self.target_epoch}  loss {row['loss']:.3f}  val {named} {primary_metric:.3f} (weakest "
                  f"{weakest} {parts[weakest]:.2f})  lr {row['lr']:.1e}{speed}  "
                  f"{left // 60}:{left % 60:02} left")  # fmt: skip
        self._notify("epoch")

    def _write_epoch(self, row: dict) -> None:
        """best.pt where the epoch is the best so far, the checkpoint, the history."""
        before, merit = self.best, self._monitored_score(row)
        self._check_good()
        try:
            if merit > before:
                if distributed.rank() == 0:
                    with checkpoint.explained(self.folder / "best.pt"):
                        checkpoint.write_export(self.folder / "best.pt", *self._export_parts(row))
                self.best = merit
            self.save(merit > before)
        except BaseException:
            self.best = before  # it is tried again
            raise
        self.pending_row = None

    def _monitored_score(self, row: dict) -> float:
        """By which the best epoch is chosen: the primary_metric score, just below 0 where it is not defined.

        Any epoch that saw whole photos is better than every early one, whose score is of halved photos.
        """
        score = row[self.dataset.column(self.dataset.primary_metric)]
        return (-0.5 if math.isnan(score) else score) - (row["epoch"] <= self.halved)

    def _note(self, text: str) -> None:
        """A row of its own for what the reader changed, at this very place."""
        blank = dict.fromkeys(
            self.rows[-1] if self.rows else {self.dataset.column(self.dataset.primary_metric): 0}, math.nan
        )
        now = {"epoch": self.progress, "step": self.step, "lr": self.lr, "loss": math.nan, "note": text}
        self.rows.append(blank | now)

    def save(self, best: bool = False, rotate: bool = True) -> None:
        """Write last.pt (the one before becomes previous.pt) and history.csv; never what is not finite.

        best: keep it as best_state.pt too. CheckpointError if the disk is full: all earlier files are as they were.
        """
        with self.gate.exclusive():
            self._check_good()
            moved = self.step != self.saved  # else previous.pt would be a second copy of the same step
            if distributed.rank() == 0:
                checkpoint.save(self.folder / "last.pt", self._state(), best, rotate and moved)
            self.saved, self.saved_at, self.stamp = self.step, time.monotonic(), self._look_at_last()
            if distributed.rank() == 0:
                with checkpoint.explained(self.folder / "history.csv"):
                    files.write_atomic(self.folder / "history.csv", self._history_csv().encode())

    def _check_good(self) -> None:
        """Before anything is written: not a step cut in two, and only finite weights; else back to the last checkpoint.

        CheckpointError in another thread than the training's, which goes back by itself.
        """
        if self.step_interrupted:
            raise CheckpointError("not saved: the last step was cut in two; fit goes back to the last checkpoint first")
        if (bad := self.stepper.read_bad()) < 0 and self.stepper.is_finite():
            return
        if self.training_thread not in (None, threading.current_thread()):
            raise CheckpointError(f"not saved: {self._fault(bad)}; the training that runs will find it and stop")
        self._go_back(self._fault(bad))

    def _try_to_save(self) -> None:
        """Save; a full disk is told and changes nothing. Not over a checkpoint that another Trainer has written."""
        if self.training_thread is None and self._look_at_last() not in (self.stamp, None):
            return
        try:
            self.save()
        except CheckpointError as error:
            self._log(str(error))

    def _state(self) -> dict:
        """All that a run is, as tensors and plain values.

        Random states are not among them, because there are none: shuffle and augmentation are functions of
        (seed, epoch, sample), and the network draws nothing.
        """
        return {
            "format": FORMAT, "settings": self.settings.asdict(), "classes": list(self.dataset.classes),
            "versions": hardware.versions(), "data": self._data(), "epoch": self.epoch, "seen": self.seen,
            "loss_sum": float(self.loss_sum), "lr_scale": self.lr_scale, "history": self.rows, "trace": self.trace,
            "window_images": self.window, "best": self.best, "halved": self.halved,
        } | self.stepper.state()  # fmt: skip

    def _data(self) -> dict[str, list]:
        """Number of images and checksum of the training and validation arrays."""
        return {split: [len(self.arrays[split]), self.arrays[split].content] for split in ("train", "val")}

    def _history_csv(self) -> str:
        """The history as CSV, a column for every key that any row has."""
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        writer = csv.DictWriter(text, columns or ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def _resume(self) -> bool:
        """Go on from the run's newest readable checkpoint; False if it has none."""
        found = distributed.broadcast(checkpoint.latest(self.folder) if distributed.rank() == 0 else None)
        if found is None:
            return False
        state, line = found
        self._restore(state)
        self.stamp = self._look_at_last()
        self._log(f"run {self.run}: {line}, epoch {self.progress:.2f} (step {self.step})")
        self._tell_changes(state["settings"])
        return True

    def _restore(self, state: dict) -> None:
        """Take over a checkpoint's state; CheckpointError if it is another network's, or made on other data."""
        self._check_fits(state)
        with self.gate.exclusive():
            self.step_interrupted = True  # until all of it is taken over
            try:
                self._take_over(state)
            except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
                raise CheckpointError(f"{env.shown(self.folder)}: the checkpoint has other parts ({error!r:.200}): "
                                      "give the run another name") from error  # fmt: skip
            self.step_interrupted, self.pending_row = False, None

    def _take_over(self, state: dict) -> None:
        """Weights, place, history and the rest of a checkpoint's state."""
        self.stepper.load(state)
        self.epoch, self.seen, self.saved = state["epoch"], state["seen"], state["step"]
        self.loss_sum.fill_(state["loss_sum"])
        self.lr_scale, self.rows, self.trace = state["lr_scale"], state["history"], state["trace"]
        self.window, self.rates = state["window_images"], []
        if self.epoch >= state.get("halved", 0) and self.settings.half_size_fraction == state["settings"].get(
            "half_size_fraction", 0.0
        ):
            self.halved = state.get("halved", 0)  # whole photos stay whole, whatever became of the number of epochs
        self.best = max(self.best, state["best"])  # best.pt holds the best, whatever was undone since

    def undo(self, to: str = "last") -> "Trainer":
        """Back to the newest checkpoint before the present step, or to that of the best epoch (undo("best")).

        The weights, the place in the data, the history and the rate are then those of that moment.
        """
        self._check_idle()
        self._check_alone("undo")
        if to not in ("last", "best"):
            raise TrainingError(f'undo({to!r}): give "last" or "best"')
        found = checkpoint.before(self.folder, self.step) if to == "last" else checkpoint.best(self.folder)
        if found is None:
            more = "no epoch is finished" if to == "best" else 'undo("best") goes to the best epoch'
            raise TrainingError(f"no checkpoint before step {self.step} is left: {more}; another name for the run "
                                "begins afresh")  # fmt: skip
        left = f"epoch {self.progress:.2f}, step {self.step}"
        with self._alone():
            self._restore(found)
            self._tell_changes(found["settings"])
            self._note(f"undo from {left}")
            self.save(rotate=False)
            # what was undone never comes back; a copy and no link, since a damage to the one must spare the other
            with checkpoint.explained(self.folder / "previous.pt"):
                files.write_atomic(self.folder / "previous.pt", (self.folder / "last.pt").read_bytes())
        self._notify("end")
        print(f"back at epoch {self.progress:.2f}, step {self.step}, from {left}; rate {self.lr:.1e}: set trainer.lr "
              "and go on with fit")  # fmt: skip
        return self

    def _tell_changes(self, then: dict) -> None:
        """Print and keep in the history which settings differ from those that the run had until now."""
        now = self.settings.asdict()
        changed = [f"{k} {then[k]} -> {now[k]}" for k in now if k in then and k != "recipe" and then[k] != now[k]]
        if then["lr"] != now["lr"]:
            self.lr_scale = 1.0  # a peak rate that was edited is meant as it stands, not scaled by earlier changes
        elif self.lr_scale != 1.0:  # a rate that was set by hand stays what it is when the schedule is stretched
            was = schedule_factor(then["schedule"], self.progress / then["epochs"])
            self.lr_scale *= was / schedule_factor(now["schedule"], self.progress / now["epochs"])
        if changed:
            self._log(f"goes on with other settings: {', '.join(changed)}; rate of the next step {self.lr:.1e}")
            self._note(", ".join(changed))

    def _check_fits(self, state: dict) -> None:
        """CheckpointError that names what differs: network, classes or data."""
        where = f"{env.shown(self.folder)}/last.pt"
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CheckpointError(f"{where} is no checkpoint of this version: give the run another name")
        mine, theirs = self.settings.asdict(), state["settings"]
        differ = [f"{k} {theirs[k]} (now {mine[k]})" for k in FIXED if theirs[k] != mine[k]]
        if state["classes"] != list(self.dataset.classes):
            differ.append(f"classes {', '.join(state['classes'])} (now {', '.join(self.dataset.classes)})")
        for split, (count, content) in self._data().items():
            if state["data"][split] != [count, content]:
                differ.append(f"{split} data: {state['data'][split][0]} images (now {count}, with other content)")
        if differ:
            raise CheckpointError(f"{where} was made with other {'; '.join(differ)}: "
                                  "give the run another name, Trainer(..., run='...') or --run NAME")  # fmt: skip

    def _export_parts(self, row: dict) -> tuple:
        """What an export says of these weights: weights, settings, scores, data."""
        names = {self.dataset.column(name): name for name in (*self.dataset.rows, "mean_iou", "accuracy")}
        scores = {name: row[column] for column, name in names.items() if column in row}
        images, source = len(self.arrays["train"]), choice.source(self.dataset.name)
        what = f"{self.dataset.title}, {source}, {images} images, epoch {row['epoch']}"
        return self.stepper.network.state_dict(), self._settings_of(row["epoch"]), scores, what

    def _settings_of(self, epoch: int) -> Settings:
        """The settings by which an epoch's weights are used: of an early one at the half size that they know."""
        if epoch > self.halved:
            return self.settings
        rows, columns = (side // 2 for side in (self.settings.size, self.settings.columns))
        return self.settings.replace(size=rows, columns=columns, half_size_fraction=0.0)

    def export(self, path: Path) -> None:
        """Write the weights of the best epoch by validation as one file that predict.load takes anywhere."""
        best = self.folder / "best.pt"
        if not best.exists():
            raise TrainingError("no epoch is finished yet, so there is nothing to export: run fit first")
        checkpoint.read_export(best)  # a damaged file is named here, not by the stranger who gets it
        files.write_atomic(path, best.read_bytes())


def read_history(path: Path) -> dict[str, list[dict]]:
    """A history.csv, or several in one file told apart by a column `run` -> run name -> rows as Trainer.history."""
    runs: dict[str, list[dict]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name, note = row.pop("run", ""), row.pop("note", "")
            runs.setdefault(name, []).append({k: float(v or "nan") for k, v in row.items()} | {"note": note})
    return runs
