"""A training in a thread of its own, so that the notebook's kernel stays free."""

import threading
from collections.abc import Callable

from ..core import distributed
from . import steering


class Background:
    """The thread, its exception and what it has logged: a print in a thread is lost or lands in another cell.

    watchers: called with "step", "epoch", "note", "log" or "end", in the thread that trains.
    """

    def __init__(self):
        self.watchers: list[Callable[[str], None]] = []
        self.thread: threading.Thread | None = None  # while it works
        self.error: Exception | None = None  # until wait() raises it
        self.lines: list[str] = []
        self.printed = 0  # how many of them wait() has printed

    def forget(self) -> None:
        """Before the next training: no lines, no error."""
        self.lines.clear()
        self.printed, self.error = 0, None

    def start(self, work: Callable[[], None], name: str) -> None:
        """Run `work` in a thread; an exception of it is kept for wait() and logged as a line."""

        def run() -> None:
            try:
                work()
            except Exception as error:  # whatever it is: nobody else would ever see it
                self.error = error
                self.log(f"{type(error).__name__}: {error}")
            finally:
                self.thread = None
                self.notify("end")

        self.thread = threading.Thread(target=run, name=name, daemon=True)
        self.thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread's end; nothing if there is none, or the caller is in it."""
        thread = self.thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def wait(self, ask_to_stop: Callable[[], None]) -> None:
        """Wait for its end and print what it logs; an interrupt asks it to stop. Raises its exception."""
        thread = self.thread
        with steering.noted_signals() as signals:
            while thread is not None and thread.is_alive():
                thread.join(0.1)
                self._print_lines()
                if signals:
                    ask_to_stop()
        self._print_lines()
        error, self.error = self.error, None
        if error is not None:
            raise error

    def log(self, line: str) -> None:
        """Print in a cell; in the thread, keep the line for the panel and for wait(). Rank 0 alone speaks."""
        if distributed.rank() > 0:
            return
        if threading.current_thread() is self.thread:
            self.lines.append(line)
        else:
            print(line, flush=True)
        self.notify("log")

    def notify(self, event: str) -> None:
        """Call the watchers; one that fails is dropped, since a picture must not cost a training."""
        for watcher in list(self.watchers):
            try:
                watcher(event)
            except Exception as error:  # a fault in drawing, whatever it is
                if watcher in self.watchers:
                    self.watchers.remove(watcher)
                    self.log(f"the panel is left behind ({type(error).__name__}: {error}); training goes on")

    def _print_lines(self) -> None:
        """Print the lines that have come since the last call."""
        for line in self.lines[self.printed :]:
            print(line, flush=True)
            self.printed += 1
