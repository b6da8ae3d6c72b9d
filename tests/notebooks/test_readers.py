"""A reader opens one notebook alone, or stops the training: one sentence says so, no cell ends in red."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from tools import run_notebooks, scrub, setup_cell

NAMES = [path.name for path in sorted(setup_cell.NOTEBOOKS.glob("0*.ipynb"))]
# Jupyter's stop button after each fit's first step: SIGINT in the kernel.
STOP = """
import signal
trainer.watchers.append(lambda event: event == "step" and signal.raise_signal(signal.SIGINT))
"""


def run(
    name: str, home: Path, before: dict[str, str] | None = None, dataset: str | None = None, solve: bool = False
) -> str:
    """Execute a notebook from notebooks/ at smoke scale, with code before the cells that hold a text -> its stdout.

    solve: the code of the folded solutions runs after it. No cell may end in an error or write to stderr.
    """
    notebook = nbformat.read(setup_cell.NOTEBOOKS / name, as_version=4)
    if solve:
        folded = [cell.source.partition("<details>")[2] for cell in notebook.cells if cell.cell_type == "markdown"]
        solutions = [code for text in folded for code in re.findall(r"```python\n(.*?)```", text, re.S)]
        assert solutions, "no exercise has a solution in code"
        notebook.cells += [nbformat.v4.new_code_cell(code) for code in solutions]
    for cell in notebook.cells:
        for text, code in (before or {}).items():
            if cell.cell_type == "code" and text in cell.source:
                cell.source = f"{code}\n{cell.source}"
    env = run_notebooks.kernel_env(None, "smoke", home / "ipython", dataset) | {"UNET_HOME": str(home)}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        config=Config({"KernelSpecManager": {"kernel_dirs": []}}),
        resources={"metadata": {"path": str(setup_cell.NOTEBOOKS)}},
        allow_errors=True,
        timeout=300,
    )
    client.execute(env=env)
    streams = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    assert not [output.text for output in streams if output.name == "stderr"]
    scrub.scrub(notebook, name[:2])
    assert scrub.faults(notebook) == []  # an error, a bar that stays
    return "".join(output.text for output in streams)


@pytest.mark.parametrize("name", NAMES)
def test_each_runs_when_opened_first(name, tmp_path):
    """In a fresh home it does 01's work and says so; 05 and 06 use the weights that come with the project."""
    text = run(name, tmp_path, solve=True)
    assert ("so we do its work first. No release found" in text) == (name[:2] != "01")
    assert ("weights: weights/helen-demo.pt" in text) == (name[:2] in {"05", "06"})


def test_without_weights_one_epoch_is_trained(tmp_path):
    """For streets none come with the project."""
    text = run("05_visualize.ipynb", tmp_path, dataset="camvid")
    assert "so we train one first" in text and "epoch   1/1" in text
    assert "weights: runs/camvid/tuned-smoke-synthetic/best.pt" in text


def test_a_stop_in_the_first_epoch_breaks_no_later_cell(tmp_path):
    text = run("04_dice_train.ipynb", tmp_path, {"trainer.fit(settings.epochs)": STOP})
    assert "stopped at epoch 0." in text and "epoch   1/2" not in text
    assert text.count("No epoch is finished yet") == 2
