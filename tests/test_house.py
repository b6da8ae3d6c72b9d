"""The house of helpers/: who may import whom, how large a file, class and folder may grow, and its picture."""

import ast
import subprocess
import sys
from collections import Counter

import nbformat
import pytest

from tools import house
from tools.setup_cell import NOTEBOOKS, REPO

# From the ground up: a room (a folder, or a file of the lesson at the top) imports from its own floor or from below.
FLOORS = (
    {"catalog"},
    {"core"},
    {"plots", "synthetic", "preprocess", "unet", "losses", "augment", "batches", "settings"},
    {"sources", "training"},
    {"metrics"},
    {"predict"},
    {"trainer"},
    {"widgets", "lesson", "cli", "__main__"},
)
FOR_NOTEBOOKS = {"plots", "widgets", "sources"}  # and the lesson: the files at the top
FILES_IN_A_FOLDER, LINES_OF_A_CLASS = 12, 260
LIGHT = {"helpers.predict": "matplotlib", "helpers.metrics": "helpers.predict"}  # module -> what it must not load

MODULES = house.modules()
LESSON = {name for name in MODULES if "." not in name}


def level(name: str) -> int:
    """The floor of a module's room."""
    room = name.split(".", 1)[0]
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"helpers/{room} stands on no floor of FLOORS: give it one"
    return found[0]


def test_there_is_no_circle_of_imports():
    house.reach(MODULES)  # graphlib.CycleError names it
    house.reach(house.rooms(MODULES))


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downward(name):
    assert not [other for other in MODULES[name] if level(other) > level(name)]


def test_a_package_s_init_imports_from_its_own_room_alone():
    for path in (REPO / "helpers").rglob("__init__.py"):
        package = list(path.relative_to(REPO).parent.parts)
        found = house.imported(ast.parse(path.read_text()), package)
        own = ".".join(package)
        elsewhere = {name for name in found if name.startswith("helpers") and not name.startswith(f"{own}.")}
        assert not elsewhere, path


def test_no_folder_has_too_many_files():
    folders = Counter(name.rpartition(".")[0] for name in MODULES if name != "__main__")  # the door, not the lesson
    assert not {folder: count for folder, count in folders.items() if count > FILES_IN_A_FOLDER}


def test_no_class_is_too_long():
    lengths = {
        f"{path.stem}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in (REPO / "helpers").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_CLASS}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("0*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_import_from_the_lesson_and_three_rooms(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    code = "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith(("%", "!")))
    found = {name.split(".")[1] for name in house.imported(ast.parse(code), []) if name.startswith("helpers.")}
    assert found and found <= LESSON | FOR_NOTEBOOKS


@pytest.mark.parametrize(("module", "heavy"), LIGHT.items())
def test_what_a_module_must_not_load(module, heavy):
    code = f"import sys, {module}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, check=False).returncode == 0


def test_the_picture_of_the_house_is_true():
    """Drawn anew by `python -m tools.house`."""
    assert house.picture(house.rooms(MODULES)) in house.PAGE.read_text()


def test_what_the_picture_shows():
    """By hand: a -> b -> c and a -> c: the last arrow is left out; a circle is an error that names it."""
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert house.picture(graph) == "```mermaid\nflowchart TD\n    a --> b\n    b --> c\n```\n"
    assert house.rooms({"x.a": {"x.b", "y.c"}, "x.b": set(), "y.c": {"top"}, "top": set()}) == {
        "x": {"y"},
        "y": {"top"},
        "top": set(),
    }
    with pytest.raises(ValueError, match="cycle"):
        house.reach(graph | {"c": {"a"}})


def test_imports_are_found_wherever_they_stand():
    code = (
        "from .. import catalog\nfrom ..core import files\ndef f():\n    import helpers.unet\n    from . import layouts"
    )
    found = house.imported(ast.parse(code), ["helpers", "sources"])
    assert found >= {"helpers.catalog", "helpers.core.files", "helpers.unet", "helpers.sources.layouts"}
