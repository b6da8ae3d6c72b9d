"""Widgets for the notebooks. No argument that only ipywidgets 8 has: Colab runs 7.7.1."""

import base64
import contextlib
import html
import io
import math
import threading
import time
from collections.abc import Iterator

import ipywidgets
import numpy as np
import torch
from PIL import Image, ImageOps

from ..augment import to_float
from ..core import files
from ..core.errors import UNetError
from ..plots import everything
from ..predict import Segmenter
from ..trainer import Trainer
from ..training import steering

# ---- a photo of the reader's own ----


def uploaded(value: dict | tuple) -> list[bytes]:
    """The contents of a FileUpload's value: a dict of dicts in ipywidgets 7, a tuple of dicts in 8."""
    entries = value.values() if isinstance(value, dict) else value
    return [bytes(entry["content"]) for entry in entries]


def decode(data: bytes) -> np.ndarray:
    """An encoded photo -> uint8 [H,W,3], upright; one of files.UNREADABLE if it is none."""
    with Image.open(io.BytesIO(data)) as image:
        return files.to_rgb(ImageOps.exif_transpose(image))


def parse(segmenter: Segmenter, photo: np.ndarray) -> bytes:
    """uint8 [H,W,3] -> PNG of its parse."""
    return everything.png(everything.parse(photo, segmenter.predict([photo])[0], segmenter.dataset))


def upload(segmenter: Segmenter) -> ipywidgets.VBox:
    """A button that takes one photo of the reader's own and shows its parse below, or why it could not be read."""
    button = ipywidgets.FileUpload(accept="image/*", multiple=False, description="Upload a photo")
    picture, message = ipywidgets.HTML(), ipywidgets.HTML()
    box = ipywidgets.VBox([button, message, picture])

    def show(change):
        for data in uploaded(change["new"]):
            message.value = "parsing ..."
            try:
                photo = decode(data)
            except files.UNREADABLE as error:
                message.value = f"This file cannot be read as a photo ({type(error).__name__}): try a JPEG or PNG."
                continue
            picture.value = as_html(parse(segmenter, photo))
            message.value = ""

    button.observe(show, names="value")
    return box


def as_html(png: bytes) -> str:
    """A PNG as an HTML picture."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" style="max-width: 100%">'


# ---- the panel of a training ----

LOWEST, HIGHEST = -7, 0  # of the slider, as powers of ten
REST = 2.0  # seconds after which a slider counts as left alone
TEXT_EVERY = 0.5  # seconds between two updates of bar and status
DRAW_SHARE = 0.05  # of the time at most that goes into drawing the curve
FACES = 3
PATIENCE = 2  # seconds that a drawing waits for another
LINES = 4  # of what the training said last
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
    """The widgets, and what each does. Updates come from the training's thread, clicks from another."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.own = threading.local()  # .quiet: this thread sets a widget itself, no reader does
        self.pen = threading.Lock()  # one drawing at a time
        self.texted = self.drawn = -math.inf  # when bar and curve were last updated
        self.moved = -math.inf  # when a reader last moved the slider
        self.cost = 0.0  # seconds that a curve takes
        self._make_widgets()
        super().__init__(self._rows())
        self._connect()
        self.refresh()
        trainer.watchers.append(self.on_event)

    # --- widgets -------------------------------------------------------------------------------------------------

    def _make_widgets(self) -> None:
        """Every widget, with a class name for style sheets and tests."""
        wide = {"width": "max-content"}
        self.start = ipywidgets.Button(description="Start", button_style="success", icon="play")
        self.pause = ipywidgets.Button(description="Pause", button_style="warning", icon="pause")
        self.after = ipywidgets.Button(description="Stop after this epoch", icon="stop", layout=wide)
        left = max(self.trainer.settings.epochs - self.trainer.epoch, 1)
        named = {"description_width": "initial"}  # else long names are cut
        self.epochs = ipywidgets.BoundedIntText(left, min=1, max=100000, description="epochs to go", style=named)
        self.epochs.layout.width = "170px"
        self.slider = ipywidgets.FloatLogSlider(
            self._shown(self.trainer.lr), base=10, min=LOWEST, max=HIGHEST, step=0.01, description="learning rate",
            continuous_update=False, readout=False, style=named,
        )  # fmt: skip
        self.slider.layout.width = "420px"
        self.number = ipywidgets.Text(self._text(self.trainer.lr), continuous_update=False)
        self.number.layout.width = "90px"
        small = {"width": "44px"}
        self.tenth = ipywidgets.Button(description="/10", layout=small)
        self.half = ipywidgets.Button(description="/2", layout=small)
        self.double = ipywidgets.Button(description="×2", layout=small)
        self.bar = ipywidgets.FloatProgress(0, min=0, max=1, bar_style="info")
        self.bar.layout.width = "260px"
        self.status, self.hint, self.message = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.curve, self.faces = ipywidgets.Image(format="png"), ipywidgets.Image(format="png")
        for picture in (self.curve, self.faces):
            picture.layout.max_width = "100%"
            picture.layout.object_fit = "contain"
        for name in ("start", "pause", "after", "epochs", "slider", "number", "tenth", "half", "double", "bar",
                     "status", "message", "curve", "faces"):  # fmt: skip
            getattr(self, name).add_class(f"unet-{name}")

    def _rows(self) -> list[ipywidgets.Widget]:
        """The widgets, top to bottom."""
        return [
            ipywidgets.HBox([self.start, self.pause, self.after, self.epochs]),
            ipywidgets.HBox([self.slider, self.number, self.tenth, self.half, self.double]),
            ipywidgets.HBox([self.bar, self.status]),
            self.hint,
            self.message,
            self.curve,
            self.faces,
        ]

    def _connect(self) -> None:
        """What each widget does when a reader uses it."""
        self.start.on_click(self.on_start)
        self.pause.on_click(self.on_pause)
        self.after.on_click(self.on_after)
        self.epochs.observe(self.on_epochs, names="value")
        self.slider.observe(self.on_slider, names="value")
        self.number.observe(self.on_number, names="value")
        for button, factor in ((self.tenth, 0.1), (self.half, 0.5), (self.double, 2.0)):
            button.on_click(lambda _, factor=factor: self.on_factor(factor))

    # --- what a reader does --------------------------------------------------------------------------------------

    def on_start(self, _: ipywidgets.Button) -> None:
        """Train for the epochs to go."""
        with self._told():
            self.trainer.start(self.trainer.epoch + self.epochs.value)
        self.show_buttons()

    def on_pause(self, _: ipywidgets.Button) -> None:
        """Stop after this step; the thread's last words say where."""
        self.trainer.pause()

    def on_after(self, _: ipywidgets.Button) -> None:
        """Stop when the epoch is whole."""
        self.trainer.stop_after_epoch()
        if self.trainer.stop == "epoch":
            self.say("Stops after this epoch.")

    def on_epochs(self, change: dict) -> None:
        """While a training runs, more or fewer epochs; else they count when Start is pressed."""
        if not self._quiet() and self.trainer.running:
            self.trainer.target_epoch = self.trainer.epoch + change["new"]
            self.show_progress()

    def on_slider(self, change: dict) -> None:
        """The rate that the slider was moved to."""
        if not self._quiet():
            self.moved = time.monotonic()
            self.set_rate(change["new"])

    def on_number(self, change: dict) -> None:
        """The rate that was typed."""
        if self._quiet():
            return
        self.moved = -math.inf
        try:
            rate = float(change["new"])
        except ValueError:
            self.say(f"{change['new']!r} is no number: type for example 3e-4", fault=True)
            self.show_rate()
        else:
            self.set_rate(rate)

    def on_factor(self, factor: float) -> None:
        """The rate that one of the buttons asks for."""
        self.moved = -math.inf
        self.set_rate(self.trainer.lr * factor)

    def set_rate(self, rate: float) -> None:
        """The training's rate, from its next step on."""
        with self._told():
            self.trainer.lr = float(f"{rate:.3g}")
        self.show_rate()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """An error of ours is shown, not raised where nobody sees it."""
        try:
            yield
        except UNetError as error:
            self.say(str(error), fault=True)

    # --- what the training does ----------------------------------------------------------------------------------

    def on_event(self, event: str) -> None:
        """The trainer's watcher; called in its thread between two steps."""
        now = time.monotonic()
        if event == "log" and self.trainer.log_lines:
            self.say("\n".join(self.trainer.log_lines[-LINES:]))
        elif event in ("epoch", "end"):
            self.refresh()
        elif event == "note":
            self.show_rate()
            self.draw_curve()
        elif event == "step" and now - self.texted > TEXT_EVERY:
            self.show_progress()
            if now - self.drawn > self.cost / DRAW_SHARE:
                self.draw_curve()

    def refresh(self) -> None:
        """Everything, as it is now."""
        self.show_buttons()
        self.show_rate()
        self.show_progress()
        self.draw_curve()
        self.draw_faces()
        if self.trainer.error is not None:
            error = self.trainer.error
            self.say(f"{type(error).__name__}: {error} (trainer.wait() raises it in a cell)", fault=True)

    def show_buttons(self) -> None:
        """Which buttons can be pressed, and how many epochs are to go."""
        trains, behind = self.trainer.training_thread is not None or self.trainer.running, self.trainer.running
        self.hint.value = HINT if behind else ""
        self.start.disabled, self.pause.disabled, self.after.disabled = trains, not behind, not behind
        if trains and (left := self.trainer.target_epoch - self.trainer.epoch) > 0:
            with self._quietly():
                self.epochs.value = left

    def show_rate(self) -> None:
        """The rate of the next step, on the slider and as a number.

        Not on a slider that is being moved: the answer to one key would undo the keys pressed since.
        """
        with self._quietly():
            if time.monotonic() - self.moved > REST:
                self.slider.value = self._shown(self.trainer.lr)
            self.number.value = self._text(self.trainer.lr)

    def show_progress(self) -> None:
        """Bar and status line."""
        one = self.trainer
        end = max(one.target_epoch, one.epoch, 1)
        self.bar.max, self.bar.value = float(end), one.progress
        images = (end - one.progress) * len(one.arrays["train"])
        words = [f"epoch {one.progress:.1f} of {end}", f"step {one.step}", f"rate {one.lr:.1e}"]
        if one.trace:
            words.append(f"loss {one.trace[-1][1]:.3f}")
        if one.images_per_second > 0:
            left = round(images / one.images_per_second)
            words += [f"{one.images_per_second:.0f} images/s", f"{left // 60}:{left % 60:02} left"]
        self.status.value = " &nbsp; ".join(words)
        self.texted = time.monotonic()

    def draw_curve(self) -> None:
        """Loss, validation and rate so far, the rate's changes marked."""
        with self._drawing() as free:
            began = time.monotonic()
            one = self.trainer
            if not free:
                return
            self.curve.value = everything.png(everything.curves(one.history, one.dataset, list(one.trace)))
            self.drawn = time.monotonic()
            self.cost = self.drawn - began

    def draw_faces(self) -> None:
        """What the network says now of a few validation images, from one step's weights."""
        with self._drawing() as free:
            one, val = self.trainer, self.trainer.arrays["val"]
            if not free or not len(val):
                return
            rows = np.linspace(0, len(val) - 1, min(FACES, len(val))).astype(int)
            images, truths = one.at_size(
                *(torch.from_numpy(part[rows]) for part in (val.images, val.labels)), one.epoch
            )
            x = to_float(images.to(one.device), one.settings.mean, one.settings.std)
            with torch.no_grad():
                said = one.network(x).argmax(1).to(torch.uint8).cpu().numpy()
            names = [val.ids[row] for row in rows]
            self.faces.value = everything.png(
                everything.predictions(images.numpy(), truths.numpy(), said, one.dataset, names)
            )

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[bool]:
        """The pen, one thread at a time; False if another draws for long: a picture must not hold a training up."""
        free = self.pen.acquire(timeout=PATIENCE)
        try:
            yield free
        finally:
            if free:
                self.pen.release()

    def say(self, text: str, fault: bool = False) -> None:
        """Lines below the bar."""
        color = "#b00020" if fault else "inherit"
        self.message.value = f'<pre style="color: {color}; white-space: pre-wrap; margin: 0">{html.escape(text)}</pre>'

    # --- small matters -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _quietly(self) -> Iterator[None]:
        """Within, this thread's changes of widgets are no orders."""
        self.own.quiet = True
        try:
            yield
        finally:
            self.own.quiet = False

    def _quiet(self) -> bool:
        """Whether the change at hand is our own."""
        return getattr(self.own, "quiet", False)

    @staticmethod
    def _shown(rate: float) -> float:
        """A rate within the slider's ends."""
        return min(max(rate, 10.0**LOWEST), 10.0**HIGHEST)

    @staticmethod
    def _text(rate: float) -> str:
        """A rate as it would be typed."""
        return f"{rate:.2e}"
