"""Makes an executed notebook fit to be committed: no progress bars, widgets, times or machine paths in it."""

import json
import re
import sys
import tempfile
from pathlib import Path

from nbformat import NotebookNode

from .setup_cell import REPO

WIDGET = "application/vnd.jupyter.widget-view+json"
LIMIT = 1_500_000  # bytes of a file: GitHub shows no larger notebook well
PROGRESS = re.compile(r"\d+%\||\d+it/s|\dit \[")  # what a tqdm bar looks like
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
# Places that exist on one machine only, whoever's it is; and object addresses, new in every run.
FOREIGN = r"/(home|Users|tmp|content)/\w|\b[A-Z]:\\+Users|site-packages|\bat 0x[0-9a-f]{6,}"


def drawn(text: str) -> str:
    """What a terminal would show of a stream: a carriage return starts its line again."""
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n"))


def without_progress(text: str) -> str:
    """A stderr stream without its progress bars; a warning stays."""
    kept = "\n".join(line for line in drawn(text).split("\n") if not PROGRESS.search(line)).strip("\n")
    return kept if kept.strip() else ""  # a bar that cleared itself leaves blanks


def is_widget(output: NotebookNode) -> bool:
    """A widget is dead in a file: nothing stands behind it."""
    return WIDGET in output.get("data", {})


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs with the pieces of one stream put together: a bar's carriage return acts on the piece before it."""
    whole: list[NotebookNode] = []
    for output in outputs:
        last = whole[-1] if whole else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            whole.append(output)
    return whole


def tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Outputs without progress and widgets, of which a picture stays; streams that then stand side by side joined."""
    kept: list[NotebookNode] = []
    for output in joined(outputs):
        if output.output_type == "stream":
            output.text = without_progress(output.text) if output.name == "stderr" else drawn(output.text)
        if is_widget(output) and "image/png" in output.data:
            del output.data[WIDGET]
        if not is_widget(output) and not (output.output_type == "stream" and not output.text):
            kept.append(output)
    return joined(kept)


def scrub(notebook: NotebookNode, number: str) -> None:
    """Change the notebook in place; cell ids become those that the same notebook always gets."""
    notebook.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{number}-{index:02d}"
        cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k == "tags"})
        if cell.cell_type == "code":
            cell.outputs = tidy(cell.outputs)


def own_paths() -> set[str]:
    """This machine's places, as they would show in an output."""
    places = {REPO, Path.home(), Path(tempfile.gettempdir()), Path(sys.prefix)}
    return {str(place) for place in places if place != Path(place.anchor)}


def output_text(output: NotebookNode) -> str:
    """All of an output but its pictures."""
    data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
    return json.dumps({**output, "data": data}, ensure_ascii=False)


def output_faults(output: NotebookNode, places: re.Pattern) -> list[str]:
    """What must not be committed of one output."""
    found = [f"error {output.ename}"] if output.output_type == "error" else []
    found += ["a saved widget"] if is_widget(output) else []
    found += ["a progress bar"] if PROGRESS.search(output.get("text", "")) else []
    place = places.search(output_text(output))
    return found + ([f"an output holds {place[0]!r}"] if place else [])


def faults(notebook: NotebookNode) -> list[str]:
    """What must not be committed, one line each: an unexecuted cell, an error, a widget, a machine's path."""
    found = ["metadata: saved widgets"] if "widgets" in notebook.metadata else []
    places = re.compile("|".join([FOREIGN, *(re.escape(p) + r"(?!\w)" for p in own_paths())]))
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code":
            continue
        if not cell.execution_count:
            found.append(f"cell {index}: not executed")
        found += [f"cell {index}: {what}" for output in cell.outputs for what in output_faults(output, places)]
    return found
