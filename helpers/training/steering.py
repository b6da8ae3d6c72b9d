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
from pathlib import Path
from types import FrameType

from ..core import env
from ..core.errors import TrainingError

HIGHEST = 1e4  # a rate beyond it is a slip; a product of such rates could overflow
SIGTERM_WAIT = 20  # seconds that a background training has to save itself; Colab gives about thirty


class Signals:
    """While it is entered, the first SIGINT or SIGTERM only sets `asked`; a second SIGINT raises KeyboardInterrupt.

    An optimizer step that a KeyboardInterrupt cuts in two leaves weights and moments of different steps, so the
    loop looks at `asked` after each step instead. A SIGTERM is sent on when it is left: the process ends as it was
    told to, only later. Outside the main thread signals do not arrive: nothing is changed.
    ignore_repeat: no SIGINT raises. torchrun hands Ctrl-C on to processes that the terminal has told already.
    """

    def __init__(self, ignore_repeat: bool = False):
        self.asked, self.ignore_repeat = False, ignore_repeat
        self.terminated = False
        self.old: dict[int, object] = {}

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
        self.old: dict[int, object] = {}

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


class ControlFile:
    """control.json: {"lr": 1e-4, "stop": true} steers a run from a terminal or another machine.

    A file that is understood is deleted when it is read: that it is gone says that it was obeyed. Any other is
    reported once, left for its author to mend, and ignored.
    """

    def __init__(self, path: Path):
        self.path = path
        self.bad: tuple | None = None  # size and time of a file that was reported already

    def read(self) -> tuple[dict, str]:
        """The orders (lr: float, stop: "step" or "epoch"; empty if there is no new file) and what to report."""
        try:
            stat = self.path.stat()
        except OSError:
            return {}, ""  # there is none, which is the rule
        if self.bad == (stamp := (stat.st_size, stat.st_mtime_ns)):
            return {}, ""
        try:
            orders = check_orders(json.loads(self.path.read_bytes()[:65536]))
            self.path.unlink()
        except (ValueError, RecursionError, TrainingError, OSError) as error:
            self.bad = stamp
            return {}, (f"{env.shown(self.path)} is ignored ({error}): write for example "
                        '{"lr": 1e-4} or {"stop": true}')  # fmt: skip
        return orders, ""


def check_orders(orders: object) -> dict:
    """What control.json holds -> {"lr": float, "stop": "step" | "epoch"}; TrainingError says what is wrong."""
    if not isinstance(orders, dict):
        raise TrainingError("not an object in braces")
    if unknown := orders.keys() - {"lr", "stop"}:
        raise TrainingError(f"unknown key {sorted(unknown)[0]!r}")
    found = {}
    if (lr := orders.get("lr")) is not None:
        found["lr"] = check_rate(lr)
    stop = orders.get("stop", False)
    if not (isinstance(stop, bool) or stop == "epoch"):
        raise TrainingError('stop is true, false or "epoch"')
    if stop:
        found["stop"] = "epoch" if stop == "epoch" else "step"
    return found


def check_rate(rate: object) -> float:
    """A learning rate (Python's, numpy's, torch's) as a plain float; TrainingError if it is no number above 0."""
    rate = rate.item() if hasattr(rate, "item") else rate  # a number of numpy's makes a checkpoint unreadable
    number = isinstance(rate, (int, float)) and not isinstance(rate, bool)
    if not (number and 0 < rate <= HIGHEST):  # which no nan is
        raise TrainingError(f"a learning rate is a number above 0, at most {HIGHEST:g}, got {rate!r:.40}; nothing was "
                            "changed")  # fmt: skip
    return float(rate)


class ShutdownHandler:
    """Sees to it that trainings in background threads are saved when the process ends or is told to end."""

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
