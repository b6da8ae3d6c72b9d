"""Ctrl-C and Jupyter's stop button as a request that is granted between two steps."""

import signal
import threading
from types import FrameType


class Interrupt:
    """While it is entered, the first SIGINT only sets `asked`; a second one raises KeyboardInterrupt at once.

    An optimizer step that a KeyboardInterrupt cuts in two leaves weights and moments of different steps, so the
    loop looks at `asked` after each step instead. Outside the main thread signals do not arrive: nothing is changed.
    """

    def __init__(self):
        self.asked = False
        self.old = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self.old = signal.signal(signal.SIGINT, self.note)
        return self

    def __exit__(self, *error: object) -> None:
        if self.old is not None:
            signal.signal(signal.SIGINT, self.old)
            self.old = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler: remember the first, raise the second."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
