"""04 in a real JupyterLab: run, start, move the slider, pause, run the cell again, go on to the end."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the browser test is left out")

import browser
from test_notebooks import REPO, not_ours

from tools import run_notebooks

pytestmark = pytest.mark.skipif(
    not browser.chromium(), reason="Chromium is not installed: the browser test is left out"
)

PICTURES = REPO / "build" / "screenshots"
EPOCHS = 60
CHANGES = "[row for row in trainer.history if row['note'].startswith('lr ')]"
CURVES = "plots.curves(trainer.history, dataset, trainer.trace)"
MARKS = f"sorted({{text.get_text() for axes in {CURVES}.axes for text in axes.texts}})"


class SliderError(AssertionError):
    """The slider was moved, and the training's rate did not follow."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A home as 01 and 02 leave it at smoke scale."""
    home = tmp_path_factory.mktemp("browser-home")
    environment = run_notebooks.kernel_env(None, "smoke", home / "ipython") | {"UNET_HOME": str(home)}
    code = (
        "import sys; sys.path[:0] = ['tests']\n"
        "import tiny\n"
        "from helpers import preprocess\n"
        "from helpers.sources import restructure\n"
        "tiny.prepare(train=24, val=3, test=8)\n"
        "restructure.write_choice('helen', 'synthetic', 'smoke')\n"
        "preprocess.open_arrays('helen', 64)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, env=environment, check=True)
    return home


def play(root: Path, scratch: Path, prepared: Path, label: str) -> None:
    """Copy home, start JupyterLab on `root`, and go through the whole scene."""
    shutil.copytree(prepared, scratch / "unet-home")
    environment = run_notebooks.kernel_env(None, "smoke", scratch / "ipython") | {
        "UNET_HOME": str(scratch / "unet-home")
    }
    with browser.Lab(root, scratch / "lab", environment) as lab:
        browser.look_at(lab, PICTURES, label, scene)


def scene(page: browser.Notebook) -> None:
    """All that a reader does with the panel."""
    page.command("notebook:run-all-cells")
    done = page.value("trainer.step")
    assert page.value("trainer.epoch") == 2 and done > 0, "Run All did not train"
    page.widget("start").scroll_into_view_if_needed()
    page.picture("1-before")
    start(page, EPOCHS)
    browser.wait_for("steps", lambda: page.value("trainer.step") > done + 12)
    changed = move_slider(page)
    here = pause(page)
    see_mark(page, changed)
    see_panel(page)
    assert done < changed["step"] < here, (done, changed, here)
    page.run_cell("widgets.panel(trainer)")  # again: a new panel, the same training
    browser.wait_for("one panel", lambda: page.page.locator(".unet-start").count() == 1)
    page.picture("4-again")
    start(page, 3)
    end = page.value("trainer.target_epoch")
    browser.wait_for("the end", lambda: page.value("trainer.epoch == trainer.target_epoch and not trainer.running"), 60)
    assert page.value("trainer.epoch") == end and changed["step"] < page.value("trainer.step")
    browser.wait_for("the last line", lambda: f"{end}/{end}" in page.widget("message").inner_text())
    assert page.value("float(trainer.network.out.weight.isfinite().all())") == 1.0
    page.picture("5-end")


def start(page: browser.Notebook, epochs: int) -> None:
    """Type the epochs to go and press Start."""
    field = page.widget("epochs").locator("input")
    field.fill(str(epochs))
    field.press("Enter")
    page.widget("start").click()
    browser.wait_for("the thread", lambda: page.value("trainer.running"))
    assert page.value("trainer.target_epoch - trainer.epoch") in (epochs, epochs - 1)
    browser.wait_for("the hint", lambda: "Pause does" in page.page.locator(".jp-Notebook").inner_text())


def move_slider(page: browser.Notebook) -> dict:
    """Click the handle and press the arrow key; the change as the kernel has it in its history."""
    before = page.value("trainer.lr")
    handle, number = page.widget("slider").locator(".noUi-handle"), page.widget("slider").locator(".widget-readout")
    box, shown = handle.bounding_box(), number.inner_text()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] - 20, box["y"] + box["height"] / 2, steps=4)
    assert number.inner_text() != shown, "the number does not follow the handle"
    assert page.value("trainer.rate.lr_scale") == 1.0, "the rate changes before the handle is let go"
    page.page.mouse.up()
    handle.click()
    for _ in range(3):
        page.page.keyboard.press("PageDown")
        page.page.keyboard.press("ArrowLeft")
    try:
        browser.wait_for("the rate", lambda: page.value("trainer.lr") < 0.8 * before, 10)
    except AssertionError as error:
        raise SliderError(str(error)) from error
    now = page.value("trainer.lr")
    browser.wait_for(
        "the optimizer's rate", lambda: page.value("trainer.optimizer.param_groups[0]['lr']") <= now * 1.001, 10
    )
    changed = page.value(f"{CHANGES}[-1]")
    assert changed["step"] > 0 and page.value("trainer.running")
    browser.wait_for("images/s", lambda: "images/s" in page.widget("status").inner_text())
    page.picture("2-slower")
    return changed


def see_mark(page: browser.Notebook, changed: dict) -> None:
    """While the training stands: the window shows the panel's curve, which is a figure with the change's mark."""
    assert changed["note"] in page.value(MARKS)
    browser.wait_for("the mark", lambda: page.value(f"panel.curve.value == plots.png({CURVES})"), 10)
    shown = "document.querySelectorAll('img.unet-curve, .unet-curve img')"
    width = page.page.evaluate(f"() => Math.max(0, ...Array.from({shown}, picture => picture.naturalWidth))")
    assert width > 500, "the window shows no curve"


def see_panel(page: browser.Notebook) -> None:
    """Controls, faces and curves fit on one screen, the faces beside the controls."""
    boxes = [page.widget(name).bounding_box() for name in ("start", "slider", "faces", "curve")]
    top, bottom = min(box["y"] for box in boxes), max(box["y"] + box["height"] for box in boxes)
    assert bottom - top < 900, boxes
    assert boxes[2]["x"] > boxes[1]["x"] + boxes[1]["width"], boxes


def pause(page: browser.Notebook) -> int:
    """Press Pause; the step at which it stands still, saved."""
    page.widget("pause").click()
    browser.wait_for("the pause", lambda: not page.value("trainer.running"))
    here = page.value("trainer.step")
    assert page.value("trainer.run_folder.saved_step") == here
    browser.wait_for("its words", lambda: f"(step {here}), saved" in page.widget("message").inner_text())
    assert page.value("trainer.step") == here
    page.picture("3-paused")
    return here


def test_a_training_by_hand_in_the_browser(tmp_path, prepared):
    root = tmp_path / "repository"
    shutil.copytree(REPO, root, ignore=not_ours)
    play(root, tmp_path, prepared, "panel")


def test_without_the_slider_s_callback_it_fails(tmp_path, prepared):
    """The same scene on a copy in which nobody listens to the slider."""
    root = tmp_path / "repository"
    shutil.copytree(REPO, root, ignore=not_ours)
    path = root / "helpers" / "widgets" / "panel.py"
    text, count = re.subn(r"self\._on_change\(self\.slider, .*\)", "pass", path.read_text())
    assert count == 1
    path.write_text(text)
    with pytest.raises(SliderError, match="the rate: not within"):
        play(root, tmp_path, prepared, "deaf")


def test_the_stop_button_in_the_first_epochs(tmp_path, prepared):
    """04 as it is committed: no cell shows an error, the stopped one says how to go on, and run again it does."""
    root, home = tmp_path / "repository", tmp_path / "unet-home"
    shutil.copytree(REPO, root, ignore=not_ours)
    shutil.copytree(prepared, home)
    # demo: at smoke scale training ends before a hand could reach the button
    environment = run_notebooks.kernel_env(None, "demo", tmp_path / "ipython") | {"UNET_HOME": str(home)}
    checkpoint = home / "runs" / "helen" / "tuned-demo-synthetic" / "last.pt"

    def stop_and_go_on(page: browser.Notebook) -> None:
        page.begin("notebook:run-all-cells")
        browser.wait_for("training", checkpoint.exists, 120)
        page.page.locator("[data-command='notebook:interrupt-kernel']").first.click()
        page.end()
        outputs = page.outputs()
        page.picture("1-end")
        assert not [output for output in outputs if output["output_type"] == "error"]
        texts = ["".join(output.get("text", "")) for output in outputs]
        assert any("stopped at epoch" in text and "goes on from here" in text for text in texts)
        here = page.value("trainer.step")
        assert 0 < here < page.value("settings.epochs * 6"), "Run All trained on after the stop"
        page.run_cell("trainer.fit(settings.epochs)")
        assert page.value("trainer.epoch") == page.value("settings.epochs")

    with browser.Lab(root, tmp_path / "lab", environment) as lab:
        browser.look_at(lab, PICTURES, "stop", stop_and_go_on)
