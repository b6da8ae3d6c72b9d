"""A run while a reader works with it: pause, undo, commands, export; and what becomes of its faults."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from ..core import choice, distributed, files
from ..core.errors import TrainingError
from . import checkpoint, export, faults
from .run import Run
from .steering import StopAfter


class Session(Run):
    """What a reader or a fault does to a run. The loop itself, its batches, and what starts it are Trainer's."""

    feeds: dict[str, Any]  # split -> batches.Feed

    @property
    def running(self) -> bool:
        """Whether a background thread trains."""
        return self.background.thread is not None

    @property
    def error(self) -> Exception | None:
        """The exception that ended the background training, until wait() raises it."""
        return self.background.error

    def pause(self, timeout: float | None = None) -> None:
        """Stop the background training after its current step, saved, and wait for that; nothing if none runs."""
        if self.running:
            self.steering.stop_after = StopAfter.STEP
        self.background.join(timeout)

    def stop_after_epoch(self) -> bool:
        """Stop the training that runs when its current epoch is whole; False if none runs."""
        if self.training_thread is None:
            return False
        self.steering.stop_after = StopAfter.EPOCH
        return True

    def wait(self) -> Self:
        """Wait for the background training and print what it logs; an interrupt pauses it. Raises its exception."""
        self.background.wait(lambda: setattr(self.steering, "stop_after", StopAfter.STEP))
        return self

    def undo(self, to: str = "last") -> Self:
        """Back to the newest checkpoint before the present step, or to that of the best epoch (undo("best")).

        The weights, the place in the data, the history and the rate are then those of that moment.
        """
        self._check_idle()
        found = self.run_folder.earlier(to, self.step)
        left = f"epoch {self.progress:.2f}, step {self.step}"
        with self.run_folder.locked():
            self._restore(found)
            self._log_changes(found["settings"])
            self._note(f"undo from {left}")
            self.save()
            (self.folder / "previous.pt").unlink(missing_ok=True)  # what was undone never comes back
        self.background.notify("end")
        self.log(
            f"back at epoch {self.progress:.2f}, step {self.step}, from {left}; rate {self.lr:.1e}: set trainer.lr "
            "and go on with fit"
        )
        return self

    def export(self, path: Path) -> None:
        """Write the weights of the best epoch by validation as one file that predict.load takes anywhere.

        TrainingError if no epoch is finished, CheckpointError if best.pt is damaged.
        """
        best = self.folder / "best.pt"
        if not best.exists():
            raise TrainingError("no epoch is finished yet, so there is nothing to export: run fit first")
        export.read_export(best)  # a damaged file is named here, not by whoever gets it
        files.write_atomic(path, best.read_bytes())

    # ---- checks ----

    def _check_idle(self) -> None:
        """TrainingError if this Trainer trains already, in the background or in another thread."""
        if self.running or self.training_thread not in (None, threading.current_thread()):
            raise TrainingError(
                f"run {self.run} is training in the background: press Pause or call trainer.pause() first, "
                "or wait for its end by trainer.wait()"
            )

    def _check_same_on_all_ranks(self) -> None:
        """TrainingError on all ranks if another than the first has other settings or data."""
        mine = self.settings.asdict(), self._data()
        (differ,) = distributed.all_reduce_max(mine != distributed.broadcast(mine))
        if differ:
            raise TrainingError(
                "the ranks of this training have other settings or data on one of the hosts: give each the same "
                "command, and prepare the same data there"
            )

    # ---- a training's begin, commands and end ----

    def _start_from(self, where: Path | str) -> None:
        """A new run: with the weights of an export. One that was trained goes on with its own."""
        if self.run_folder.saved_step >= 0:
            self.log(f"run {self.run} goes on with its own weights: to start from {where}, give it another name")
            return
        line = export.take_over(self.model, self.settings, self.dataset.classes, where)
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())
        self.log(line)
        self._note(f"from {Path(str(where)).name}")

    def _begin(self, epochs: int) -> None:
        """Before a training, in the caller's thread: a pause that comes at once must find its flag untouched."""
        self._check_idle()
        self.target_epoch = epochs
        self.steering.forget()
        self.background.forget()

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[None]:
        """Within, this thread alone trains the run, from a good state; faults are explained."""
        with self.run_folder.locked():
            self.training_thread, self.run_folder.saved_at = threading.current_thread(), time.monotonic()
            try:
                with self._explained():
                    self._recover()
                    yield
            finally:
                self.training_thread, self.steering.stop_after = None, StopAfter.NOTHING

    def _recover(self) -> None:
        """Mend what an earlier cut or a full disk has left; see that there is a checkpoint to go back to."""
        moved, cut = distributed.all_reduce_max(self.run_folder.was_trained_elsewhere(), self.stepper.interrupted)
        if moved:
            self.log(f"run {self.run} was trained elsewhere since this Trainer last saw it")
        if cut or moved:
            self._resume()
        if self.pending_row is not None:
            self._write_epoch(self.pending_row)
        if self.run_folder.saved_step < 0:
            self.save()

    def _should_stop(self) -> bool:
        """Whether to stop now, between two steps."""
        return self.steering.should_stop(epoch_done=self.seen == 0)

    def _follow_commands(self, look: bool, save: bool = False) -> bool:
        """Set what control.json and signals ask for; -> save, the same on all ranks."""
        rate, save = self.steering.poll(look, save)
        if rate:
            self.lr = rate
        return save

    # ---- the best epoch ----

    def _write_epoch(self, row: dict) -> None:
        """best.pt where the epoch is the best so far, the checkpoint, the history."""
        before, score = self.best, self.records.monitored_score(row)
        self._check_good()
        try:
            if score > before:
                self._write_best(row)
                self.best = score
            self.save(score > before)
        except BaseException:
            self.best = before  # it is tried again
            raise
        self.pending_row = None

    def _write_best(self, row: dict) -> None:
        """best.pt, the export of these weights, with the epoch's scores.

        The weights of an early epoch know images of half the size, so that is their input.
        """
        if distributed.rank() > 0:
            return
        names = {self.dataset.column(name): name for name in (*self.dataset.rows, "mean_iou", "accuracy")}
        scores = {name: row[column] for column, name in names.items() if column in row}
        settings = self.settings
        if row["epoch"] <= self.records.half_size_epochs:
            rows, columns = (side // 2 for side in settings.shape)
            settings = settings.replace(size=rows, columns=columns, half_size_fraction=0.0)
        source, images = choice.source(self.dataset.name), len(self.arrays["train"])
        what = f"{self.dataset.title}, {source}, {images} images, epoch {row['epoch']}"
        path = self.folder / "best.pt"
        with checkpoint.explained(path):
            export.write_export(path, self.stepper.network.state_dict(), settings, scores, what)

    # ---- faults ----

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise TrainingError with what to try where memory runs out or another rank has died."""
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if faults.is_out_of_memory(error):
                self._out_of_memory(error)
            if not distributed.is_peer_lost(error):
                raise
            # not on a GPU, where the step that waits for the dead rank would have to end first
            if distributed.rank() == 0 and self.device.type == "cpu" and not self.stepper.interrupted:
                self.save()
                # at once: torchrun's SIGTERM, which is on its way, may come before the error is printed
                self.log(f"another rank has ended; saved at step {self.run_folder.saved_step}")
            saved = f"Saved at step {self.run_folder.saved_step}"
            raise TrainingError(distributed.peer_lost_message(error, saved)) from error

    def _out_of_memory(self, error: BaseException) -> None:
        """Save, and raise TrainingError with what to try; the weights are those of a whole step."""
        fault = (str(error) or type(error).__name__).splitlines()[0]
        faults.release_memory(error)
        for feed in self.feeds.values():
            feed.leave_device()
        what = f"out of memory on {self.device} after step {self.step}"
        if distributed.world_size() > 1:  # this process ends, and the others, which still wait for it, with it
            raise TrainingError(
                f"{what} on rank {distributed.rank()} ({fault}): give fewer images a step, --set batch=..."
            ) from None
        if self.stepper.interrupted:  # it was cut in the update: to the last checkpoint
            self._resume()
        elif self.training_thread is threading.current_thread():
            self.save()
        batch, size = self.settings.batch, " x ".join(map(str, self.settings.shape))
        advice = "a batch of one image does not fit: take a smaller size or width"
        if batch > 1:
            half = f"Trainer(settings.replace(batch={batch // 2}), arrays, run={self.run!r})"
            advice = f"try half the batch, {half}: it goes on from here"
        raise TrainingError(
            f"{what}, with batch {batch} at {size} px ({fault}). Nothing is lost, it is saved; {advice}"
        ) from None
