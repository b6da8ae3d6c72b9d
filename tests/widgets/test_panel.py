"""The panel: every widget does what it says, while a training runs in its thread; in this process and in a kernel.

`make test-colab` runs this file on Colab's versions of ipykernel, IPython and ipywidgets too.
"""

import importlib
import io
import time

import pytest
import tiny
from kernel import Kernel
from PIL import Image

from helpers import plots, preprocess, trainer, widgets
from helpers.core.errors import TrainingError

module = importlib.import_module("helpers.widgets.panel")  # `helpers.widgets.panel` itself is the function


@pytest.fixture
def arrays():
    tiny.prepare(train=40, val=6)
    return preprocess.open_arrays("helen", 32)


@pytest.fixture
def one(arrays):
    """A trainer whose steps take a while, so that a hand can come between them; paused at the end."""
    made = trainer.Trainer(tiny.settings(epochs=20, schedule="constant"), arrays, "a", "cpu")
    made.watchers.append(dawdle)
    yield made
    made.pause()


def dawdle(event):
    """A watcher that holds each step up."""
    if event == "step":
        time.sleep(0.01)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def is_png(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format == "PNG" and min(image.size) > 50


def test_before_the_start_it_shows_how_things_are(one):
    panel = widgets.panel(one)
    assert not panel.start.disabled and panel.pause.disabled and panel.after.disabled
    assert panel.epochs.value == 20 and panel.slider.value == pytest.approx(2e-3) and panel.number.value == "2.00e-03"
    assert is_png(panel.faces.value) and "epoch 0.0 of" in panel.status.value and one.step == 0


def test_start_pause_and_on_to_the_end(one):
    panel = widgets.panel(one)
    panel.epochs.value = 3
    panel.start.click()
    assert panel.start.disabled and not panel.pause.disabled and "Pause" in panel.hint.value
    until(lambda: one.step > 12)
    panel.pause.click()
    here = one.step
    assert not one.running and not panel.start.disabled and panel.pause.disabled and panel.hint.value == ""
    assert f"(step {here}), saved" in panel.message.value and panel.epochs.value == 2
    panel.start.click()
    one.wait()
    assert (one.epoch, one.step) == (3, 30) and panel.bar.value == panel.bar.max == 3.0
    assert "epoch   3/3" in panel.message.value and "images/s" in panel.status.value and "left" in panel.status.value
    assert is_png(panel.curve.value) and is_png(panel.faces.value)


def test_the_rate_by_slider_number_and_buttons(one):
    panel = widgets.panel(one)
    panel.epochs.value = 50
    panel.start.click()
    rates = []
    for act, rate in (
        (lambda: setattr(panel.slider, "value", 1e-4), 1e-4),
        (panel.double.click, 2e-4),
        (panel.tenth.click, 2e-5),
        (lambda: setattr(panel.number, "value", "3e-3"), 3e-3),
        (panel.half.click, 1.5e-3),
    ):
        before = one.step
        until(lambda before=before: one.step > before)
        act()
        assert one.lr == pytest.approx(rate)
        assert panel.slider.value == pytest.approx(rate) and float(panel.number.value) == pytest.approx(rate)
        asked = one.step
        until(lambda asked=asked: one.step > asked + 1)
        assert one.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        rates.append(rate)
    panel.pause.click()
    rows = [row for row in one.history if row["note"]]
    assert [row["lr"] for row in rows] == pytest.approx(rates)
    assert all(0 < row["step"] < one.step for row in rows)
    assert len({row["step"] for row in rows}) == 5


@pytest.mark.parametrize(
    ("typed", "reported"), [("fast", "is not a number"), ("-1", "above 0"), ("0", "above 0"), ("nan", "above 0")]
)
def test_what_is_no_rate_is_reported_and_changes_nothing(one, typed, reported):
    panel = widgets.panel(one)
    panel.number.value = typed
    assert reported in panel.message.value and one.lr == pytest.approx(2e-3) and panel.number.value == "2.00e-03"
    assert not one.history


def test_a_decimal_comma_is_read(one):
    panel = widgets.panel(one)
    panel.number.value = "0,0005"
    assert one.lr == pytest.approx(5e-4) and panel.number.value == "5.00e-04"


def test_a_fault_is_shown_until_the_next_act(one):
    panel = widgets.panel(one)
    panel.epochs.value = 50
    panel.start.click()
    panel.number.value = "fast"
    until(lambda: one.epoch >= 1 and "epoch   1/50" in panel.message.value)
    assert "is not a number" in panel.message.value
    panel.half.click()
    assert "is not a number" not in panel.message.value and one.lr == pytest.approx(1e-3)
    panel.pause.click()


def test_the_curve_is_redrawn_with_the_mark(one, monkeypatch):
    drawn = []
    curves = plots.curves
    monkeypatch.setattr(plots, "curves", lambda *a: drawn.append(curves(*a)) or drawn[-1])
    panel = widgets.panel(one)
    panel.epochs.value = 50
    panel.start.click()
    until(lambda: one.epoch >= 1)
    before = panel.curve.value
    panel.slider.value = 1e-4
    assert panel.curve.value != before
    assert "lr 0.0001" in {text.get_text() for axes in drawn[-1].axes for text in axes.texts}
    assert all("lr 0.0001" in {text.get_text() for text in axes.texts} for axes in drawn[-1].axes)  # on every curve
    panel.pause.click()


def test_the_faces_are_drawn_anew_each_epoch(one):
    panel = widgets.panel(one)
    seen = {panel.faces.value}
    panel.epochs.value = 50
    panel.start.click()
    for epoch in (1, 2):
        until(lambda epoch=epoch: one.epoch >= epoch)
        until(lambda: panel.faces.value not in seen)
        seen.add(panel.faces.value)
    panel.pause.click()


def test_epochs_to_go_count_down_and_can_be_moved(one):
    panel = widgets.panel(one)
    panel.epochs.value = 50
    panel.start.click()
    until(lambda: one.epoch == 1 and panel.epochs.value == 49)
    panel.epochs.value = 2
    one.wait()
    assert one.epoch == 3


def test_stop_after_this_epoch(one):
    panel = widgets.panel(one)
    panel.epochs.value = 50
    panel.start.click()
    until(lambda: 12 < one.step < 19)
    panel.after.click()
    assert "Stops after this epoch." in panel.message.value
    one.wait()
    assert "Stops after" not in panel.message.value
    assert one.progress == 2.0


def test_a_second_start_is_refused_on_the_panel(one):
    panel = widgets.panel(one)
    panel.start.click()
    panel.start.click()
    assert "is training in the background: press Pause" in panel.message.value and one.running
    with pytest.raises(TrainingError, match="press Pause"):
        one.start(3)


def test_an_exception_shows_and_wait_raises_it(one, monkeypatch):
    def broken(self, network=None):
        raise ValueError("a <b>fault</b>")

    monkeypatch.setattr(trainer.Trainer, "validate", broken)
    panel = widgets.panel(one)
    panel.start.click()
    until(lambda: "ValueError" in panel.message.value and "wait()" in panel.message.value)
    assert "&lt;b&gt;" in panel.message.value and not panel.start.disabled
    with pytest.raises(ValueError, match="fault"):
        one.wait()


def test_a_new_panel_takes_the_place_of_the_old(one):
    old, new = widgets.panel(one), widgets.panel(one)
    assert [getattr(watcher, "__self__", None) for watcher in one.watchers] == [None, new] and old is not new


def test_a_new_panel_counts_the_epochs_left_of_the_last_start(one):
    panel = widgets.panel(one)
    panel.epochs.value = 400
    panel.start.click()
    until(lambda: one.epoch >= 1)
    panel.pause.click()
    assert widgets.panel(one).epochs.value == 400 - one.epoch


def test_a_fit_in_a_cell_moves_the_panel_too(one):
    panel = widgets.panel(one)
    one.fit(2)
    assert "epoch 2.0 of 2" in panel.status.value and not panel.start.disabled


def test_a_slider_that_is_being_moved_is_left_alone(one, monkeypatch):
    """What the training says of the rate meanwhile is shown as a number; on the slider, once that has come to rest."""
    panel = widgets.panel(one)
    panel.slider.value = 1e-4
    one.lr = 1e-3
    assert panel.slider.value == 1e-4 and panel.number.value == "1.00e-03"
    monkeypatch.setattr(module, "REST", 0.0)
    panel.refresh()
    assert panel.slider.value == pytest.approx(1e-3)


def test_a_rate_off_the_slider_is_set_all_the_same(one):
    panel = widgets.panel(one)
    panel.number.value = "1e-9"
    assert one.lr == pytest.approx(1e-9) and panel.slider.value == pytest.approx(1e-7)
    assert len(one.history) == 1


SETUP = """
import sys, time
sys.path[:0] = ["tests", "."]
import torch
torch.set_num_threads(1)
import tiny
from helpers import preprocess, trainer, widgets
arrays = preprocess.open_arrays("helen", 32)
trainer_ = trainer.Trainer(tiny.settings(epochs=9, schedule="constant"), arrays, "a", "cpu")
trainer_.watchers.append(lambda event: time.sleep(0.02 if event == "step" else 0))
panel = widgets.panel(trainer_)
panel
"""


def test_in_a_kernel_as_a_front_end_drives_it(arrays):
    """Clicks and slider messages while the thread trains; other cells run; the stop button; wait()."""
    with Kernel() as kernel:
        kernel.run(SETUP)
        kernel.change("panel.epochs", 500)
        kernel.click("panel.start")
        kernel.until("trainer_.step > 3 and trainer_.running")
        assert kernel.value("round(trainer_.lr, 9)") == 2e-3  # a cell while it trains
        kernel.change("panel.slider", 1e-4)
        kernel.until("trainer_.optimizer.param_groups[0]['lr'] == 1e-4")
        (note,) = kernel.value("[[r['step'], r['note']] for r in trainer_.history if r['note']]")
        assert note[1] == "lr 0.0001" and 3 < note[0] <= kernel.value("trainer_.step")
        came = picture_updates(kernel)
        assert came  # the thread's own pictures reach the front end

        kernel.interrupt()  # nothing runs in the main thread: it does not reach the training
        here = kernel.value("trainer_.step")
        kernel.until(f"trainer_.step > {here + 3} and trainer_.running")
        assert "Pause" in kernel.value("panel.hint.value")

        kernel.click("panel.pause")
        kernel.until("not trainer_.running")
        here = kernel.value("trainer_.step")
        assert note[0] < here and f"(step {here})" in kernel.value("panel.message.value")

        kernel.run("panel = widgets.panel(trainer_)\npanel")  # the cell again
        kernel.click("panel.start")
        kernel.until(f"trainer_.step > {here}")
        asked = kernel.send("trainer_.wait()")
        time.sleep(0.5)
        kernel.interrupt()
        assert kernel.reply(asked)["status"] == "ok"  # a pause, no traceback
        assert not kernel.value("trainer_.running")
        kernel.change("panel.epochs", 1)
        kernel.click("panel.start")
        kernel.until("not trainer_.running and trainer_.progress == trainer_.target_epoch")


def picture_updates(kernel):
    """Messages on iopub that carry a picture of the curve."""
    curve = kernel.value("panel.curve.model_id")
    kernel.listen(0.5)
    messages = [m for m in kernel.heard if m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == curve]
    return [m for m in messages if m["buffers"] and bytes(m["buffers"][0])[:4] == b"\x89PNG"]


def test_an_interrupt_of_fit_in_a_kernel_leaves_no_traceback(arrays):
    with Kernel() as kernel:
        kernel.run(SETUP)
        asked = kernel.send("trainer_.fit(500)")
        time.sleep(2.0)
        kernel.interrupt()
        assert kernel.reply(asked)["status"] == "ok"
        kernel.run("trainer_.lr /= 10")
        step = kernel.value("trainer_.step")
        assert step > 0 and kernel.value("trainer_.run_folder.saved_step") == step
        # 2: interrupted in the validation of an epoch, the rest of that epoch has no step
        kernel.run(f"trainer_.fit({kernel.value('trainer_.epoch') + 2})")
        assert kernel.value("trainer_.step") > step and kernel.value("round(trainer_.lr, 9)") == 2e-4
        said = "".join(m["content"].get("text", "") for m in kernel.listen(0.2) if m["msg_type"] == "stream")
        assert f"(step {step}), saved: fit(500) goes on from here" in said
