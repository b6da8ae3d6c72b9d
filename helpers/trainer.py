"""Trainer: fit, interrupt, learning rate, history, validation, checkpoints."""

import copy
import csv
import io
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import catalog, checkpoint, env, files, losses, metrics, preprocess, unet
from .augment import Augment, to_float, to_ids
from .errors import CheckpointError, TrainingError
from .interrupt import Interrupt

# A checkpoint goes on with no other network, optimizer or order of the data; all else may be changed on the way.
FIXED = ("dataset", "size", "width", "depth", "norm", "slope", "mean", "std", "optimizer", "seed")


def shape(schedule: str, t: float) -> float:
    """The schedule as a pure function: progress t in [0,1] -> factor in (0,1] of the peak rate.

    onecycle: linear from 1/10 to 1 over the first 15 %, then a cosine down to 1/100.
    steps: 1, from one half 1/10, from three quarters 1/100 (the write-up's cuts by hand).
    """
    t = min(max(t, 0.0), 1.0)
    if schedule == "steps":
        return 1.0 if t < 0.5 else 0.1 if t < 0.75 else 0.01
    if schedule != "onecycle":
        raise TrainingError(f"no schedule called {schedule!r}: choose onecycle or steps")
    if t < 0.15:
        return 0.1 + 0.9 * t / 0.15
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (t - 0.15) / 0.85)) / 2


def make_optimizer(settings: catalog.Settings, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW over all parameters, at the settings' peak rate."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    for name, value, known in (("optimizer", settings.optimizer, kinds), ("loss", settings.loss, losses.LOSSES)):
        if value not in known:
            raise TrainingError(f"no {name} called {value!r}: choose one of {', '.join(known)}")
    return kinds[settings.optimizer](model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)


def run_name(settings: catalog.Settings) -> str:
    """The name of a run unless one is given: recipe, scale, and 'sample' where the data is drawn."""
    drawn = env.source() == "sample"
    return f"{settings.recipe}-{settings.scale}" + ("-sample" if drawn else "")


class Trainer:
    """Trains one network on the arrays of 02; goes on from the run's last checkpoint if there is one.

    `fit(n)` trains to n epochs in all. The place in the data is (epoch, seen), every random number a function of
    it, so a run that was stopped anywhere goes on exactly as if it had not been.
    """

    def __init__(
        self,
        settings: catalog.Settings,
        arrays: dict[str, preprocess.Arrays],
        run: str | None = None,
        device: torch.device | str | None = None,
    ):
        self.settings, self.arrays = settings, arrays
        self.dataset = catalog.dataset(settings.dataset)
        self.run = run or run_name(settings)
        self.folder = env.run_dir(settings.dataset, self.run)
        self.device = torch.device(device or env.pick_device())
        with torch.random.fork_rng(devices=[]):  # the reader's own random numbers stay as they are
            torch.default_generator.manual_seed(settings.seed)
            self.model = unet.build(settings, len(self.dataset.classes))
        # channels_last: on two CPU cores a step takes 0.85 of the time, and batches come in that order anyway
        self.model.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False) if settings.average else None
        self.optimizer = make_optimizer(settings, self.model)
        self.augment = Augment(self.dataset.swaps, settings.mean, settings.std, settings.seed)
        self.epoch, self.seen, self.step = 0, 0, 0  # whole epochs, images of the current one, optimizer steps
        self.loss_sum = torch.zeros((), device=self.device)  # over the images seen in this epoch
        self.factor = 1.0  # what the reader's changes have made of the schedule
        self.history: list[dict] = []
        self.torn = False  # whether an error or a second interrupt has cut a step in two
        self._resume()

    def __repr__(self) -> str:
        return f"Trainer(run={self.run!r}, epoch {self.progress:.2f}, step {self.step}, next rate {self.lr:.1e})"

    # --- the learning rate ---------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Epochs done, the current one as a fraction."""
        return self.epoch + self.seen / len(self.arrays["train"])

    @property
    def lr(self) -> float:
        """The rate of the next step: the schedule at this place, times what the reader made of it."""
        return self.settings.lr * self.factor * shape(self.settings.schedule, self.progress / self.settings.epochs)

    @lr.setter
    def lr(self, rate: float) -> None:
        """Make the current rate exactly `rate` and scale the rest of the schedule; kept in the history."""
        rate = float(rate)  # a number of numpy's or torch's would make the checkpoint unreadable
        if not (math.isfinite(rate) and rate > 0):
            raise TrainingError(f"a learning rate is a number above 0, got {rate}; nothing was changed")
        self.factor *= rate / self.lr
        self._note(f"lr {rate:.2g}")

    # --- training ------------------------------------------------------------------------------------------------

    def fit(self, epochs: int) -> "Trainer":
        """Train until `epochs` are done in all; a first interrupt ends it between two steps, a second one raises."""
        if self.epoch >= epochs:
            print(f"{self.epoch} epochs are done already; fit({self.epoch + 1}) or more goes on")
        if self.torn and not self._resume():
            raise TrainingError(
                "the last fit was cut in the middle of a step, before any checkpoint: make a new Trainer"
            )
        with Interrupt() as interrupt:
            while self.epoch < epochs and not interrupt.asked:
                self.torn = True
                self._run_epoch(epochs, interrupt)
                self.torn = False
        if interrupt.asked:
            self.save()
            print(f"stopped at epoch {self.progress:.2f} (step {self.step}), saved: "
                  f"fit({epochs}) goes on from here; trainer.lr = {self.lr / 10:.1e} would lower the rate")  # fmt: skip
        return self

    def _run_epoch(self, epochs: int, interrupt: Interrupt) -> None:
        """The rest of the current epoch; at its end validation, a history row, a checkpoint and a line."""
        began, first = time.perf_counter(), self.seen
        settings, data = self.settings, self.arrays["train"]
        batches = preprocess.loader(data, settings.batch, settings.seed, self.epoch, self.seen)
        # on stdout, where the epoch's line then takes its place; stderr would keep an empty coloured line
        bar = tqdm(batches, f"epoch {self.epoch + 1}", leave=False, mininterval=1, file=sys.stdout)
        for images, labels, numbers in bar:
            self._step(images, labels, numbers)
            if interrupt.asked:
                break
        if self.seen < len(data):
            return
        row = {"epoch": self.epoch + 1, "step": self.step, "loss": self._mean_loss(), "lr": self.lr}
        row["images_per_s"] = (self.seen - first) / (time.perf_counter() - began)
        row |= {f"f1_{name}": value for name, value in self.validate().items()}
        self.epoch, self.seen = self.epoch + 1, 0
        self.loss_sum.zero_()
        self._finish_epoch(row, epochs, time.perf_counter() - began)

    def _step(self, images: Tensor, labels: Tensor, numbers: np.ndarray) -> None:
        """One batch, uint8[B,S,S,3] and uint8[B,S,S]: forward, backward, clip, update, average."""
        self.model.train()
        x, target = self._prepare(images.to(self.device), labels.to(self.device), numbers)
        loss = losses.LOSSES[self.settings.loss](self.model(x), target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.optimizer.step()
        self.step += 1
        self.seen += len(numbers)
        self.loss_sum += loss.detach() * len(numbers)  # stays on the device: read once an epoch
        self._update_average()

    def _prepare(self, images: Tensor, labels: Tensor, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """uint8 batch -> float32[B,3,S,S] normalised and int64[B,S,S], changed at random where the recipe says so."""
        if self.settings.augment:
            return self.augment(images, labels, numbers, self.epoch)
        return to_float(images, self.settings.mean, self.settings.std), to_ids(labels)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged weights (and norms' statistics) towards the model's; faster in the first steps."""
        if self.average is None:
            return
        keep = min(self.settings.average, self.step / (self.step + 9))
        mine, theirs = self.average.state_dict(), self.model.state_dict()
        floats = [k for k, v in mine.items() if v.is_floating_point()]
        torch._foreach_lerp_([mine[k] for k in floats], [theirs[k] for k in floats], 1 - keep)

    def _mean_loss(self) -> float:
        """Mean training loss of the epoch so far; TrainingError if it is not a number, and the weights go back."""
        loss = float(self.loss_sum) / self.seen
        if not math.isfinite(loss):
            self._go_back(f"the loss is {loss}")
        return loss

    def _check_finite(self) -> None:
        """Before anything is saved: a checkpoint never holds weights or a loss that are not numbers."""
        floats = [v for v in self.model.state_dict().values() if v.is_floating_point()]
        if not torch.stack([self.loss_sum.isfinite(), *(v.isfinite().all() for v in floats)]).all():
            self._go_back("loss or weights are not finite")

    def _go_back(self, fault: str) -> None:
        """To the last checkpoint; always raises TrainingError, which says where training is now and what to do."""
        step, rate = self.step, self.lr
        if not self._resume():
            raise TrainingError(f"{fault}, by step {step} at rate {rate:.1e}, before any checkpoint: lower the rate in "
                                "the settings and make a new Trainer")  # fmt: skip
        raise TrainingError(f"{fault}, by step {step} at rate {rate:.1e}: back at the last checkpoint, epoch "
                            f"{self.progress:g}; set trainer.lr lower and run fit again")  # fmt: skip

    # --- validation, history, checkpoints ------------------------------------------------------------------------

    @property
    def network(self) -> unet.UNet:
        """The network to use: averaged weights if the recipe averages, else the model's; in evaluation mode."""
        return (self.average or self.model).eval()

    @torch.no_grad()
    def validate(self, network: unet.UNet | None = None) -> dict[str, float]:
        """F1 of each class and group on the validation split, at training size, from one pooled matrix."""
        network, classes = network or self.network, len(self.dataset.classes)
        matrix = torch.zeros(classes, classes, dtype=torch.int64)
        for images, labels, _ in preprocess.loader(self.arrays["val"], self.settings.batch):
            x = to_float(images.to(self.device), self.settings.mean, self.settings.std)
            matrix += metrics.confusion(network(x).argmax(1).cpu(), labels, classes)
        return metrics.scores(matrix.numpy(), self.dataset)

    def _finish_epoch(self, row: dict, epochs: int, seconds: float) -> None:
        """Append the row, save, keep the best, print the line."""
        headline = f"f1_{self.dataset.headline}"
        self._check_finite()
        if self._merit(row) > max((self._merit(r) for r in self.history if not r["note"]), default=-1.0):
            checkpoint.write_export(self.folder / "best.pt", *self._export_parts(row))  # first: save() ends the epoch
        self.history.append(row | {"note": ""})
        self.save()
        parts = {self.dataset.classes[i]: row[f"f1_{self.dataset.classes[i]}"] for i in self.dataset.parts}
        weakest = min(parts, key=lambda name: -1.0 if math.isnan(parts[name]) else parts[name])
        left = round((epochs - self.epoch) * seconds)
        print(f"epoch {self.epoch:3}/{epochs}  loss {row['loss']:.3f}  val F1 {row[headline]:.3f} (weakest {weakest} "
              f"{parts[weakest]:.2f})  lr {row['lr']:.1e}  {row['images_per_s']:.0f} images/s  "
              f"{left // 60}:{left % 60:02} left", flush=True)  # fmt: skip

    def _merit(self, row: dict) -> float:
        """By which the best epoch is chosen: the headline score, just below 0 where it is not defined."""
        score = row[f"f1_{self.dataset.headline}"]
        return -0.5 if math.isnan(score) else score

    def _note(self, text: str) -> None:
        """A row of its own for what the reader changed, at this very place."""
        blank = dict.fromkeys(self.history[-1] if self.history else {f"f1_{self.dataset.headline}": 0}, math.nan)
        now = {"epoch": self.progress, "step": self.step, "lr": self.lr, "loss": math.nan, "note": text}
        self.history.append(blank | now)

    def save(self) -> None:
        """Write last.pt (the one before becomes previous.pt) and history.csv; never what is not finite."""
        self._check_finite()
        state = {
            "settings": self.settings.asdict(), "classes": list(self.dataset.classes), "versions": env.versions(),
            "data": self._data(), "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None, "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch, "seen": self.seen, "step": self.step, "loss_sum": float(self.loss_sum),
            "factor": self.factor, "history": self.history,
        }  # fmt: skip
        checkpoint.save(self.folder / "last.pt", state)
        files.write_atomic(self.folder / "history.csv", self._history_csv().encode())

    def _data(self) -> list[str]:
        """Checksums of the training and validation arrays."""
        return [self.arrays[split].content for split in ("train", "val")]

    def _history_csv(self) -> str:
        """The history as CSV, a column for every key that any row has."""
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in self.history for key in row))
        writer = csv.DictWriter(text, columns or ["epoch"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.history)
        return text.getvalue()

    def _resume(self) -> bool:
        """Go on from the run's newest readable checkpoint; False if it has none."""
        found = checkpoint.latest(self.folder)
        if found is None:
            return False
        state, line = found
        self._check_fits(state)
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"] or state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.settings.weight_decay  # loading has put the checkpoint's there
        self.epoch, self.seen, self.step = state["epoch"], state["seen"], state["step"]
        self.loss_sum.fill_(state["loss_sum"])
        self.factor, self.history, self.torn = state["factor"], state["history"], False
        print(f"run {self.run}: {line}, epoch {self.progress:.2f}")
        self._tell_changes(state["settings"])
        return True

    def _tell_changes(self, then: dict) -> None:
        """Print and keep in the history which settings differ from those that the run had until now."""
        now = self.settings.asdict()
        changed = [f"{k} {then[k]} -> {now[k]}" for k in now if k in then and k != "recipe" and then[k] != now[k]]
        if changed:
            print(f"goes on with other settings: {', '.join(changed)}")
            self._note(", ".join(changed))

    def _check_fits(self, state: dict) -> None:
        """CheckpointError that names what differs: network, classes or data."""
        mine = self.settings.asdict()
        differ = [f"{k} {state['settings'][k]} (now {mine[k]})" for k in FIXED if state["settings"][k] != mine[k]]
        differ += ["classes"] if state["classes"] != list(self.dataset.classes) else []
        differ += ["training or validation data"] if state["data"] != self._data() else []
        if differ:
            raise CheckpointError(f"{env.shown(self.folder)}/last.pt was made with other {', '.join(differ)}: "
                                  "give the run another name, Trainer(..., run='...')")  # fmt: skip

    def _export_parts(self, row: dict) -> tuple:
        """What an export says of these weights: weights, settings, scores, data."""
        scores = {k.removeprefix("f1_"): v for k, v in row.items() if k.startswith("f1_")}
        what = f"{self.dataset.title}, {env.source()}, {len(self.arrays['train'])} images, epoch {row['epoch']}"
        return self.network.state_dict(), self.settings, scores, what

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
