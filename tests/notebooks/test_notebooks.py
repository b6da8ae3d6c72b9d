"""The six notebooks: executed by nbval at smoke scale in a copy of this repository, and as committed."""

import datetime
import os
import re
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from nbformat import NotebookNode

from helpers.core import files
from tools import run_notebooks, scrub, setup_cell

REPO = setup_cell.REPO
NAMES = [
    "01_restructure_data.ipynb",
    "02_preprocess.ipynb",
    "03_model.ipynb",
    "04_dice_train.ipynb",
    "05_visualize.ipynb",
    "06_f1_eval.ipynb",
]
CHECK = "nbval-check-output"
# What a reader may have in the repository when they call `make test`.
THEIRS = (
    "data/helenstar_release/train/1_image.jpg",
    "data/splitted_data/helen/train/images/1.jpg",
    "data/arrays/helen/64/train/images.npy",
    "runs/helen/tuned-smoke/last.pt",
    "runs/helen/tuned-demo/history.csv",
)


def read(name: str) -> NotebookNode:
    """A committed notebook."""
    return nbformat.read(REPO / "notebooks" / name, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Its code cells, in nbval's numbering."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_checked(cell: NotebookNode) -> bool:
    """nbval compares this cell's output with the saved one."""
    return CHECK in cell.metadata.get("tags", [])


@dataclass
class Outcome:
    """What nbval said: pytest's exit status, its words, and 'notebook Cell N' -> how it ended."""

    status: int
    text: str
    cells: dict[str, str]

    def count(self, ending: str) -> int:
        """Cells that ended so."""
        return list(self.cells.values()).count(ending)


def outcomes(junit: Path) -> dict[str, str]:
    """Cell -> 'passed', or 'failure', 'error', 'skipped' (xfail too: after a time-out, unchecked)."""
    cases = ElementTree.parse(junit).iter("testcase")
    found = {}
    for case in cases:
        notebook = case.get("classname").removesuffix(".ipynb").split(".")[-1]
        ended = [child.tag for child in case if child.tag in {"failure", "error", "skipped"}]
        found[f"{notebook} {case.get('name')}"] = ended[0] if ended else "passed"
    return found


def nbval(root: Path, names: list[str], scratch: Path, dataset: str | None = None) -> Outcome:
    """Run notebooks of `root` in order, at smoke scale, with a home in `scratch`."""
    junit = scratch / "junit.xml"
    options = "--nbval-lax --nbval-current-env --nbval-cell-timeout=300 --color=no -q -p no:cacheprovider"
    command = [sys.executable, "-m", "pytest", *options.split(), f"--junitxml={junit}"]
    env = run_notebooks.kernel_env(None, "smoke", scratch / "ipython", dataset)
    env |= {"UNET_HOME": str(scratch / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    paths = [f"notebooks/{name}" for name in names]
    done = subprocess.run([*command, *paths], cwd=root, env=env, capture_output=True, text=True, check=False)
    text = done.stdout[-8000:] + done.stderr[-2000:]
    return Outcome(done.returncode, text, outcomes(junit) if junit.exists() else {})


def not_ours(folder: str, names: list[str]) -> list[str]:
    """What a copy of the repository leaves out: caches, environments, what runs made, a reader's data."""
    if Path(folder) == REPO / "data":
        return [name for name in names if name != "README.md"]
    made = {"build", "runs", "__pycache__", "tests"}
    venvs = {name for name in names if (Path(folder) / name / "pyvenv.cfg").exists()}
    special = {name for name in names if not ((path := Path(folder) / name).is_file() or path.is_dir())}
    return [name for name in names if name.startswith(".") or name in made | venvs | special]


def listing(folder: Path) -> dict[str, tuple]:
    """Every file and folder below: name -> size, time and hash."""
    return {
        str(path.relative_to(folder)): (stat.st_size, stat.st_mtime_ns, files.sha256(path))
        if path.is_file()
        else (stat.st_mtime_ns,)
        for path in sorted(folder.rglob("*"))
        for stat in [path.stat()]
    }


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The six run once in a reader's repository, data and runs in it: outcome, the tree before and after."""
    scratch = tmp_path_factory.mktemp("nbval")
    root = scratch / "a reader"
    shutil.copytree(REPO, root, ignore=not_ours)
    for name in THEIRS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("a reader's own")
    (root / "data" / "choice.json").write_text('{"dataset": "helen", "prepared": {"helen": {"source": "release"}}}')
    before = listing(root)
    outcome = nbval(root, NAMES, scratch)
    return outcome, before, listing(root)


def test_there_are_six():
    assert sorted(path.name for path in (REPO / "notebooks").glob("*.ipynb")) == NAMES


def test_nbval_runs_and_passes_every_cell(session):
    outcome = session[0]
    assert outcome.status == 0, outcome.text
    assert len(outcome.cells) == sum(len(code_cells(read(name))) for name in NAMES)
    assert outcome.count("passed") == len(outcome.cells), outcome.text


def test_a_readers_work_is_not_touched(session):
    """Not a file of the repository is new, gone or changed: splitted_data, arrays and runs among them."""
    _, before, after = session
    assert before.keys() >= set(THEIRS)
    assert after == before


OTHERS = ("pets", "camvid", "cityscapes")


def todays() -> tuple[str, ...]:
    """Datasets beside the faces that this run covers: one a day in turn, all with ALL_DATASETS=1."""
    return OTHERS if os.environ.get("ALL_DATASETS") else OTHERS[datetime.date.today().toordinal() % len(OTHERS) :][:1]


@pytest.mark.parametrize("dataset", todays())
def test_the_same_six_run_on_another_dataset(tmp_path, dataset):
    """On a drawn release in the dataset's own layout; every cell passes, and every marked output is the same."""
    outcome = nbval(REPO, NAMES, tmp_path, dataset)
    assert outcome.status == 0, outcome.text
    assert outcome.count("passed") == sum(len(code_cells(read(name))) for name in NAMES), outcome.text
    table = (next((tmp_path / "home" / "runs" / dataset).glob("*/f1_test.txt"))).read_text()
    assert "mean_iou=" in table and "accuracy=" in table


def test_an_altered_output_is_caught(tmp_path):
    """A saved output that is not what the cell prints fails that cell and no other."""
    notebook = read(NAMES[0])
    cells = code_cells(notebook)
    number = next(i for i, cell in enumerate(cells) if is_checked(cell))
    cells[number].outputs[0].text += "and a line that nothing prints\n"
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "helpers").symlink_to(REPO / "helpers")
    nbformat.write(notebook, tmp_path / "notebooks" / NAMES[0])
    outcome = nbval(tmp_path, NAMES[:1], tmp_path)
    assert outcome.status == 1, outcome.text
    failed = [cell for cell, ending in outcome.cells.items() if ending != "passed"]
    assert failed == [f"{Path(NAMES[0]).stem} Cell {number}"], outcome.text


@pytest.mark.parametrize("name", NAMES)
def test_committed_notebook_is_whole_and_clean(name):
    """Every cell executed in order; no error, widget or machine's path; small enough for GitHub."""
    notebook = read(name)
    assert scrub.faults(notebook) == []
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert os.path.getsize(REPO / "notebooks" / name) < scrub.LIMIT
    assert notebook.metadata.kernelspec.name == "python3"


@pytest.mark.parametrize("name", NAMES)
def test_enough_cells_are_compared(name):
    """At least three marked cells, each with a saved output of plain text, or nothing would be compared."""
    checked = [cell for cell in code_cells(read(name)) if is_checked(cell)]
    assert len(checked) >= 3
    for cell in checked:
        assert [output.output_type for output in cell.outputs] == ["stream"], cell.source
        assert cell.outputs[0].name == "stdout", cell.source


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short_and_explained(name):
    """Half of the code cells have at most six lines, none over twenty, no mark but Colab's; as much prose as code."""
    notebook = read(name)
    lengths = [len(cell.source.splitlines()) for cell in code_cells(notebook)]
    assert statistics.median(lengths) <= 6 and max(lengths) <= 20 and 2 * len(lengths) <= len(notebook.cells)
    code = "\n".join(cell.source for cell in code_cells(notebook))
    assert max(map(len, code.splitlines())) <= 100 and not re.search("NBVAL|fmt:|noqa", code)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_knobs_are_forms():
    """Each is a plain value in one place, with a form for Colab."""
    code = {name: [cell.source for cell in code_cells(read(name))] for name in NAMES}
    found = {name[:2]: re.findall(r"(?m)^([A-Z]+) = \S+  # @param", "\n".join(cells)) for name, cells in code.items()}
    more = {"01": ["DATASET", "OWN", "SCALE", "DOWNLOAD"], "04": ["START", "LR", "MORE"], "05": ["PHOTO"]}
    assert found == {name[:2]: ["DRIVE", *more.get(name[:2], [])] for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_setup_cell_and_badge(name):
    """The first code cell is the template's text, the first cell shows the badge, for one repository."""
    notebook, slug = read(name), setup_cell.repository()
    assert code_cells(notebook)[0].source == setup_cell.source(slug)
    assert code_cells(notebook)[0].outputs == []
    assert setup_cell.badge(slug, name) in notebook.cells[0].source.splitlines()
    assert sum(cell.source.startswith(setup_cell.MARK) for cell in notebook.cells) == 1
