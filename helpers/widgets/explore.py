"""Things to play with, each a picture that answers a few controls. No argument that only ipywidgets 8 has."""

import base64
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from .. import metrics, plots
from ..augment import Augment
from ..catalog import VOID, Dataset
from ..plots.canvas import FAINT, HUES, INK, LABEL, LINE, WIDTH, make_figure, message, place, shorten
from ..predict import Segmenter
from ..preprocess import Arrays, resize_label, resize_photo

NAMES, COLORS = ("TN", "FP", "FN", "TP"), ("#d8d8d8", "#d55e00", "#0072b2", "#009e73")  # of 2 x truth + prediction
PALETTE = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in (*COLORS, "#ffffff")], np.uint8)


class Explorer(ipywidgets.VBox):
    """Controls above the picture that `draw` makes of their values; a notebook's file keeps that picture."""

    _ipython_display_ = None  # of ipywidgets 7: it would hide the bundle below

    def __init__(self, draw: Callable[[], Figure], *controls: ipywidgets.Widget):
        self.draw, self.controls = draw, controls
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        super().__init__([ipywidgets.HBox(controls, layout={"flex_flow": "row wrap"}), self.picture])
        for control in controls:
            control.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, _: Any = None) -> None:
        """The picture as the controls stand now."""
        self.picture.value = plots.png(self.draw())

    def _repr_mimebundle_(self, **_: Any) -> dict:
        """The widget where a kernel stands behind it, elsewhere the picture."""
        still = base64.b64encode(self.picture.value).decode()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        texts = {"text/plain": "A picture with controls: run the cell to use them."}
        return texts | {"image/png": still, "application/vnd.jupyter.widget-view+json": view}


def tiles(pictures: dict[str, np.ndarray], text: str = "") -> Figure:
    """Up to three pictures side by side, photos uint8 [h,w,3] or numbers [h,w], and a line of text above them."""
    figure = make_figure(WIDTH, 320 + LINE * bool(text))
    figure.text(10 / WIDTH, 1 - 12 / figure.bbox.height, text, va="center", **LABEL)
    for i, (title, picture) in enumerate(pictures.items()):
        axes = place(figure, 10 + 298 * i, 10, 284, 284)
        axes.imshow(picture, cmap="magma", interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(shorten(title, 284), pad=4, **LABEL)
    return figure


def dice_grid(truth: Any, prediction: Any = None) -> Explorer:
    """Predict pixels by clicks: truth [h,w] of 0 and 1, Dice, IoU and accuracy beside. None: the truth a column off."""
    t = np.asarray(truth).astype(np.uint8)
    p = np.roll(t, 1, 1) if prediction is None else np.asarray(prediction).astype(np.uint8)
    pixels = [ipywidgets.Button(layout={"width": "44px", "height": "44px", "margin": "1px"}) for _ in range(t.size)]
    grid = ipywidgets.GridBox(pixels, layout={"grid_template_columns": f"repeat({t.shape[1]}, 46px)"})
    clear = ipywidgets.Button(description="all background")

    def draw() -> Figure:
        for pixel, code in zip(pixels, (2 * t + p).flat):
            pixel.description, pixel.style.button_color = NAMES[code], COLORS[code]
        return dice_picture(t, p)

    def put(where: Any, value: Any) -> None:
        p.flat[where] = value
        explorer.redraw()

    explorer = Explorer(draw, ipywidgets.Label("Click the pixels to predict:"), grid, clear)
    for i in range(t.size):
        pixels[i].on_click(lambda _, i=i: put(i, 1 - p.flat[i]))
    clear.on_click(lambda _: put(slice(None), 0))
    return explorer


def dice_picture(t: np.ndarray, p: np.ndarray) -> Figure:
    """Truth and prediction uint8 [h,w] of 0 and 1 as grids, and three scores with their formulas."""
    cells = np.kron([3 * t, 2 * t + p], np.ones((1, 40, 40), int))
    cells[:, ::40] = cells[:, :, ::40] = len(NAMES)  # white lines
    figure = tiles({"truth": PALETTE[cells[0]], "prediction": PALETTE[cells[1]]})
    for (y, x), code in np.ndenumerate(2 * t + p):
        ink = "white" if code else INK
        figure.axes[1].text(40 * x + 20, 40 * y + 20, NAMES[code], ha="center", va="center", color=ink)
    (tn, fp), (fn, tp) = matrix = metrics.confusion(torch.from_numpy(p), torch.from_numpy(t), 2).numpy()
    scores = {
        f"Dice = 2 TP / (2 TP + FP + FN) = {2 * tp} / {2 * tp + fp + fn}": metrics.f1(matrix, (1,)),
        f"IoU = TP / (TP + FP + FN) = {tp} / {tp + fp + fn}": metrics.iou(matrix)[1],
        f"pixel accuracy = (TP + TN) / all = {tp + tn} / {t.size}": metrics.accuracy(matrix),
    }
    axes = place(figure, 610, 10, 280, 284)
    axes.set(xlim=(0, 1), ylim=(3, 0))
    axes.set_axis_off()
    for y, (name, score) in enumerate(scores.items()):
        axes.text(0, y + 0.3, f"{name}\n= " + ("no score" if np.isnan(score) else f"{score:.3f}"), va="center", **LABEL)
        axes.barh([y + 0.65] * 2, [1, np.nan_to_num(score)], 0.2, color=[FAINT, HUES[0]])
    return figure


def augmentation(arrays: Arrays, dataset: Dataset, sample: int = 0, seed: int = 0) -> Explorer:
    """A sample of a split as a training with this seed sees it, at any strength of augmentation and in any epoch."""
    strength = ipywidgets.FloatSlider(1.0, min=0, max=2, step=0.25, description="strength", continuous_update=False)
    epoch = ipywidgets.IntSlider(0, min=0, max=30, description="epoch", continuous_update=False)

    def draw() -> Figure:
        if not 0 <= sample < len(arrays):
            return message(f"There is no sample {sample}: this split has {len(arrays)}.")
        image, label = np.array(arrays.images[sample]), np.array(arrays.labels[sample])
        change = Augment(dataset.flip_pairs, 0, 1, seed, strength.value)
        x, ids = change(torch.from_numpy(image)[None], torch.from_numpy(label)[None], np.array([sample]), epoch.value)
        moved = (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
        titles = [f"sample {arrays.ids[sample]}", f"strength {strength.value:g}, epoch {epoch.value}"]
        return plots.pairs([image, moved], [label, ids[0].byte().numpy()], dataset, titles)

    return Explorer(draw, strength, epoch)


def feature_maps(segmenter: Segmenter, photo: np.ndarray) -> Explorer:
    """What each channel of each block of a U-Net makes of a photo uint8 [H,W,3]; the last block gives the logits."""
    model: Any = segmenter.model
    maps: dict[str, np.ndarray] = {}  # block -> [C,h,w]
    blocks = {"in": model.enter} | {f"down{i}": block for i, block in enumerate(model.downs, 1)}
    blocks |= {f"up{i}": block for i, block in enumerate(model.ups, 1)} | {"out": model.out}
    with contextlib.ExitStack() as hooks:
        for name, block in blocks.items():
            keep = lambda _, __, x, name=name: maps.update({name: x[0].float().cpu().numpy()})  # noqa: E731
            hooks.callback(block.register_forward_hook(keep).remove)
        segmenter.logits([photo])
    layer = ipywidgets.Dropdown(options=list(maps), value="in", description="layer")
    channel = ipywidgets.IntSlider(0, min=0, max=len(maps["in"]) - 1, description="channel", continuous_update=False)
    small, classes = resize_photo(photo, segmenter.settings.shape), segmenter.dataset.classes

    def draw() -> Figure:
        planes = maps[layer.value]
        channel.max = len(planes) - 1
        first, plane = channel.value // 16 * 16, planes[channel.value]
        what = classes[channel.value] if layer.value == "out" else f"channel {channel.value}"
        figure = tiles({"photo": small, f"{layer.value}, {what}: {plane.shape[0]} x {plane.shape[1]}": plane})
        for i, one in enumerate(planes[first : first + 16]):
            axes = place(figure, 606 + 72 * (i % 4), 226 - 72 * (i // 4), 68, 68)
            axes.imshow(one, cmap="magma", aspect="auto")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=HUES[5], linewidth=4 * (first + i == channel.value))
        text = f"channels {first} to {min(first + 16, len(planes)) - 1} of {len(planes)}"
        figure.text(748 / WIDTH, 304 / 320, text, ha="center", va="center", **LABEL)
        return figure

    return Explorer(draw, layer, channel)


def errors(images: Sequence, truths: Sequence, guesses: Sequence, dataset: Dataset) -> Explorer:
    """The images with the lowest or highest F1 of a class or group: photos uint8 [H,W,3], two labels uint8 [H,W]."""
    count = len(dataset.classes)
    labels = [[torch.from_numpy(np.array(label)) for label in pair] for pair in zip(guesses, truths, strict=True)]
    matrices = np.reshape([metrics.confusion(p, t, count).numpy() for p, t in labels], (-1, count, count))
    scores = {name: metrics.f1(matrices, ids) for name, ids in dataset.rows.items()}
    chosen = ipywidgets.Dropdown(options=list(scores), index=(*dataset.small_classes, 0)[0], description="class")
    order = ipywidgets.Dropdown(options=["worst first", "best first"], description="order")
    rank = ipywidgets.IntSlider(1, min=1, max=max(len(images), 1), description="from rank", continuous_update=False)

    def draw() -> Figure:
        name, score = chosen.value, scores[chosen.value]
        ranking = np.argsort(score if order.value == "worst first" else -score, kind="stable")  # NaN comes last
        ranking = ranking[: np.count_nonzero(~np.isnan(score))]
        rank.max = max(len(ranking), 1)
        rows = ranking[rank.value - 1 :][:3].tolist()
        if not rows:
            return message(f"None of the {len(images)} images has {name!r}, neither in truth nor in prediction.")
        titles = [f"{number}. {name} F1 {score[i]:.2f}" for number, i in enumerate(rows, rank.value)]
        photos, true, predicted = ([labels[i] for i in rows] for labels in (images, truths, guesses))
        return plots.predictions(photos, true, predicted, dataset, titles)

    return Explorer(draw, chosen, order, rank)


def confidence(segmenter: Segmenter, photo: np.ndarray, truth: np.ndarray | None = None) -> Explorer:
    """Colours only where the largest probability reaches a threshold, at the network's input size.

    Photo uint8 [H,W,3]; truth uint8 [H,W], or None where it is not known: then no accuracy is shown.
    """
    photo, shape = resize_photo(photo, segmenter.settings.shape), segmenter.settings.shape
    sure, label = (values[0].cpu().numpy() for values in segmenter.logits([photo]).float().softmax(1).max(1))
    label, truth = label.astype(np.uint8), None if truth is None else resize_label(truth, shape)
    grey = np.repeat((photo.mean(2, keepdims=True) * 0.45 + 120).astype(np.uint8), 3, 2)  # no class is so pale
    threshold = ipywidgets.FloatSlider(0.9, min=0, max=1, step=0.01, description="threshold", continuous_update=False)

    def draw() -> Figure:
        above = sure >= threshold.value
        text = f"{above.mean():.1%} of the pixels have a probability of at least {threshold.value:.2f}"
        sure_only = plots.overlay(grey, np.where(above, label, VOID), segmenter.dataset, 0.7)
        pictures = {"photo": photo, "prediction, unsure pixels grey": sure_only}
        if truth is None:
            return tiles(pictures | {"largest probability": sure}, text)
        kept = np.where(above, truth, VOID)
        right = metrics.divide(np.sum(kept == label), np.sum(kept != VOID))
        text += "; none can be scored" if np.isnan(right) else f"; {right:.1%} of them are right"
        return tiles(pictures | {"errors, unsure pixels dark": plots.error_map(kept, label)}, text)

    return Explorer(draw, threshold)
