"""A run's folder: one training at a time, checkpoints that are whole, resume, undo, export."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..core import distributed, env, files
from ..core.errors import CheckpointError, DataError, TrainingError
from . import checkpoint

FORMAT = 3  # of the checkpoint
# A checkpoint goes on with no other network, optimizer or order of the data; all else may be changed on the way.
FIXED = ("dataset", "size", "columns", "width", "depth", "norm", "slope", "up", "mean", "std", "optimizer", "seed")


class RunFolder:
    """Checkpoints of one run under runs/<dataset>/<run>/. Of several ranks the first alone reads and writes."""

    def __init__(self, dataset: str, run: str):
        if not re.fullmatch(r"[^\\/:]*[^\\/:.][^\\/:]*", run):
            raise DataError(f"run {run!r} is not a valid run name: give it a plain name, without / \\ and :")
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
        with checkpoint.explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with files.locked(self.path / ".lock", busy):
            for half in self.path.glob("*.tmp"):  # of a save that was killed; nobody else writes here now
                half.unlink()
            yield

    def save(self, state: dict, history_csv: str, best: bool = False, rotate: bool = True) -> None:
        """Write last.pt (the one before becomes previous.pt) and history.csv.

        best: keep it as best_state.pt too. CheckpointError if the disk is full: all earlier files are as they were.
        """
        moved = state["step"] != self.saved_step  # else previous.pt would be a second copy of the same step
        if distributed.rank() == 0:
            checkpoint.save(self.path / "last.pt", state, best, rotate and moved)
        self.saved_step, self.saved_at, self.stamp = state["step"], time.monotonic(), self._look()
        if distributed.rank() == 0:
            with checkpoint.explained(self.path / "history.csv"):
                files.write_atomic(self.path / "history.csv", history_csv.encode())

    def latest(self) -> tuple[dict, str] | None:
        """State of the newest readable checkpoint and a line that says which, on every rank; None if there is none."""
        return distributed.broadcast(checkpoint.latest(self.path) if distributed.rank() == 0 else None)

    def took_over(self, step: int) -> None:
        """Remember that the Trainer's state is now that of last.pt, at that step."""
        self.saved_step, self.stamp = step, self._look()

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
        if to not in ("last", "best"):
            raise TrainingError(f'undo({to!r}): give "last" or "best"')
        found = checkpoint.before(self.path, step) if to == "last" else checkpoint.best(self.path)
        if found is None:
            more = "no epoch is finished" if to == "best" else 'undo("best") goes to the best epoch'
            raise TrainingError(
                f"no checkpoint before step {step} is left: {more}; another name for the run begins afresh"
            )
        return found

    def forget_undone(self) -> None:
        """previous.pt becomes a copy of last.pt: what was undone never comes back. No link: a damage spares one."""
        with checkpoint.explained(self.path / "previous.pt"):
            files.write_atomic(self.path / "previous.pt", (self.path / "last.pt").read_bytes())

    def write_best(self, write: Callable[[Path], None]) -> None:
        """best.pt, the export of the best epoch's network, by `write`."""
        if distributed.rank() == 0:
            with checkpoint.explained(self.path / "best.pt"):
                write(self.path / "best.pt")

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
