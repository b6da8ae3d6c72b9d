"""The runner, the scrubbing and the badges, on notebooks of a few cells."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import badges, run_notebooks, scrub, setup_cell

BAR = "\r 50%|#####     | 1/2 [00:00<00:00, 9.9it/s]\r100%|##########| 2/2 [00:00<00:00, 9.9it/s]\n"
DRAW = """
import matplotlib.pyplot as plt
plt.plot([0, 1])
plt.show()
"""


def write(path: Path, *sources: str) -> Path:
    """A notebook: its title, then code cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell(f"# {path.stem}"), *(new_code_cell(source) for source in sources)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def run(*notebooks: Path, out: Path, more: tuple = (), **environment: str) -> subprocess.CompletedProcess:
    """The runner as make calls it."""
    command = [sys.executable, "-m", "tools.run_notebooks", "--out", str(out), *more, *map(str, notebooks)]
    env = run_notebooks.kernel_env(None, None, out.parent) | environment
    return subprocess.run(
        command, cwd=setup_cell.REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def test_runs_in_order_and_keeps(tmp_path):
    """One line a notebook, the scores come last; pictures and notebooks are kept; no choice of the shell's."""
    first = write(tmp_path / "nb" / "01_a.ipynb", "print('epoch 1')", "%matplotlib inline\n" + DRAW, "raise_ = 1")
    second = write(
        tmp_path / "nb" / "02_b.ipynb",
        "import os, sys; print(os.getcwd(), sys.executable, *map(os.environ.get, ('SCALE', 'DATASET')))",
        "print('bg f1_no=0.1'); print('f1_bg=0.9000'); print('f1_overall=nan')",
    )
    done = run(first, second, out=tmp_path / "out", more=("--scale", "smoke"), SCALE="full", DATASET="pets")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert [line.split(" in ")[0] for line in lines[:2]] == ["[1/2] 01_a: 3 cells", "[2/2] 02_b: 2 cells"]
    assert lines[2:4] == ["f1_bg=0.9000", "f1_overall=nan"]
    assert "out/notebooks" in lines[4] and len(lines) == 5
    assert (tmp_path / "out/figures/01_1.png").read_bytes().startswith(b"\x89PNG")
    kept = [nbformat.read(tmp_path / "out/notebooks" / path.name, as_version=4) for path in (first, second)]
    assert [cell.execution_count for cell in kept[0].cells[1:]] == [1, 2, 3]
    assert kept[1].cells[1].outputs[0].text == f"{tmp_path / 'nb'} {sys.executable} smoke None\n"
    assert not nbformat.read(first, as_version=4).cells[1].outputs  # the source stays as it was


def test_a_terminal_shows_the_cell_and_the_last_line_that_it_printed(tmp_path):
    """A training's epochs are seen while they run; the bar leaves one line."""
    cell = f"import sys, time; sys.stderr.write({BAR!r}); print('epoch 1  loss 0.5'); time.sleep(0.5)"
    one = write(tmp_path / "1.ipynb", cell, "print('f1_bg=0.9000')")
    command = [sys.executable, "-m", "tools.run_notebooks", str(one), "--out", str(tmp_path / "out")]
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    subprocess.run(command, cwd=setup_cell.REPO, stdout=terminal, stderr=terminal, check=True)
    states = os.read(master, 65536).decode().split("\r")
    assert any("[1/1] 1: 0 of 2 cells, 00:0" in state and "epoch 1  loss 0.5" in state for state in states)
    assert sum("[1/1] 1: 2 cells in " in state for state in states) == 1


def test_an_error_names_notebook_cell_and_cause(tmp_path):
    """Exit status 1, the traceback's end, the notebook kept as far as it came, the next one not run."""
    bad = write(tmp_path / "01_bad.ipynb", "print('before')", "one = 1\none / 0", "print('after')")
    after = write(tmp_path / "02_after.ipynb", "print('f1_bg=0.9000')")
    done = run(bad, after, out=tmp_path / "out")
    assert done.returncode == 1
    assert "error: 01_bad.ipynb, cell 2\n" in done.stdout and "one / 0" in done.stdout
    assert "ZeroDivisionError" in done.stdout.splitlines()[-1]
    assert "\x1b" not in done.stdout and "02_after" not in done.stdout
    kept = nbformat.read(tmp_path / "out/notebooks/01_bad.ipynb", as_version=4)
    assert kept.cells[2].outputs[0].ename == "ZeroDivisionError"


@pytest.mark.parametrize("cell", ["import os; os._exit(9)", "print('f1_bg=high')"])
def test_a_dead_kernel_and_no_scores_are_errors(tmp_path, cell):
    done = run(write(tmp_path / "01.ipynb", cell), out=tmp_path / "out")
    message = "error: 01.ipynb: the kernel died" if "exit" in cell else "printed no f1_<name>= line"
    assert done.returncode == 1 and message in done.stdout and "Traceback" not in done.stdout


def test_an_interrupt_ends_it_in_one_line(tmp_path):
    """No traceback, no further cell, no kernel left."""
    cell = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    one = write(tmp_path / "1.ipynb", cell, f"open({str(tmp_path / 'next')!r}, 'w')")
    command = [sys.executable, "-m", "tools.run_notebooks", str(one), "--out", str(tmp_path / "out")]
    started = subprocess.Popen(
        command, cwd=setup_cell.REPO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 60
    while not (pid := (tmp_path / "pid")).exists() or not pid.read_text():
        assert time.monotonic() < deadline and started.poll() is None
        time.sleep(0.1)
    started.send_signal(signal.SIGINT)
    text, _ = started.communicate(timeout=60)
    assert started.returncode == 1 and text == "interrupted: 1.ipynb\n"
    assert not (tmp_path / "next").exists() and not psutil.pid_exists(int(pid.read_text()))


def test_a_missing_release_is_an_error(tmp_path):
    done = run(out=tmp_path / "out", more=("--release", str(tmp_path / "nowhere")))
    assert done.returncode == 2 and "RELEASE: there is no" in done.stdout


def test_in_place_writes_scrubbed_outputs(tmp_path):
    """Progress bars and widgets go, text and numbers of cells stay; ids and metadata are always the same."""
    path = write(
        tmp_path / "01_a.ipynb",
        f"import sys; print('kept'); sys.stderr.write({BAR!r}); print('also')",
        "import ipywidgets; ipywidgets.IntSlider()",
        "print('f1_bg=0.9000')",
    )
    done = run(path, out=tmp_path / "out", more=("--in-place",))
    assert done.returncode == 0, done.stdout
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells] == ["01-00", "01-01", "01-02", "01-03"]
    assert [output.get("text") for output in notebook.cells[1].outputs] == ["kept\nalso\n"]
    assert notebook.cells[2].outputs == []
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3]
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert scrub.faults(notebook) == []


def test_in_place_refuses_a_machines_path(tmp_path):
    path = write(tmp_path / "01_a.ipynb", f"print({str(setup_cell.REPO / 'runs')!r}); print('f1_bg=0.9000')")
    before = path.read_bytes()
    done = run(path, out=tmp_path / "out", more=("--in-place",))
    assert done.returncode == 1
    assert "01_a.ipynb: cell 1: an output holds" in done.stdout
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["/home/someone/x", "/tmp/x", "C:\\Users\\x", "<object at 0x7f54f790cd60>", str(Path.home()), sys.prefix],
)
def test_faults_finds_what_belongs_to_one_machine(text):
    cell = new_code_cell("x", execution_count=1, outputs=[new_output("stream", name="stdout", text=text)])
    assert len(scrub.faults(new_notebook(cells=[cell]))) == 1


def test_faults_finds_errors_widgets_and_idle_cells():
    error = new_output("error", ename="E", evalue="", traceback=[])
    widget = new_output("display_data", data={scrub.WIDGET: {"model_id": "1"}, "text/plain": "IntSlider()"})
    plain = new_output("stream", name="stdout", text="runs/helen/tuned at 0.5, 3 of 4\n")
    cells = [
        new_code_cell("a", execution_count=1, outputs=[error, widget, plain]),
        new_code_cell("b", outputs=[]),
    ]
    found = scrub.faults(new_notebook(cells=cells))
    assert found == ["cell 0: error E", "cell 0: a saved widget", "cell 1: not executed"]


def test_of_a_widget_its_picture_is_kept():
    data = {scrub.WIDGET: {"model_id": "1"}, "image/png": "iVBO", "text/plain": "A picture"}
    kept = scrub.tidy([new_output("display_data", data=data), new_output("display_data", data={scrub.WIDGET: {}})])
    assert [output.data for output in kept] == [{"image/png": "iVBO", "text/plain": "A picture"}]


def test_of_a_stream_bars_go_and_warnings_stay():
    assert scrub.without_progress(f"{BAR}UserWarning: few images\n{BAR}") == "UserWarning: few images"
    # tqdm with leave=False ends in blanks: kept, they would be an empty coloured line under the cell
    assert scrub.without_progress("\repoch 1:  50%|#####     | 1/2 [00:01<00:01]\r" + " " * 40 + "\r") == ""


@pytest.fixture
def project(tmp_path) -> Path:
    """pyproject.toml and two notebooks: one with an old badge and set-up cell, one with neither."""
    (tmp_path / "pyproject.toml").write_text('[tool.unet]\nrepository = "OWNER/REPO"  # why\n')
    old = write(tmp_path / "notebooks" / "01_a.ipynb", setup_cell.MARK + "\nold = 1", "print(1)")
    notebook = nbformat.read(old, as_version=4)
    notebook.cells[0].source = "# Title\n\n" + setup_cell.badge("x/y", "01_a.ipynb") + "\n\nWords."
    notebook.cells[1].execution_count = 1
    nbformat.write(notebook, old)
    write(tmp_path / "notebooks" / "02_b.ipynb", "print(2)")
    return tmp_path


def test_badges_write_one_name_everywhere(project, capsys):
    """Badge and set-up cell are replaced or added, the rest stays; a second time nothing is written."""
    assert badges.main(["me/faces", "--root", str(project)]) == 0
    assert 'repository = "me/faces"  # why' in (project / "pyproject.toml").read_text()
    for name in ("01_a.ipynb", "02_b.ipynb"):
        notebook = nbformat.read(project / "notebooks" / name, as_version=4)
        assert setup_cell.badge("me/faces", name) in notebook.cells[0].source.splitlines()
        assert notebook.cells[1].source == setup_cell.source("me/faces")
        assert len(notebook.cells) == 3
        assert "OWNER" not in json.dumps(notebook)
        assert "x/y" not in json.dumps(notebook)
    first = nbformat.read(project / "notebooks" / "01_a.ipynb", as_version=4)
    assert first.cells[0].source.endswith("Words.")
    assert first.cells[1].execution_count == 1
    capsys.readouterr()
    assert badges.main(["--root", str(project)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("slug", ["me/", "/faces", "me", "me/fa ces", 'me/"x'])
def test_badges_refuse_half_a_name(project, slug, capsys):
    before = (project / "pyproject.toml").read_bytes()
    assert badges.main([slug, "--root", str(project)]) == 1
    assert "is not OWNER/REPO" in capsys.readouterr().err
    assert (project / "pyproject.toml").read_bytes() == before


def test_a_bar_in_pieces_gives_its_place_to_the_line_after_it():
    """As a kernel sends it: each state of the bar a message of its own."""
    pieces = ["\repoch 1:   0%|   | 0/2", "\repoch 1:  50%|## | 1/2", "\r" + " " * 20 + "\r", "epoch 1/1  loss 2.9\n"]
    (output,) = scrub.tidy([new_output("stream", name="stdout", text=piece) for piece in pieces])
    assert output.text == "epoch 1/1  loss 2.9\n"
