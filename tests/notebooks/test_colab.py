"""The set-up cell, run as Colab and as a reader's own machine would run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import setup_cell

# Runs the cell (less its magics) `times` over, and prints where that leaves the interpreter.
DRIVER = """
import json, os, sys, types
code, colab, times = sys.argv[1], sys.argv[2] == "colab", int(sys.argv[3])
if colab:
    sys.modules["google.colab"] = types.ModuleType("google.colab")
before, environment = list(sys.path), dict(os.environ)
for _ in range(times):
    exec(code, {})
added = [p for p in sys.path if p not in before]
import helpers
print(json.dumps({"cwd": os.getcwd(), "added": added, "paths": len(sys.path) - len(before),
                  "helpers": helpers.__file__, "environment": sorted(dict(os.environ).items() - environment.items())}))
"""


def git(*arguments: str, cwd: Path) -> None:
    """git, as somebody."""
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=cwd, check=True)


@pytest.fixture
def origin(tmp_path) -> Path:
    """A small repository, in the shape of this one."""
    folder = tmp_path / "origin" / "unet"
    for name in ("helpers/__init__.py", "notebooks/01_restructure_data.ipynb"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    git("init", "-q", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-q", "-m", "first", cwd=folder)
    return folder


def run_cell(cwd: Path, where: str, times: int = 1, url: str | None = None) -> dict:
    """Run the cell in a fresh interpreter, as 'colab' or 'local'."""
    lines = setup_cell.source("OWNER/REPO").splitlines()
    code = "\n".join(line for line in lines if not line.startswith("%"))
    env = {"PATH": "/usr/bin:/bin", "HOME": str(cwd)} | ({"UNET_REPO": url} if url else {})
    command = [sys.executable, "-c", DRIVER, code, where, str(times)]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    assert not done.stderr
    return json.loads(done.stdout)  # and nothing else: the cell itself prints nothing


def test_colab_clones_once(tmp_path, origin):
    """The first run clones and changes into it; a second one, and a new kernel, change nothing more."""
    content = tmp_path / "content"
    content.mkdir()
    clone = content / "unet"
    for times in (1, 2):
        state = run_cell(content, "colab", times, f"file://{origin}")
        assert Path(state["cwd"]) == clone
        assert state["added"] == [str(clone)]
        assert state["paths"] == 1
        assert Path(state["helpers"]) == clone / "helpers" / "__init__.py"
        (clone / "kept").touch()  # a second clone would not have it
    assert (clone / "kept").exists()
    assert sorted(p.name for p in content.iterdir()) == ["unet"]
    log = subprocess.run(["git", "log", "--oneline"], cwd=clone, capture_output=True, text=True, check=True)
    assert len(log.stdout.splitlines()) == 1


def test_colab_says_when_the_clone_fails(tmp_path):
    with pytest.raises(RuntimeError, match="CalledProcessError"):
        run_cell(tmp_path, "colab", url=f"file://{tmp_path}/nowhere/unet")


@pytest.mark.parametrize("start", ["notebooks", "."])
def test_elsewhere_only_the_path_changes(origin, start):
    """From notebooks/ or the repository's root: no clone, no change of folder, one environment variable for torch."""
    before = sorted(p for p in origin.rglob("*") if ".git" not in p.parts)
    state = run_cell(origin / start, "local", 2, "file:///nowhere")
    assert Path(state["cwd"]) == (origin / start).resolve()
    assert state["added"] == [str(origin)]
    assert state["paths"] == 1
    assert state["environment"] == [["GOMP_SPINCOUNT", "10000"]]
    after = sorted(p for p in origin.rglob("*") if not {".git", "__pycache__"} & set(p.parts))
    assert after == before


def test_the_cell_is_short_and_ends_with_the_magic():
    source = setup_cell.source("a/b")
    lines = source.splitlines()
    assert len(lines) <= 20 and lines[-1] == "%matplotlib inline"
    assert "https://github.com/a/b" in source and "import torch" not in source
    (drive,) = [line for line in lines if "drive.mount" in line]
    assert drive.startswith("# ") and 'os.environ["UNET_HOME"]' in drive
