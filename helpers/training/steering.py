"""What reaches a running training from outside: signals, a file, the reader's other cells."""

import atexit
import contextlib
import json
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any

from ..core import distributed, env
from ..core.errors import TrainingError

HIGHEST = 1e4  # a rate beyond it is a slip; a product of such rates could overflow
SIGTERM_WAIT = 20  # seconds that a background training has to save itself; Colab gives about thirty


@contextlib.contextmanager
def handled_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Within, SIGINT and SIGTERM go to `handler`; nothing outside the main thread, where no signal arrives."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in reversed(old.items()):  # SIGINT last: it may raise as soon as it is back
            signal.signal(number, before)


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Within, the first SIGINT or SIGTERM is only added to the list; a second SIGINT raises KeyboardInterrupt.

    An optimizer step that a KeyboardInterrupt cuts in two leaves weights and moments of different steps, so the
    loop looks at the list after each step instead. A SIGTERM is sent on at the end: the process ends, only later.
    """
    came: list[int] = []
    # no SIGINT raises there: torchrun hands Ctrl-C on to processes that the terminal has reached already
    several_ranks = distributed.world_size() > 1

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and came and not several_ranks:
            raise KeyboardInterrupt
        came.append(number)

    failed = True
    try:
        with handled_by(note):
            yield came
        failed = False
    finally:
        if signal.SIGTERM in came and not (failed and several_ranks):  # a failed rank ends by itself, with its message
            signal.raise_signal(signal.SIGTERM)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Within, SIGINT and SIGTERM wait; what has come is sent on at the end.

    A KeyboardInterrupt between taking a lock and the block that gives it back would keep the lock for ever.
    """
    came: list[int] = []
    try:
        with handled_by(lambda number, frame: came.append(number)):
            yield
    finally:
        for number in dict.fromkeys(came):
            signal.raise_signal(number)


class Gate:
    """Lets a training thread and the reader's cells take turns: whoever waits gets in before the next step.

    A plain lock would be taken again by the training at once, and a cell would wait for ever.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.waiting: list[bool] = []  # an entry for each cell; append and pop are atomic

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """The training's turn: one step, whole."""
        while self.waiting:
            time.sleep(1e-4)
        with self.lock:
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """A cell's turn: between two steps, with all that belongs to one step consistent; signals come after it."""
        with deferred_signals():
            self.waiting.append(True)
            with self.lock:
                self.waiting.pop()
                yield


class StopAfter(IntEnum):
    """After what a training is to stop: the larger, the sooner."""

    NOTHING = 0
    EPOCH = 1
    STEP = 2


def check_rate(rate: object) -> float:
    """A learning rate (Python's, numpy's, torch's) as a plain float; TrainingError if it is no number above 0."""
    rate = rate.item() if hasattr(rate, "item") else rate  # a number of numpy's makes a checkpoint unreadable
    if isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate <= HIGHEST:
        return float(rate)
    raise TrainingError(
        f"a learning rate is a number above 0, at most {HIGHEST:g}, got {rate!r:.40}; nothing was changed"
    )


def read_commands(text: str) -> tuple[float, StopAfter]:
    """{"lr": 1e-4, "stop": true} -> the rate (0: as it was) and when to stop; ValueError or TrainingError if not so."""
    commands = json.loads(text)
    if not isinstance(commands, dict) or commands.keys() - {"lr", "stop"}:
        raise TrainingError('not an object in braces with the keys "lr" and "stop"')
    stop = commands.get("stop", False)
    if stop not in (True, False, "epoch"):
        raise TrainingError('stop is true, false or "epoch"')
    after = StopAfter.EPOCH if stop == "epoch" else StopAfter.STEP if stop else StopAfter.NOTHING
    return check_rate(commands["lr"]) if "lr" in commands else 0.0, after


class Steering:
    """What asks a running training to stop or to change its rate: signals, control.json, the reader's other cells."""

    def __init__(self, control: Path, log: Callable[[str], None]):
        self.control, self.log = control, log
        self.stop_after = StopAfter.NOTHING
        self.signals: list[int] = []  # that have come since fit began in a cell
        self.looked = time.monotonic()
        self.reported: tuple | None = None  # size and time of a control.json that is wrong

    def forget(self) -> None:
        """Before the next training: nobody has asked for anything."""
        self.stop_after, self.signals = StopAfter.NOTHING, []

    def should_stop(self, epoch_done: bool) -> bool:
        """Whether to stop now, between two steps; of several ranks all answer the same."""
        if self.stop_after == StopAfter.STEP or (self.stop_after == StopAfter.EPOCH and epoch_done):
            return True
        return bool(self.signals) and distributed.world_size() == 1  # several ranks: as poll agreed

    def poll(self, look: bool, save: bool = False) -> tuple[float, bool]:
        """Follow control.json if `look`; -> the rate that it asks for (0: none) and `save`, the same on all ranks.

        Rank 0 reads the file; a signal may have reached any rank.
        """
        rate = self._follow_file() if look and distributed.rank() == 0 else 0.0
        if distributed.world_size() == 1:
            return rate, save
        stop = StopAfter.STEP if self.signals else self.stop_after
        rate, latest, due = distributed.all_reduce_max(rate, stop, save)
        self.stop_after = StopAfter(int(latest))
        return rate, bool(due)

    def _follow_file(self) -> float:
        """Stop when control.json says so; -> the rate that it asks for, 0 if none.

        A file that is understood is deleted: that it is gone says that it was followed. Any other is reported once,
        left for its author to mend, and ignored.
        """
        self.looked = time.monotonic()
        try:
            stat = self.control.stat()
        except OSError:
            return 0.0  # there is none, which is the rule
        if self.reported == (stamp := (stat.st_size, stat.st_mtime_ns)):
            return 0.0
        try:
            text = self.control.read_text("utf-8")
            rate, stop = read_commands(text)
            self.control.unlink()
        except (ValueError, RecursionError, TrainingError, OSError) as error:
            self.reported = stamp
            example = '{"lr": 1e-4} or {"stop": true}'
            self.log(f"{env.shown(self.control)} is ignored ({error}): write for example {example}")
            return 0.0
        self.log(f"control.json: {text.strip()}")
        if stop:  # else another thread's request, made in this moment, would be lost
            self.stop_after = max(self.stop_after, stop)
        return rate


class ShutdownHandler:
    """Sees to it that trainings in background threads are saved when the process ends or gets SIGTERM."""

    def __init__(self):
        self.running: weakref.WeakSet = weakref.WeakSet()  # objects with pause(timeout)
        atexit.register(self.pause_all)

    def register(self, training: object) -> None:
        """Pause `training` at SIGTERM and at the interpreter's exit, as long as it lives."""
        self.running.add(training)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.terminate)

    def pause_all(self) -> None:
        """Stop every one after its step, saved."""
        for training in list(self.running):
            training.pause(SIGTERM_WAIT)

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM: save, then end."""
        self.pause_all()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


SHUTDOWN = ShutdownHandler()
