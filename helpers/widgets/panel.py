"""The panel beside a training. No argument that only ipywidgets 8 has: Colab runs 7.7.1."""

import contextlib
import html
import math
import threading
import time
from collections.abc import Callable, Iterator

import ipywidgets
import numpy as np
import torch

from .. import plots
from ..augment import to_float
from ..core.errors import TrainingError, UNetError
from ..trainer import Trainer
from ..training import steering

LOWEST, HIGHEST = -7, 0  # of the slider, as powers of ten
REST = 2.0  # seconds after which a slider counts as left alone
STATUS_EVERY = 0.5  # seconds between two updates of bar and status
DRAW_SHARE = 0.05  # of the time at most that goes into drawing the curve
FACES = 3
PATIENCE = 2  # seconds that a drawing waits for another
LINES = 4  # of the training's log
HINT = (
    "Training runs in the background: other cells can run meanwhile. Jupyter's stop button does not reach it; "
    "<b>Pause</b> does."
)


def panel(trainer: Trainer) -> "Panel":
    """Start, pause and steer a training by hand, with its curve and predictions; an earlier panel of it goes dark."""
    steering.SHUTDOWN.register(trainer)  # here, since only the main thread can take SIGTERM
    for watcher in list(trainer.watchers):
        owner = getattr(watcher, "__self__", None)
        if isinstance(owner, Panel):
            trainer.watchers.remove(watcher)
            owner.close()
    return Panel(trainer)


class Panel(ipywidgets.VBox):
    """The widgets, and what each does. Updates come from the training's thread, clicks from the kernel's own."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.own = threading.local()  # .change: this thread sets a widget itself, no reader does
        self.pen = threading.Lock()  # one drawing at a time
        self.status_at = self.drawn_at = -math.inf  # when status and curve were last updated
        self.moved_at = -math.inf  # when a reader last moved the slider
        self.cost = 0.0  # seconds that a curve takes
        self.fault = self.note = ""  # what came of the reader's last act
        self._make_widgets()
        ends = [ipywidgets.Label(f"{10.0**end:g}") for end in (LOWEST, HIGHEST)]
        controls = [
            ipywidgets.HBox([self.start, self.pause, self.after]),
            ipywidgets.HBox([self.epochs, self.bar]),
            ipywidgets.HBox([ends[0], self.slider, ends[1]]),
            ipywidgets.HBox([self.number, self.tenth, self.half, self.double]),
            *(self.status, self.hint),
        ]
        left = ipywidgets.VBox(controls, layout={"width": "450px"})
        super().__init__([ipywidgets.HBox([left, self.faces]), self.message, self.curve])
        self._connect()
        self.refresh()
        trainer.watchers.append(self.on_event)

    def _make_widgets(self) -> None:
        """Every widget, with a class name for style sheets and tests."""
        whole = {"description_width": "initial"}  # else a long description is cut
        press, wide, small = {"width": "100px"}, {"width": "190px"}, {"width": "44px"}
        self.start = ipywidgets.Button(description="Start", button_style="success", icon="play", layout=press)
        self.pause = ipywidgets.Button(description="Pause", button_style="warning", icon="pause", layout=press)
        self.after = ipywidgets.Button(description="Stop after this epoch", icon="stop", layout=wide)
        left = epochs_to_go(self.trainer)
        self.epochs = ipywidgets.BoundedIntText(left, min=1, max=100000, description="epochs to go", style=whole)
        self.epochs.layout.width = "170px"
        # the number beside the slider moves along; the rate changes when the slider is let go
        slider = dict(min=LOWEST, max=HIGHEST, step=0.01, continuous_update=False, readout_format=".1e")
        self.slider = ipywidgets.FloatLogSlider(clamp(self.trainer.lr), layout={"width": "370px"}, **slider)
        self.number = ipywidgets.Text(description="learning rate", continuous_update=False, style=whole)
        self.number.layout.width = "190px"
        self.tenth = ipywidgets.Button(description="/10", layout=small)
        self.half = ipywidgets.Button(description="/2", layout=small)
        self.double = ipywidgets.Button(description="×2", layout=small)
        self.bar = ipywidgets.FloatProgress(0, min=0, max=1, bar_style="info", layout={"width": "220px"})
        self.status, self.hint, self.message = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.message.layout.min_height = "80px"  # the curve below it stays in its place
        self.curve = ipywidgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        self.faces = ipywidgets.Image(format="png", layout={"width": "450px", "object_fit": "contain"})
        for name, widget in list(vars(self).items()):
            if isinstance(widget, ipywidgets.DOMWidget):
                widget.add_class(f"unet-{name}")

    def _connect(self) -> None:
        """What each widget does when a reader uses it."""
        self.start.on_click(lambda _: self.on_start())
        self.pause.on_click(lambda _: self.trainer.pause())
        self.after.on_click(lambda _: self.on_after())
        self._on_change(self.epochs, self.on_epochs)
        self._on_change(self.slider, self.on_slider)
        self._on_change(self.number, self.on_number)
        for button, factor in ((self.tenth, 0.1), (self.half, 0.5), (self.double, 2.0)):
            button.on_click(lambda _, factor=factor: self.on_factor(factor))

    def _on_change(self, widget: ipywidgets.Widget, act: Callable) -> None:
        """Call act with the widget's new value when a reader has changed it, and not when this panel has."""

        def changed(change: dict) -> None:
            if not getattr(self.own, "change", False):
                act(change["new"])

        widget.observe(changed, names="value")

    # --- what a reader does --------------------------------------------------------------------------------------

    def on_start(self) -> None:
        """Train for the epochs to go."""
        with self._act():
            self.trainer.start(self.trainer.epoch + self.epochs.value)

    def on_after(self) -> None:
        """Stop when the epoch is whole."""
        with self._act():
            self.note = "Stops after this epoch." if self.trainer.stop_after_epoch() else ""

    def on_epochs(self, epochs: int) -> None:
        """While a training runs, more or fewer epochs; else they count when Start is pressed."""
        if self.trainer.running:
            self.trainer.target_epoch = self.trainer.epoch + epochs
            self.show_progress()

    def on_slider(self, rate: float) -> None:
        """The rate that the slider was moved to."""
        self.moved_at = time.monotonic()
        with self._act():
            self.trainer.lr = rounded(rate)

    def on_number(self, text: str) -> None:
        """The rate that was typed."""
        self.moved_at = -math.inf
        with self._act():
            self.trainer.lr = rounded(read_rate(text))

    def on_factor(self, factor: float) -> None:
        """The rate that one of the buttons asks for."""
        self.moved_at = -math.inf
        with self._act():
            self.trainer.lr = rounded(self.trainer.lr * factor)

    @contextlib.contextmanager
    def _act(self) -> Iterator[None]:
        """An error of ours is shown until the reader's next act, not raised where nobody sees it."""
        self.fault = self.note = ""
        try:
            yield
        except UNetError as error:
            self.fault = str(error)
        self.show_texts()

    # --- what the training does ----------------------------------------------------------------------------------

    def on_event(self, event: str) -> None:
        """The trainer's watcher; called in its thread between two steps."""
        now = time.monotonic()
        if event == "log":
            self.show_message()
        elif event in ("epoch", "end"):
            self.note = "" if event == "end" else self.note
            self.refresh()
        elif event == "note":
            self.show_rate()
            self.draw_curve()
        elif event == "step" and now - self.status_at > STATUS_EVERY:
            self.show_progress()
            if now - self.drawn_at > self.cost / DRAW_SHARE:
                self.draw_curve()

    def refresh(self) -> None:
        """Everything, as it is now."""
        self.show_texts()
        self.draw_curve()
        if len(self.trainer.arrays["val"]):
            self._draw(self.faces, faces_png)

    def show_texts(self) -> None:
        """Everything but the pictures."""
        self.show_buttons()
        self.show_rate()
        self.show_progress()
        self.show_message()

    def show_buttons(self) -> None:
        """Which buttons can be pressed, and how many epochs are to go."""
        in_background = self.trainer.running
        trains = in_background or self.trainer.training_thread is not None
        self.hint.value = HINT if in_background else ""
        self.start.disabled, self.pause.disabled, self.after.disabled = trains, not in_background, not in_background
        if trains and (left := self.trainer.target_epoch - self.trainer.epoch) > 0:
            self._show(self.epochs, left)

    def show_rate(self) -> None:
        """The rate of the next step, on the slider and as a number.

        Not on a slider that is being moved: the answer to one key would undo the keys pressed since.
        """
        if time.monotonic() - self.moved_at > REST:
            self._show(self.slider, clamp(self.trainer.lr))
        self._show(self.number, f"{self.trainer.lr:.2e}")

    def show_progress(self) -> None:
        """Bar and status line."""
        self.bar.max = float(last_epoch(self.trainer))
        self.bar.value, self.status.value = self.trainer.progress, status_line(self.trainer)
        self.status_at = time.monotonic()

    def show_message(self) -> None:
        """What went wrong, in red, above the last lines of the training's log."""
        error, lines = self.trainer.error, self.trainer.log_lines[-LINES:]
        fault = self.fault
        if error is not None:  # it is the log's last line, too
            fault, lines = f"{type(error).__name__}: {error} (trainer.wait() raises it in a cell)", []
        text = preformatted("\n".join(filter(None, [*lines, self.note])), "inherit")
        self.message.value = (preformatted(fault, "#b00020") if fault else "") + text

    def draw_curve(self) -> None:
        """Loss, validation and rate so far, the rate's changes marked."""
        began = time.monotonic()
        self._draw(self.curve, curve_png)
        self.drawn_at = time.monotonic()
        self.cost = self.drawn_at - began

    def _draw(self, picture: ipywidgets.Image, draw: Callable[[Trainer], bytes]) -> None:
        """One thread at a time; left out if another draws for long: a picture must not hold a training up."""
        if self.pen.acquire(timeout=PATIENCE):
            try:
                picture.value = draw(self.trainer)
            except UNetError:  # weights that are not finite: the training is about to go back, the picture stays
                pass
            finally:
                self.pen.release()

    def _show(self, widget: ipywidgets.Widget, value: object) -> None:
        """Set a widget's value without taking it for a reader's act."""
        self.own.change = True
        try:
            widget.value = value
        finally:
            self.own.change = False


# --- what is shown of a training ---------------------------------------------------------------------------------


def epochs_to_go(trainer: Trainer) -> int:
    """Those left of the last fit or start, else of the settings; at least 1."""
    unfinished = trainer.target_epoch > trainer.epoch
    return max((trainer.target_epoch if unfinished else trainer.settings.epochs) - trainer.epoch, 1)


def last_epoch(trainer: Trainer) -> int:
    """The epoch at which the bar ends."""
    return max(trainer.target_epoch, trainer.epoch, 1)


def clamp(rate: float) -> float:
    """A rate within the slider's ends."""
    return min(max(rate, 10.0**LOWEST), 10.0**HIGHEST)


def rounded(rate: float) -> float:
    """Three digits, as they are shown."""
    return float(f"{rate:.3g}")


def read_rate(text: str) -> float:
    """A typed number, with a point or a decimal comma; TrainingError if it is none."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise TrainingError(f"{text!r} is not a number: type for example 3e-4") from None


def status_line(trainer: Trainer) -> str:
    """Epoch, step, rate, loss, speed and time left, as HTML."""
    end = last_epoch(trainer)
    parts = [f"epoch {trainer.progress:.1f} of {end}", f"step {trainer.step}", f"rate {trainer.lr:.1e}"]
    if trainer.trace:
        parts.append(f"loss {trainer.trace[-1][1]:.3f}")
    if trainer.images_per_second > 0:  # not NaN
        minutes, seconds = divmod(round(trainer.seconds_left), 60)
        parts += [f"{trainer.images_per_second:.0f} images/s", f"{minutes}:{seconds:02} left"]
    return " &nbsp; ".join(parts)


def preformatted(text: str, color: str) -> str:
    """Lines as they are, as HTML."""
    return (
        f'<pre style="color: {color}; white-space: pre-wrap; word-break: normal; margin: 0">{html.escape(text)}</pre>'
    )


def curve_png(trainer: Trainer) -> bytes:
    """The history so far as PNG bytes."""
    return plots.png(plots.curves(trainer.history, trainer.dataset, list(trainer.trace)))


def faces_png(trainer: Trainer) -> bytes:
    """What the network predicts now of a few validation images, from one step's weights, as PNG bytes."""
    val = trainer.arrays["val"]
    rows = np.linspace(0, len(val) - 1, min(FACES, len(val))).astype(int)
    images, labels = torch.from_numpy(val.images[rows]), torch.from_numpy(val.labels[rows])
    images, _ = trainer.at_size(images, labels, trainer.epoch)
    x = to_float(images.to(trainer.device), trainer.settings.mean, trainer.settings.std)
    with torch.no_grad():
        predicted = trainer.network(x).argmax(1).to(torch.uint8).cpu().numpy()
    return plots.png(plots.batch(images.numpy(), predicted, trainer.dataset, FACES, width=450))
