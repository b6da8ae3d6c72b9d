"""The set-up cell, run as Colab and as a reader's own machine would run it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import setup_cell

# Runs the cell (less its magics) twice, and prints where that leaves the interpreter.
DRIVER = """
import json, os, sys, types
code, colab = sys.argv[1], sys.argv[2] == "colab"
if colab:
    drive = types.ModuleType("google.colab.drive")
    drive.mount = lambda place: os.rename("Drive", place)
    sys.modules["google.colab"], sys.modules["google.colab.drive"] = types.ModuleType("google.colab"), drive
before, environment = list(sys.path), dict(os.environ)
exec(code, {})
exec(code.replace("DRIVE = True", "DRIVE = False"), {})
import helpers
print(json.dumps({"cwd": os.getcwd(), "added": sorted({p for p in sys.path if p not in before}),
                  "helpers": helpers.__file__, "environment": sorted(dict(os.environ).items() - environment.items())}))
"""


def put(folder: Path) -> Path:
    """A project in the shape of this one."""
    for name in ("helpers/__init__.py", "notebooks/01_restructure_data.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


def zipped(path: Path) -> None:
    """The same as `make colab` writes it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("unet/helpers/__init__.py", "")


@pytest.fixture
def content(tmp_path) -> Path:
    """Colab's /content, with a Drive that is not mounted yet."""
    (tmp_path / "content" / "Drive" / "MyDrive").mkdir(parents=True)
    (tmp_path / "content" / "sample_data").mkdir()
    return tmp_path / "content"


def run_cell(cwd: Path, where: str, slug: str = "OWNER/REPO", change: tuple[str, str] = ("", "")) -> dict:
    """Run the cell in a fresh interpreter, as 'colab' or 'local'; RuntimeError with its last words if it fails."""
    lines = setup_cell.source(slug).replace(*change).splitlines()
    code = "\n".join(line for line in lines if not line.startswith("%")).replace("/content", str(cwd))
    command = [sys.executable, "-c", DRIVER, code, where]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    assert not done.stderr
    return json.loads(done.stdout)  # and nothing else: the cell itself prints nothing


def test_colab_with_nothing_says_what_to_do(content):
    """In one sentence, not a traceback, and nothing is cloned from whoever is called OWNER."""
    assert "git clone" not in setup_cell.source("OWNER/REPO")
    for slug in ("OWNER/REPO", "me/faces"):
        with pytest.raises(RuntimeError) as error:
            run_cell(content, "colab", slug, ("https://github.com", "file:///nowhere"))
        assert str(error.value).startswith("helpers/ is missing: upload colab.zip")
        assert len(str(error.value).splitlines()) == 1


def test_colab_clones_the_fork(content, tmp_path):
    fork = put(tmp_path / "me" / "faces")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=fork, check=True)
    state = run_cell(content, "colab", "me/faces", ("https://github.com", f"file://{tmp_path}"))
    assert state["added"] == [str(content / "unet")]


@pytest.mark.parametrize("name", ["colab.zip", "colab (1).zip"])
def test_colab_unpacks_the_zip(content, name):
    zipped(content / name)
    state = run_cell(content, "colab")
    assert Path(state["helpers"]) == content / "unet" / "helpers" / "__init__.py"
    (content / "unet/helpers/__init__.py").write_text("edited = 1")
    run_cell(content, "colab")
    assert (content / "unet/helpers/__init__.py").read_text() == "edited = 1"


def test_colab_finds_an_unpacked_folder(content):
    put(content / "any name")
    assert run_cell(content, "colab")["added"] == [str(content / "any name")]


@pytest.mark.parametrize("packed", [True, False])
def test_drive_holds_the_project_and_keeps_the_work(content, packed):
    """The zip or a folder on Drive; data and runs go to MyDrive/unet."""
    drive = content / "Drive" / "MyDrive"
    if packed:
        zipped(drive / "colab.zip")
    else:
        put(drive / "faces")
    state = run_cell(content, "colab", change=("DRIVE = False", "DRIVE = True"))
    mounted = content / "drive" / "MyDrive"
    assert Path(state["added"][0]) == (content / "unet" if packed else mounted / "faces")
    assert ["UNET_HOME", str(mounted / "unet")] in state["environment"]


@pytest.mark.parametrize("start", ["notebooks", "."])
def test_elsewhere_only_the_path_changes(tmp_path, start):
    """From notebooks/ or the repository's root: no clone, no change of folder, one environment variable for torch."""
    folder = put(tmp_path / "faces")
    before = sorted(folder.rglob("*"))
    state = run_cell(folder / start, "local", "me/faces")
    assert Path(state["cwd"]) == (folder / start).resolve()
    assert state["added"] == [str(folder)]
    assert state["environment"] == [["GOMP_SPINCOUNT", "10000"]]
    assert sorted(p for p in folder.rglob("*") if "__pycache__" not in str(p)) == before


@pytest.mark.parametrize("slug", ["OWNER/REPO", "a/b"])
def test_the_cell_is_short_and_ends_with_the_magic(slug):
    source = setup_cell.source(slug)
    lines = source.splitlines()
    assert len(lines) <= 20 and max(map(len, lines)) <= 100 and lines[-1] == "%matplotlib inline"
    assert ("https://github.com/a/b" in source) == (slug == "a/b") and "import torch" not in source
    assert 'DRIVE = False  # @param {type: "boolean"}' in lines


@pytest.mark.skipif(not (setup_cell.REPO / ".git").exists(), reason="git archive needs the repository")
def test_make_colab_packs_what_the_notebooks_need():
    """Weights and the recorded curves of 04 as well; below the 25 MB that a browser uploads in a moment."""
    subprocess.run(["make", "-s", "colab"], cwd=setup_cell.REPO, stdout=subprocess.DEVNULL, check=True)
    path = setup_cell.REPO / "build" / "colab.zip"
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    needed = (
        "helpers/unet.py",
        "weights/helen-demo.pt",
        "benchmarks/results/recipes.csv",
        "notebooks/04_dice_train.ipynb",
    )
    assert names >= {f"unet/{name}" for name in needed} and path.stat().st_size < 25e6
