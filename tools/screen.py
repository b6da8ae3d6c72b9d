"""What the terminal shows while notebooks run: their own output, and a line that says where the run is."""

import shutil
from typing import TextIO

from .scrub import drawn


class Screen:
    """Passes a kernel's output through, line by line; on a terminal the last line is live."""

    def __init__(self, out: TextIO):
        self.out, self.live = out, out.isatty()
        self.status = ""  # where the run is
        self.begun: dict[str, str] = {}  # stream -> a line not ended yet, such as a progress bar

    def line(self, text: str) -> None:
        """Print a whole line above the live one."""
        self.out.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self._draw()

    def at(self, status: str) -> None:
        """Say where the run is; shown on a terminal only."""
        self.status = status
        self._draw()

    def stream(self, text: str, name: str = "stdout") -> None:
        """Output of a cell: whole lines are printed; of a line that rewrites itself the last state."""
        *lines, begun = (self.begun.get(name, "") + text).split("\n")
        self.begun[name] = begun if begun.endswith("\r") else begun.rsplit("\r", 1)[-1]
        for line in lines:
            self.line("    " + drawn(line))
        self._draw()

    def end(self) -> None:
        """A cell has ended: a line that it left open is whole now."""
        for name in [name for name, begun in self.begun.items() if begun.strip()]:
            self.stream("\n", name)
        self.begun.clear()

    def close(self) -> None:
        """Nothing is live any more."""
        self.end()
        self.at("")

    def _draw(self) -> None:
        """Rewrite the live line: an unfinished progress bar, else the status."""
        if self.live:
            begun = [text.strip("\r") for text in self.begun.values() if text.strip()]
            text = "    " + begun[-1] if begun else self.status
            self.out.write("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1])
        self.out.flush()
