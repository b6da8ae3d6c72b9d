"""What reaches a running training from outside: signals, a file, the reader's other cells."""

import atexit
import contextlib
import json
import os
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


class Signals:
    """While it is entered, the first SIGINT or SIGTERM only sets `asked`; a second SIGINT raises KeyboardInterrupt.

    An optimizer step that a KeyboardInterrupt cuts in two leaves weights and moments of different steps, so the
    loop looks at `asked` after each step instead. A SIGTERM is sent on when it is left: the process ends,
    only later. Outside the main thread signals do not arrive: nothing is changed.
    ignore_repeat: no SIGINT raises. torchrun hands Ctrl-C on to processes that the terminal has reached already.
    """

    def __init__(self, ignore_repeat: bool = False):
        self.asked, self.ignore_repeat = False, ignore_repeat
        self.terminated = False
        self.old: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, self.note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in reversed(self.old.items()):  # SIGINT last: it may raise as soon as it is back
            # None: a handler that was not set from Python, which cannot be put back from here
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.old = {}
        if self.terminated and not (self.ignore_repeat and error[0] is not None):  # an error ends the process by itself
            signal.raise_signal(signal.SIGTERM)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler: remember the first, raise at the second SIGINT."""
        if number == signal.SIGTERM:
            self.terminated = True
        elif self.asked and not self.ignore_repeat:
            raise KeyboardInterrupt
        self.asked = True


class DeferSignals:
    """While it is entered in the main thread, SIGINT and SIGTERM wait; what has come is sent on when it is left.

    A KeyboardInterrupt between taking a lock and the block that gives it back would keep the lock for ever.
    """

    def __init__(self):
        self.came: list[int] = []
        self.old: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.old[number] = signal.signal(number, lambda number, frame: self.came.append(number))

    def __exit__(self, *error: object) -> None:
        for number, handler in reversed(self.old.items()):
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for number in dict.fromkeys(self.came):
            signal.raise_signal(number)


class Gate:
    """Lets a training thread and the reader's cells take turns: whoever waits gets in before the next step.

    A plain lock would be taken again by the training at once, and a cell would wait for ever.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.waiting = 0
        self.count = threading.Lock()  # guards `waiting`

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
        with DeferSignals():
            with self.count:
                self.waiting += 1
            try:
                self.lock.acquire()
            finally:
                with self.count:
                    self.waiting -= 1
            try:
                yield
            finally:
                self.lock.release()


class StopAfter(IntEnum):
    """After what a training is to stop: the larger, the sooner."""

    NOTHING = 0
    EPOCH = 1
    STEP = 2


class ControlFile:
    """control.json: {"lr": 1e-4, "stop": true} steers a run from a terminal or another machine.

    A file that is understood is deleted when it is read: that it is gone says that it was followed. Any other is
    reported once, left for its author to mend, and ignored.
    """

    def __init__(self, path: Path):
        self.path = path
        self.bad: tuple | None = None  # size and time of a file that was reported already

    def read(self) -> tuple[dict, str]:
        """The commands (lr: float, stop: StopAfter; empty if there is no new file) and what to report."""
        try:
            stat = self.path.stat()
        except OSError:
            return {}, ""  # there is none, which is the rule
        if self.bad == (stamp := (stat.st_size, stat.st_mtime_ns)):
            return {}, ""
        try:
            commands = check_commands(json.loads(self.path.read_bytes()[:65536]))
            self.path.unlink()
        except (ValueError, RecursionError, TrainingError, OSError) as error:
            self.bad = stamp
            example = '{"lr": 1e-4} or {"stop": true}'
            return {}, f"{env.shown(self.path)} is ignored ({error}): write for example {example}"
        return commands, ""


def check_commands(commands: object) -> dict:
    """What control.json holds -> {"lr": float, "stop": StopAfter}; TrainingError says what is wrong."""
    if not isinstance(commands, dict):
        raise TrainingError("not an object in braces")
    if unknown := commands.keys() - {"lr", "stop"}:
        raise TrainingError(f"unknown key {sorted(unknown)[0]!r}")
    found: dict = {}
    if (lr := commands.get("lr")) is not None:
        found["lr"] = check_rate(lr)
    stop = commands.get("stop", False)
    if not (isinstance(stop, bool) or stop == "epoch"):
        raise TrainingError('stop is true, false or "epoch"')
    if stop:
        found["stop"] = StopAfter.EPOCH if stop == "epoch" else StopAfter.STEP
    return found


def check_rate(rate: object) -> float:
    """A learning rate (Python's, numpy's, torch's) as a plain float; TrainingError if it is no number above 0."""
    rate = rate.item() if hasattr(rate, "item") else rate  # a number of numpy's makes a checkpoint unreadable
    if isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 < rate <= HIGHEST:
        return float(rate)
    raise TrainingError(
        f"a learning rate is a number above 0, at most {HIGHEST:g}, got {rate!r:.40}; nothing was changed"
    )


class Steering:
    """What asks a running training to stop or to change its rate: signals, control.json, the reader's other cells."""

    def __init__(self, control: Path, log: Callable[[str], None]):
        self.stop_after = StopAfter.NOTHING
        self.signals: Signals | None = None  # while fit runs in a cell
        self.control_file, self.log = ControlFile(control), log
        self.looked = time.monotonic()

    @contextlib.contextmanager
    def catching_signals(self) -> Iterator[None]:
        """Within, an interrupt asks for a stop after the step."""
        with Signals(ignore_repeat=distributed.world_size() > 1) as signals:
            self.signals = signals
            try:
                yield
            finally:
                self.signals = None

    def should_stop(self, epoch_done: bool) -> bool:
        """Whether to stop now, between two steps; of several ranks all answer the same."""
        if self.stop_after == StopAfter.STEP or (self.stop_after == StopAfter.EPOCH and epoch_done):
            return True
        return self._interrupted() and distributed.world_size() == 1  # several ranks: as poll agreed

    def poll(self, look: bool, save: bool = False) -> tuple[float, bool]:
        """Follow control.json if `look`; -> the rate that it asks for (0: none) and `save`, the same on all ranks.

        Rank 0 reads the file; a signal may have reached any rank.
        """
        commands = self._read_commands() if look and distributed.rank() == 0 else {}
        if "stop" in commands:  # else another thread's request, made in this moment, would be lost
            self.stop_after = max(self.stop_after, commands["stop"])
        if distributed.world_size() == 1:
            return commands.get("lr", 0.0), save
        stop = StopAfter.STEP if self._interrupted() else self.stop_after
        rate, latest, due = distributed.all_reduce_max(commands.get("lr", 0.0), stop, save)
        self.stop_after = StopAfter(int(latest))
        return rate, bool(due)

    def _interrupted(self) -> bool:
        """Whether a signal has come."""
        return self.signals is not None and self.signals.asked

    def _read_commands(self) -> dict:
        """What control.json asks for, logged."""
        self.looked = time.monotonic()
        commands, report = self.control_file.read()
        if report:
            self.log(report)
        if commands:
            asked = {k: v.name.lower() if isinstance(v, StopAfter) else v for k, v in commands.items()}
            self.log(f"control.json: {', '.join(f'{key} {value}' for key, value in asked.items())}")
        return commands


class ShutdownHandler:
    """Sees to it that trainings in background threads are saved when the process ends or gets SIGTERM."""

    def __init__(self):
        self.running: weakref.WeakSet = weakref.WeakSet()  # objects with pause(timeout)
        self.installed = False
        self.old: Callable | int | None = None

    def register(self, training: object) -> None:
        """Pause `training` at SIGTERM and at the interpreter's exit, as long as it lives."""
        self.running.add(training)
        if not self.installed:
            atexit.register(self.pause_all)
            self.installed = True
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGTERM)
            if handler != self.terminate:
                self.old = signal.signal(signal.SIGTERM, self.terminate)

    def pause_all(self) -> None:
        """Stop every one after its step, saved."""
        for training in list(self.running):
            training.pause(SIGTERM_WAIT)

    def terminate(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGTERM: save, then end as before."""
        self.pause_all()
        signal.signal(signal.SIGTERM, self.old if self.old is not None else signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


SHUTDOWN = ShutdownHandler()
