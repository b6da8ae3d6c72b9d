"""A run's folder and its checkpoints: written whole or not at all, read without running any code."""

import contextlib
import io
import os
import pickle
import re
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ..core import distributed, env, files
from ..core.errors import CheckpointError, DataError, TrainingError

FORMAT = 3  # of the checkpoint
# A checkpoint goes on with no other network, optimizer or order of the data; all else may be changed on the way.
FIXED = ("dataset", "size", "columns", "width", "depth", "norm", "slope", "up", "mean", "std", "optimizer", "seed")
# The first is whole, but a kill came before it was renamed to last.pt.
NEWEST_FIRST = ("last.new", "last.pt", "previous.pt")


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """An error of writing `path` as a CheckpointError with its remedy; torch says RuntimeError where a disk is full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        fault = f"{env.shown(path)} cannot be written ({getattr(error, 'strerror', None) or 'only a part was written'})"
        remedy = "earlier checkpoints are intact and training can go on; make room and run fit again"
        raise CheckpointError(f"{fault}: {remedy}") from error


def save(path: Path, state: dict, best: bool = False, rotate: bool = True) -> None:
    """Write `state` (tensors and plain values) to `path`, fsynced; with `rotate` the file before becomes previous.pt.

    best: best_state.pt becomes the same file. A CheckpointError, or a kill at any moment, leaves what was there.
    """
    new = path.with_suffix(".new")
    with explained(path):
        with files.atomic(new) as file:
            torch.save(state, file)
        if best:
            files.link(new, path.with_name("best_state.pt"))
        if rotate and path.exists():
            os.replace(path, path.with_name("previous.pt"))
        os.replace(new, path)


def check_sums(source: Path | io.BytesIO) -> None:
    """zipfile.BadZipFile if a member of torch's zip is not what was written.

    torch.load itself takes a weight whose bits have changed for what it is, and a member whose attributes have
    changed into a folder's for uninitialised memory.
    """
    with zipfile.ZipFile(source) as archive:
        odd = [info.filename for info in archive.infolist() if info.external_attr or info.compress_type]
        if bad := archive.testzip() or next(iter(odd), None):
            raise zipfile.BadZipFile(f"damaged, {bad} is not as written")


def read(source: Path | io.BytesIO, name: str) -> dict:
    """Read tensors and plain values, on the CPU; CheckpointError if damaged or if it holds anything else (code)."""
    if isinstance(source, Path) and not source.is_file():
        raise CheckpointError(f"{source}: no such file; correct the path, or train first")
    try:
        if zipfile.is_zipfile(source):
            check_sums(source)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fault = "refused, it holds more than weights and plain values, or is damaged"
        raise CheckpointError(f"{name}: {fault}; take it from its author again") from error
    except Exception as error:  # torch.load, pickle and zip raise whatever there is, by where the damage lies
        reason = files.why(error, source) if isinstance(source, Path) else error
        raise CheckpointError(f"{name}: cannot be read ({reason}); delete it or take a fresh copy") from error


def readable(folder: Path, faults: list[str]) -> Iterator[tuple[str, dict]]:
    """A run's checkpoints that can be read, newest first, with their names; what is wrong with others: in `faults`."""
    for name in NEWEST_FIRST:
        if (folder / name).exists():
            try:
                yield name, read(folder / name, name)
            except CheckpointError as error:
                faults.append(str(error))


def latest(folder: Path) -> tuple[dict, str] | None:
    """State of last.pt, or of previous.pt if that one is damaged, with a line that says which; None if neither exists.

    CheckpointError if there are files but none can be read: a run is never started over silently.
    """
    faults: list[str] = []
    for name, state in readable(folder, faults):
        return state, "; ".join([*faults, f"going on from {name}"])
    if faults:
        raise CheckpointError(f"{env.shown(folder)}: {'; '.join(faults)}; or give the run another name")
    return None


def check_run_name(run: str) -> None:
    """DataError if the name of a run is a path: nothing is written outside of runs/<dataset>/<run>."""
    if not re.fullmatch(r"[^\\/:]*[^\\/:.][^\\/:]*", run):
        raise DataError(f"run {run!r} is not a valid run name: give it a plain name, without / \\ and :")


class RunFolder:
    """Checkpoints of one run under runs/<dataset>/<run>/. Of several ranks the first alone reads and writes."""

    def __init__(self, dataset: str, run: str):
        check_run_name(run)
        self.run, self.path = run, env.run_dir(dataset, run)
        self.saved_step = -1  # of the newest checkpoint
        self.saved_at = time.monotonic()
        self.stamp: tuple | None = None  # last.pt as this Trainer last read or wrote it

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one training at a time writes here, whatever kernel it runs in; TrainingError if another one does."""
        if distributed.rank() > 0:
            yield
            return
        busy = TrainingError(
            f"run {self.run} is being trained elsewhere (another Trainer, or another notebook or terminal): "
            "pause it there, or give this one another name, Trainer(..., run='...')"
        )
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with files.locked(self.path / ".lock", busy):
            for half in self.path.glob("*.tmp"):  # of a save that was killed; nobody else writes here now
                half.unlink()
            yield

    def save(self, state: dict, history_csv: str, best: bool = False) -> None:
        """Write last.pt (the one before becomes previous.pt, unless it is of the same step) and history.csv.

        best: keep it as best_state.pt too. CheckpointError if the disk is full: all earlier files are as they were.
        """
        if distributed.rank() == 0:
            save(self.path / "last.pt", state, best, rotate=state["step"] != self.saved_step)
        self.saved_step, self.saved_at, self.stamp = state["step"], time.monotonic(), self._look()
        if distributed.rank() == 0:
            with explained(self.path / "history.csv"):
                files.write_atomic(self.path / "history.csv", history_csv.encode())

    def latest(self) -> tuple[dict, str] | None:
        """State of the newest readable checkpoint and a line that says which, on every rank; None if there is none."""
        return distributed.broadcast(latest(self.path) if distributed.rank() == 0 else None)

    def took_over(self) -> None:
        """Remember that the Trainer's state is now that of last.pt."""
        self.stamp = self._look()

    def was_trained_elsewhere(self) -> bool:
        """Whether another Trainer has written last.pt since this one last saw it."""
        return self._look() not in (self.stamp, None)

    def _look(self) -> tuple | None:
        """What tells one last.pt from another; None if there is none, or another rank reads it."""
        if distributed.rank() > 0:
            return None
        try:
            stat = (self.path / "last.pt").stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_size, stat.st_mtime_ns

    def earlier(self, to: str, step: int) -> dict:
        """State to undo to: "last", the newest before `step`, or "best", the best epoch's; TrainingError if none is."""
        if to == "best":
            if not (self.path / "best_state.pt").exists():
                raise TrainingError("no epoch is finished, so there is no best one to go back to")
            return read(self.path / "best_state.pt", "best_state.pt")
        if to != "last":
            raise TrainingError(f'undo({to!r}): give "last" or "best"')
        for _, state in readable(self.path, []):
            if state["step"] < step:
                return state
        raise TrainingError(
            f'no checkpoint before step {step} is left: undo("best") goes to the best epoch; another name for the run '
            "begins afresh"
        )

    def check_fits(self, state: dict, settings: dict, classes: list[str], data: dict[str, list]) -> None:
        """CheckpointError that names what differs from a checkpoint's state: network, classes or data."""
        where = f"{env.shown(self.path)}/last.pt"
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise CheckpointError(f"{where} is no checkpoint of this version: give the run another name")
        theirs = state["settings"]
        differ = [f"{k} {theirs[k]} (now {settings[k]})" for k in FIXED if theirs[k] != settings[k]]
        if state["classes"] != classes:
            differ.append(f"classes {', '.join(state['classes'])} (now {', '.join(classes)})")
        for split, (count, content) in data.items():
            if state["data"][split] != [count, content]:
                differ.append(f"{split} data: {state['data'][split][0]} images (now {count}, with other content)")
        if differ:
            raise CheckpointError(
                f"{where} was made with other {'; '.join(differ)}: "
                "give the run another name, Trainer(..., run='...') or --run NAME"
            )
