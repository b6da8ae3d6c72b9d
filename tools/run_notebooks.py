"""Executes the notebooks in order with this very Python, shows how far they are, keeps what came out."""

import argparse
import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from traitlets import default

from helpers import catalog
from helpers.core import files

from . import scrub
from .screen import Screen
from .setup_cell import NOTEBOOKS, REPO

SCORE = re.compile(r"(?m)^(f1_[\w ]+|mean_iou|accuracy)=(\d\.\d{4}|nan)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class OwnSpecs(KernelSpecManager):
    """Knows one kernel, this Python: a `python3` that someone registered elsewhere is not asked."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """The kernel of the running interpreter, whatever the name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class OwnKernel(AsyncKernelManager):
    """Starts that kernel."""

    @default("kernel_spec_manager")
    def _specs(self) -> OwnSpecs:
        return OwnSpecs(parent=self)


class InterruptedRun(Exception):  # nothing went wrong
    """Ctrl-C: the kernel's cell was interrupted, and no further one begins."""


class Client(NotebookClient):
    """A NotebookClient whose cells are seen while they run."""

    screen: Screen

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Show what a cell prints, then keep it."""
        if msg["msg_type"] == "stream":
            self.screen.stream(msg["content"]["text"], msg["content"]["name"])
        return super().process_message(msg, cell, cell_index)


class Memory(threading.Thread):
    """Watches the anonymous memory of a process and its children; memory-mapped files do not count."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.peak, self.done = pid, 0, threading.Event()

    def run(self) -> None:
        """Look twice a second until told to stop."""
        while not self.done.wait(0.5):
            self.peak = max(self.peak, tree_memory(self.pid))


def tree_memory(pid: int) -> int:
    """Anonymous bytes of a process and all below it; 0 where /proc does not tell."""
    total = 0
    with contextlib.suppress(OSError):  # it ended meanwhile, or this is no Linux
        text = Path(f"/proc/{pid}/status").read_text()
        total += 1024 * sum(map(int, re.findall(r"RssAnon:\s+(\d+)", text)))  # a process that ended has none
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(tree_memory(int(child)) for child in (task / "children").read_text().split())
    return total


def kernel_env(release: str | None, scale: str | None, scratch: Path, dataset: str | None = None) -> dict[str, str]:
    """The environment of the notebooks: theirs alone decides what runs, not the reader's shell."""
    foreign = {"RELEASE", "DATASET", "SCALE", "MPLBACKEND", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"}
    env = {k: v for k, v in os.environ.items() if k not in foreign}
    env |= {"PYTHONHASHSEED": "0", "IPYTHONDIR": str(scratch)}  # no reader's start-up files
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # silences a debugger's warning in each kernel
    if release:
        env["RELEASE"] = str(Path(release).expanduser().resolve())
    if scale:
        env["SCALE"] = scale
    if dataset:
        env["DATASET"] = dataset
    return env


class Run:
    """One notebook's way through a kernel."""

    def __init__(self, path: Path, label: str, screen: Screen):
        self.path, self.label, self.screen = path, label, screen
        self.original = path.read_bytes()
        self.notebook = nbformat.reads(self.original.decode(), as_version=4)
        self.code = [i for i, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]
        self.cell = 0  # index of the cell that runs
        self.seconds, self.memory = 0.0, 0
        self.interrupted = False

    def execute(self, env: dict[str, str]) -> None:
        """Run every cell from nothing; the notebook holds what came out, also after an error."""
        for index in self.code:
            self.notebook.cells[index].update(outputs=[], execution_count=None)
        client = Client(
            self.notebook, kernel_manager_class=OwnKernel, kernel_name="python3", coalesce_streams=False,
            timeout=None, store_widget_state=False, record_timing=False,
            on_cell_start=self._starts, on_cell_executed=self._ends,
            extra_arguments=["--IPKernelApp.log_level=40"],  # its warnings are not about our notebooks
            resources={"metadata": {"path": str(self.path.parent)}},
        )  # fmt: skip
        client.screen = self.screen
        client.on_notebook_start = lambda **_: self._begins(client.km.provisioner.pid)
        started, self.watcher = time.monotonic(), None
        try:
            client.execute(env=env)
        finally:
            self.screen.close()
            self.seconds = time.monotonic() - started
            self._unwatch()

    def _starts(self, cell: NotebookNode, cell_index: int) -> None:
        self.cell = cell_index
        if cell_index in self.code:
            self.screen.at(f"{self.label}  cell {self.code.index(cell_index) + 1} of {len(self.code)}")

    def _ends(self, **_) -> None:
        self.screen.end()
        if self.interrupted:  # the cell may have ended well, as a training does, which saves
            raise InterruptedRun

    def _begins(self, pid: int) -> None:
        self.watcher = Memory(pid)
        self.watcher.start()
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows; another thread than the main one
            # in place of nbclient's, which takes the kernel away from under the cell that runs
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._interrupt, pid)

    def _interrupt(self, pid: int) -> None:
        """Ctrl-C reaches this process alone: the kernel is in a session of its own."""
        self.interrupted = True
        os.kill(pid, signal.SIGINT)

    def _unwatch(self) -> None:
        if self.watcher:
            self.watcher.done.set()
            self.watcher.join()
            self.memory = self.watcher.peak

    def summary(self) -> str:
        """One line: cells, time, memory."""
        memory = f", {self.memory / 2**30:.2f} GiB" if self.memory else ""
        return f"{self.label}: {len(self.code)} cells in {self.seconds:.0f} s{memory}"

    def save(self, folder: Path) -> None:
        """Write the executed notebook and its pictures under `folder`."""
        files.write_atomic(folder / "notebooks" / self.path.name, encoded(self.notebook))
        for number, png in enumerate(pictures(self.notebook), 1):
            files.write_atomic(folder / "figures" / f"{self.path.stem[:2]}_{number}.png", png)


def encoded(notebook: NotebookNode) -> bytes:
    """The notebook's file."""
    return (nbformat.writes(notebook) + "\n").encode()


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    """All outputs in order."""
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def pictures(notebook: NotebookNode) -> list[bytes]:
    """The PNGs that the notebook shows, in order."""
    found = (output.get("data", {}).get("image/png") for output in outputs(notebook))
    return [base64.b64decode(png) for png in found if png]


def scores(notebook: NotebookNode) -> dict[str, str]:
    """f1_<name> -> number, as the notebook printed them."""
    streams = (output.text for output in outputs(notebook) if output.output_type == "stream")
    return dict(SCORE.findall("".join(streams)))


def explain(run: Run, error: Exception) -> str:
    """What failed, where, and the end of the traceback."""
    cell = run.notebook.cells[run.cell]
    if run.interrupted:
        return f"interrupted: {run.path.name}, code cell {run.code.index(run.cell) + 1}"
    where = f"error: {run.path.name}, cell {run.cell} (code cell {run.code.index(run.cell) + 1})"
    source = "\n".join("    " + line for line in cell.source.splitlines()[:8])
    if isinstance(error, DeadKernelError):
        return f"{where}: the kernel died; is there enough memory?\n{source}"
    raised = [output for output in cell.outputs if output.output_type == "error"]
    trace = ANSI.sub("", "\n".join(raised[-1].traceback) if raised else str(error))
    return f"{where}\n{source}\n\n" + "\n".join(trace.rstrip().splitlines()[-20:])


def write_back(runs: list[Run]) -> list[str]:
    """Scrub all notebooks and write them over their sources, or none: then what forbids it, one line each."""
    problems = []
    for run in runs:
        scrub.scrub(run.notebook, run.path.stem[:2])
        problems += [f"{run.path.name}: {fault}" for fault in scrub.faults(run.notebook)]
        if (size := len(encoded(run.notebook))) >= scrub.LIMIT:
            problems.append(f"{run.path.name}: {size / 1e6:.2f} MB, the limit is {scrub.LIMIT / 1e6} MB")
        if run.path.read_bytes() != run.original:
            problems.append(f"{run.path.name}: changed on disk while it ran")
    if not problems:
        for run in runs:
            files.write_atomic(run.path, encoded(run.notebook))
    return problems


def execute_all(paths: list[Path], env: dict[str, str], out: Path, screen: Screen) -> list[Run] | None:
    """Run the notebooks one by one, each saved as soon as it ends; None after an error, which is shown."""
    runs = []
    for number, path in enumerate(paths, 1):
        run = Run(path, f"[{number}/{len(paths)}] {path.stem}", screen)
        screen.line(run.label)
        try:
            run.execute(env)
        except (CellExecutionError, DeadKernelError, InterruptedRun) as error:
            screen.line(explain(run, error))
            return None
        finally:
            run.save(out)
        screen.line(run.summary())
        runs.append(run)
    return runs


def report(runs: list[Run], out: Path, screen: Screen) -> int:
    """The last lines: time and memory, the scores, where to look; 1 if there are no scores."""
    seconds = sum(run.seconds for run in runs)
    peak = max(run.memory for run in runs) / 2**30
    screen.line(f"{len(runs)} notebooks: {seconds:.0f} s, at most {peak:.2f} GiB of anonymous memory")
    found = scores(runs[-1].notebook)
    for name, value in found.items():
        screen.line(f"{name}={value}")
    if not found:
        screen.line(f"error: {runs[-1].path.name} printed no f1_<name>= line")
        return 1
    shown = out.relative_to(REPO) if out.is_relative_to(REPO) else out
    screen.line(f"Look at the executed notebooks in {shown}/notebooks and their pictures in {shown}/figures.")
    return 0


def options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.run_notebooks", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all six, in order")
    parser.add_argument("--dataset", choices=list(catalog.CATALOG), help="helen unless said otherwise")
    parser.add_argument("--release", help="folder or archive of a release; default: samples are drawn")
    parser.add_argument("--scale", choices=["smoke", "demo", "full"], help="default: as helpers/ choose")
    parser.add_argument("--out", type=Path, default=REPO / "build", help="where the results go")
    parser.add_argument("--in-place", action="store_true", help="write scrubbed outputs into the notebooks")
    chosen = parser.parse_args(arguments)
    if chosen.release and not Path(chosen.release).expanduser().exists():
        parser.error(f"RELEASE: there is no {chosen.release}")
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Run, show, keep; 1 on any error."""
    chosen, screen = options(arguments), Screen(sys.stdout)
    paths = [path.resolve() for path in chosen.notebooks] or sorted(NOTEBOOKS.glob("0*.ipynb"))
    if not paths:
        screen.line(f"error: no notebooks in {NOTEBOOKS}")
        return 1
    scratch = Path(tempfile.mkdtemp(prefix="unet-ipython-"))
    try:
        env = kernel_env(chosen.release, chosen.scale, scratch, chosen.dataset)
        runs = execute_all(paths, env, chosen.out.resolve(), screen)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if runs is None:
        return 1
    if chosen.in_place and (problems := write_back(runs)):
        screen.line("error: notebooks/ is left as it was:\n" + "\n".join(problems))
        return 1
    return report(runs, chosen.out.resolve(), screen)


if __name__ == "__main__":
    sys.exit(main())
