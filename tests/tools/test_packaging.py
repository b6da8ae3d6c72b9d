"""What is installed, and the commands that do it: held against each other by text, run with stand-ins."""

import os
import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

REPO = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))
CONDA_NAMES = {"pytorch": "torch", "playwright-python": "playwright"}  # conda-forge's name -> pip's
# Colab in 2026-08.
COLAB = {"torch": "2.11", "torchvision": "0.26", "numpy": "2.1", "matplotlib": "3.10", "ipywidgets": "7.7.1"} | {
    "filelock": "3.29",
    "gdown": "5.2.2",
    "jupyter-client": "7.4.9",
}
COLAB_WIDGETS = {"ipykernel": "6.17.1", "ipython": "7.34.0", "ipywidgets": "7.7.1"}


def ranges() -> dict[str, Requirement]:
    """Direct dependencies, those for tests too: name -> requirement."""
    listed = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["test"]
    return {canonicalize_name(r.name): r for r in map(Requirement, listed)}


def lock_lines(file: str = "requirements.txt") -> list[str]:
    """A lock without blank lines and headings."""
    lines = (REPO / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def lock(file: str = "requirements.txt") -> dict[str, Requirement]:
    """Pins: name -> requirement with one version and perhaps a marker."""
    return {canonicalize_name(r.name): r for r in (Requirement(line.split("#")[0]) for line in lock_lines(file))}


def pinned(requirement: Requirement) -> Version:
    """The one version of a pin."""
    (only,) = requirement.specifier
    assert only.operator == "=="
    return Version(only.version)


def test_every_range_holds_its_pin():
    pins = lock()
    assert all(pinned(pin) for pin in pins.values()) and len(pins) == len(lock_lines())
    for name, requirement in ranges().items():
        assert pinned(pins[name]) in requirement.specifier, name


def test_every_range_holds_colab():
    assert all(version in ranges()[name].specifier for name, version in COLAB.items())


def test_conda_has_the_same_packages():
    text = (REPO / "environment.yml").read_text(encoding="utf-8").split("dependencies:")[1]
    found = {}
    for requirement in map(Requirement, re.findall(r"(?m)^  - ([^#\n]+)", text)):
        name = canonicalize_name(requirement.name)
        found[CONDA_NAMES.get(name, name)] = requirement.specifier
    expected = {name: requirement.specifier for name, requirement in ranges().items()}
    assert found == expected | {"python": SpecifierSet(PROJECT["project"]["requires-python"])}


def test_what_exists_on_linux_only_is_marked():
    linux = {"sys_platform": "linux", "python_version": "3.12"}
    windows = {"sys_platform": "win32", "python_version": "3.12"}
    for name, requirement in lock().items():
        if name.startswith(("nvidia-", "cuda-", "triton")):
            assert requirement.marker.evaluate(linux), name
            assert not requirement.marker.evaluate(windows), name


def test_installed_packages_are_locked():
    """What the packages installed here need, and what that needs, is all in the lock."""
    pins, todo, seen = lock(), [(name, frozenset()) for name in ranges()], set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        assert name in pins, f"{name} is needed and not in requirements.txt"
        for line in distribution(name).requires or []:
            need = Requirement(line)
            if not need.marker or any(need.marker.evaluate({"extra": e}) for e in extras or {""}):
                todo.append((canonicalize_name(need.name), frozenset(need.extras)))


def test_colab_lock_has_colabs_widgets_and_only_what_differs():
    pins, shared = lock("requirements-colab.txt"), lock()
    assert {name: str(pinned(pins[name])) for name in COLAB_WIDGETS} == COLAB_WIDGETS
    assert not [name for name, pin in pins.items() if name in shared and pinned(shared[name]) == pinned(pin)]
    assert pinned(pins["widgetsnbextension"]) in Requirement("widgetsnbextension~=3.6.0").specifier
    assert pinned(pins["jupyterlab-widgets"]) < Version("3")


# make, with a stand-in for Python that writes down how it was called


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with a blank in its name that holds what make needs, and no venv."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-colab.txt"):
        (folder / name).write_bytes((REPO / name).read_bytes())
    return folder


def stand_in(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return path


def made(clone: Path, body: str) -> None:
    """Venvs that make takes for finished, whose Python is a script."""
    for venv in (".venv", ".venv-colab"):  # in this order: the second is made after the first
        stand_in(clone / venv / "bin" / "python", body)
        (clone / venv / ".installed").touch()


def make(clone: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """make in the clone, free of the make that may run these tests and of what it was given."""
    outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "VENV", "PYTHON", "GOMP_SPINCOUNT"}
    env = {k: v for k, v in os.environ.items() if k not in outer}
    return subprocess.run(
        ["make", *arguments], cwd=clone, env=env | environment, capture_output=True, text=True, check=False
    )


SHOW = 'echo "args=$*"; echo "env=${RELEASE-}|${DATASET-}|${SCALE-}|$UNET_HOME|$GOMP_SPINCOUNT"\n'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), "--scale demo"),
        (("RELEASE=my release",), "--scale demo --release my release"),
        (("RELEASE=r", "SCALE=full"), "--scale full --release r"),
    ],
)
def test_make_run_ignores_the_shell(clone, given, expected):
    """Only what is given to make itself counts; the home is made anew."""
    made(clone, SHOW)
    old = clone / "build" / "home" / "runs" / "old"
    old.mkdir(parents=True)
    mine = clone / "runs" / "mine"
    mine.mkdir(parents=True)
    done = make(clone, "run", *given, RELEASE="/theirs", DATASET="pets", SCALE="smoke", UNET_HOME="/theirs")
    assert done.returncode == 0, done.stderr
    assert f"args=-m tools.run_notebooks {expected}\n" in done.stdout
    assert f"env=|||{clone}/build/home|10000\n" in done.stdout
    assert not old.exists()
    assert mine.exists()


# Writes down which venv's Python was asked for which tests; BAD is what fails, NEW is a Python that Colab has not.
TESTS = """
case "$*" in
  "-c import sys; sys.exit"*) exit ${NEW:-0} ;;
  *pytest*) echo "$0${RELEASE-}${SCALE-} ${KILLS-}" >> log; case "$0" in ${BAD:-none}) exit 1 ;; esac ;;
esac
"""
MAIN, COLAB_PANEL, KILLS = ".venv/bin/python ", ".venv-colab/bin/python ", ".venv/bin/python 20"


@pytest.mark.parametrize(
    ("target", "given", "expected"),
    [
        ("test", {}, [MAIN, COLAB_PANEL]),
        ("test", {"NEW": "1"}, [MAIN]),
        ("test-all", {}, [MAIN, COLAB_PANEL, KILLS]),
        ("test-all", {"BAD": ".venv-colab/*"}, [MAIN, COLAB_PANEL]),
        ("test-all", {"BAD": ".venv/*"}, [MAIN]),
    ],
)
def test_make_test_stops_at_the_first_that_fails(clone, target, given, expected):
    """Free of what the shell holds; what a new Python leaves out is said."""
    made(clone, TESTS)
    done = make(clone, target, RELEASE="/theirs", SCALE="full", **given)
    assert (done.returncode != 0) == ("BAD" in given), done.stderr
    assert ("left out: make test-colab" in done.stdout) == ("NEW" in given)
    assert (clone / "log").read_text().splitlines() == expected


def test_make_clean_leaves_the_readers_work(clone):
    made(clone, "")
    for name in ("data/splitted_data", "runs/mine", "build/home", "helpers/__pycache__", "tests", "tools"):
        (clone / name).mkdir(parents=True)
    assert make(clone, "clean").returncode == 0
    left = {str(p.relative_to(clone)) for p in clone.rglob("*") if p.is_dir()}
    assert left >= {"data/splitted_data", "runs/mine", ".venv"}
    assert not left & {"build", "helpers/__pycache__"}


# Answers the version check, makes a venv whose pip ends as told, and writes down what was asked of it.
PYTHON = """
case "$1 $2" in
  "-c import"*assert*) echo proof >> log; exit "$PROOF_RC" ;;
  "-c import"*) exit 0 ;;
  "--version "*) echo "Python 3.99" ;;
  "-m venv") for venv; do :; done; rm -rf "$venv"; mkdir -p "$venv/bin"; cp "$0" "$venv/bin/python"; echo made >> log ;;
  "-m pip") echo pip >> log; exit "$PIP_RC" ;;
esac
"""


def test_a_half_made_venv_is_not_trusted(clone):
    """By the first Python that is new enough; anew without a stamp, else brought up to date; no stamp after failure."""
    stand_in(clone / "fake-python", PYTHON)
    stamp, log = clone / ".venv" / ".installed", clone / "log"
    stand_in(clone / "old-python", "exit 1\n")
    arguments = (".venv/.installed", "PYTHON=./old-python ./fake-python")
    (clone / ".venv").mkdir()
    (clone / ".venv" / "rubbish").touch()

    assert make(clone, *arguments, PIP_RC="1").returncode != 0
    assert not stamp.exists()
    assert not (clone / ".venv" / "rubbish").exists()

    assert make(clone, *arguments, PIP_RC="0").returncode == 0
    assert stamp.exists()
    assert log.read_text().split() == ["made", "pip", "made", "pip", "pip"]  # install, then install and check

    os.utime(stamp, (1, 1))
    assert make(clone, *arguments, PIP_RC="1").returncode != 0
    assert not stamp.exists()
    assert log.read_text().split()[5:] == ["pip"]  # not made anew this time, but it will be next time


def test_a_half_made_colab_venv_is_not_trusted(clone):
    """It is made anew; pip's failure or the proof's leaves no stamp."""
    stand_in(clone / ".venv" / "bin" / "python", PYTHON)
    first, stamp, log = clone / ".venv" / ".installed", clone / ".venv-colab" / ".installed", clone / "log"
    first.touch()
    (clone / ".venv-colab").mkdir()
    (clone / ".venv-colab" / "rubbish").touch()

    def steps(pip: int, proof: int) -> list[str]:
        log.write_text("")
        done = make(clone, ".venv-colab/.installed", PIP_RC=str(pip), PROOF_RC=str(proof))
        assert stamp.exists() == (done.returncode == 0) == (pip == proof == 0)
        return log.read_text().split()

    assert steps(pip=1, proof=0) == ["made", "pip"]
    assert not (clone / ".venv-colab" / "rubbish").exists()
    assert steps(pip=0, proof=1) == ["made", "pip", "proof"]
    assert steps(pip=0, proof=0) == ["made", "pip", "proof"]
    assert steps(pip=0, proof=0) == []


def test_no_python_is_an_error_that_says_so(clone):
    done = make(clone, "run", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "no Python 3.11 or newer" in done.stderr
    assert not (clone / ".venv").exists()


def test_the_shipped_weights_have_the_scores_that_are_written():
    """weights/README.md names the images and epochs that the file names, and scores that docs/benchmarks.md has."""
    written = (REPO / "weights" / "README.md").read_text()
    numbers = re.findall(r"0\.\d{3}", written.split("**Scores**")[1].split("**Not for**")[0])
    benchmarks = (REPO / "docs" / "benchmarks.md").read_text()
    assert len(numbers) >= 4 and all(number in benchmarks for number in numbers)
    about = torch.load(REPO / "weights" / "helen-demo.pt", weights_only=True)["trained_on"]
    images, epochs = about.split(" images")[0].rsplit(" ", 1)[1], about.rsplit("epoch ", 1)[1]
    assert f"{epochs} epochs" in written and images in written
