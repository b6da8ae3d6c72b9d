"""Executes the notebooks in order with this very Python, shows how far they are, keeps what came out."""

import argparse
import asyncio
import base64
import os
import re
import signal
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm
from traitlets.config import Config

from helpers import catalog
from helpers.core import files

from . import scrub
from .setup_cell import NOTEBOOKS, REPO

SCORE = re.compile(r"(?m)^(f1_[\w ]+|mean_iou|accuracy)=(\d\.\d{4}|nan)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def kernel_env(release: str | None, scale: str | None, scratch: Path, dataset: str | None = None) -> dict[str, str]:
    """The environment of the notebooks: the arguments decide what runs, not the reader's shell."""
    foreign = {"RELEASE", "DATASET", "SCALE", "MPLBACKEND", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"}
    env = {name: value for name, value in os.environ.items() if name not in foreign}
    env |= {"PYTHONHASHSEED": "0", "IPYTHONDIR": str(scratch)}  # no reader's start-up files
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # silences a debugger's warning in each kernel
    given = {"RELEASE": release and str(Path(release).expanduser().resolve()), "SCALE": scale, "DATASET": dataset}
    return env | {name: value for name, value in given.items() if value}


class Client(NotebookClient):
    """A NotebookClient that shows the last line that a cell printed, such as an epoch's, beside a bar."""

    bar: tqdm

    def process_message(self, msg: dict, cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Show it, then keep it."""
        if msg["msg_type"] == "stream" and (text := scrub.drawn(msg["content"]["text"]).strip()):
            self.bar.set_postfix_str(text.splitlines()[-1])
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, label: str, env: dict[str, str], out: Path) -> NotebookNode:
    """Run one notebook from nothing and keep what came out, also after an error; SystemExit says what went wrong."""
    notebook, begun = nbformat.read(path, as_version=4), time.monotonic()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.update(outputs=[], execution_count=None)
    client = Client(
        notebook,
        kernel_name="python3",
        config=Config({"KernelSpecManager": {"kernel_dirs": []}}),  # this Python, whatever else is registered
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=40"],  # its warnings are not about our notebooks
        timeout=None,
        store_widget_state=False,
        record_timing=False,
        shutdown_kernel="immediate",
    )
    # Ctrl-C becomes KeyboardInterrupt again: nbclient's own handler leaves a traceback.
    client.on_notebook_start = lambda notebook: asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    shown = "{desc}: {n_fmt} of {total_fmt} cells, {elapsed}{postfix}"
    with tqdm(total=len(code), desc=label, bar_format=shown, leave=False, disable=None, dynamic_ncols=True) as bar:
        client.bar = bar
        client.on_cell_executed = lambda cell, cell_index, execute_reply: bar.update()
        try:
            client.execute(env=env)
        except (CellExecutionError, DeadKernelError) as error:
            raise SystemExit(explain(notebook, path.name, error)) from None
        except KeyboardInterrupt:
            raise SystemExit(f"interrupted: {path.name}") from None
        finally:
            keep(notebook, path, out)
    print(f"{label}: {len(code)} cells in {time.monotonic() - begun:.0f} s", flush=True)
    return notebook


def keep(notebook: NotebookNode, path: Path, out: Path) -> None:
    """Write the executed notebook and its pictures under `out`."""
    files.write_atomic(out / "notebooks" / path.name, encoded(notebook))
    shown = (output.get("data", {}).get("image/png") for cell in notebook.cells for output in cell.get("outputs", []))
    for number, png in enumerate(filter(None, shown), 1):
        files.write_atomic(out / "figures" / f"{path.stem[:2]}_{number}.png", base64.b64decode(png))


def encoded(notebook: NotebookNode) -> bytes:
    """The notebook's file."""
    return (nbformat.writes(notebook) + "\n").encode()


def explain(notebook: NotebookNode, name: str, error: Exception) -> str:
    """Where it failed, and the end of the traceback."""
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                trace = ANSI.sub("", "\n".join(output.traceback)).rstrip().splitlines()
                return "\n".join([f"error: {name}, cell {index}", *trace[-20:]])
    return f"error: {name}: the kernel died; is there enough memory? ({error})"


def write_back(executed: dict[Path, NotebookNode]) -> None:
    """Scrub all notebooks and write them over their sources, or none: SystemExit with what forbids it."""
    for path, notebook in executed.items():
        scrub.scrub(notebook, path.stem[:2])
    problems = [f"{path.name}: {fault}" for path, notebook in executed.items() for fault in scrub.faults(notebook)]
    if problems:
        raise SystemExit("\n".join(["error: notebooks/ is left as it was:", *problems]))
    for path, notebook in executed.items():
        files.write_atomic(path, encoded(notebook))


def main() -> None:
    """The command line; exit status 1 on any error."""
    parser = argparse.ArgumentParser(prog="python -m tools.run_notebooks", description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all six, in order")
    parser.add_argument("--dataset", choices=list(catalog.CATALOG), help="default: helen")
    parser.add_argument("--release", help="folder or archive of a release; default: synthetic samples")
    parser.add_argument("--scale", choices=["smoke", "demo", "full"], help="default: as helpers/ choose")
    parser.add_argument("--out", type=Path, default=REPO / "build", help="where the results go")
    parser.add_argument("--in-place", action="store_true", help="write scrubbed outputs into the notebooks")
    chosen = parser.parse_args()
    if chosen.release and not Path(chosen.release).expanduser().exists():
        parser.error(f"RELEASE: there is no {chosen.release}")
    paths, out = [path.resolve() for path in chosen.notebooks], chosen.out.resolve()
    paths = paths or sorted(NOTEBOOKS.glob("0*.ipynb"))
    executed = {}
    with tempfile.TemporaryDirectory(prefix="unet-ipython-") as scratch:
        env = kernel_env(chosen.release, chosen.scale, Path(scratch), chosen.dataset)
        for number, path in enumerate(paths, 1):
            executed[path] = execute(path, f"[{number}/{len(paths)}] {path.stem}", env, out)
    outputs = [output for cell in executed[paths[-1]].cells for output in cell.get("outputs", [])]
    scores = SCORE.findall("".join(output.text for output in outputs if output.output_type == "stream"))
    if chosen.in_place:
        write_back(executed)
    if not scores:
        raise SystemExit(f"error: {paths[-1].name} printed no f1_<name>= line")
    for name, value in scores:
        print(f"{name}={value}")
    shown = out.relative_to(REPO) if out.is_relative_to(REPO) else out
    print(f"Look at the executed notebooks in {shown}/notebooks and their pictures in {shown}/figures.")


if __name__ == "__main__":
    main()
