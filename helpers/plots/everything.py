"""Pictures: arrays and numbers in, a matplotlib Figure out. No pyplot, so any thread may draw."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from PIL import Image

from ..catalog import Dataset
from ..core import files, masks
from ..core.masks import UnknownColor

DPI = 90  # 900 pixels = 10 inches: a notebook's width, and a modest PNG
WIDTH = 900
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
HUES = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
)  # Okabe and Ito: safe for colour-blind eyes
TEXT, SMALL = 9, 8  # points
LINE = 16  # pixels that a line of text takes
VOID_COLOR = (255, 255, 255)
WRONG, RIGHT, EDGE, UNSCORED = (204, 0, 90), (226, 226, 226), (188, 188, 188), (140, 140, 140)


# ---- colours ----


def colorize(label: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Label uint8 [H,W] -> uint8 [H,W,3] in the catalogue's colours, void white; DataError for any other id."""
    palette = np.full((256, 3), VOID_COLOR, np.uint8)
    palette[: len(dataset.colors)] = dataset.colors
    return palette[masks.check_ids(np.asarray(label), len(dataset.classes), "label map")]


def overlay(image: np.ndarray, label: np.ndarray, dataset: Dataset, alpha: float = 0.5) -> np.ndarray:
    """Photo uint8 [H,W,3] tinted by label uint8 [H,W] -> uint8 [H,W,3]; edges twice as strong, void untouched."""
    if image.shape[:2] != label.shape:
        raise ValueError(f"photo {image.shape[:2]} and label {label.shape} differ in size")
    weight = np.where(_edges(label), min(1.0, 2 * alpha), alpha) * (label != masks.VOID)
    mixed = image + (colorize(label, dataset) - image.astype(np.float32)) * weight[..., None]
    return np.rint(mixed).astype(np.uint8)


def error_map(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Two labels uint8 [H,W] -> uint8 [H,W,3]: wrong pixels magenta on pale grey, the truth's void dark grey."""
    if truth.shape != prediction.shape:
        raise ValueError(f"truth {truth.shape} and prediction {prediction.shape} differ in size")
    picture = np.where(_edges(truth)[..., None], EDGE, RIGHT).astype(np.uint8)
    picture[truth != prediction] = WRONG
    picture[truth == masks.VOID] = UNSCORED
    return picture


def _edges(label: np.ndarray) -> np.ndarray:
    """Label [H,W] -> bool [H,W]: pixels whose right or lower neighbour has another id."""
    edge = np.zeros(label.shape, bool)
    edge[:, :-1] |= label[:, :-1] != label[:, 1:]
    edge[:-1] |= label[:-1] != label[1:]
    return edge


# ---- figures, axes, legends ----


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes: the same figure gives the same bytes, in any thread."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure to `path` as PNG, whole or not at all."""
    files.write_atomic(path, png(figure))


def legend(figure: Figure, dataset: Dataset, labels: Sequence[str] | None = None) -> Legend:
    """Class colours along the figure's lower edge; `labels` replace the class names."""
    labels = labels or dataset.classes
    handles = [
        Patch(facecolor=np.divide(color, 255), edgecolor=MUTED, linewidth=0.5, label=label)
        for color, label in zip(dataset.colors, labels, strict=True)
    ]
    columns, _ = _legend_shape(labels, figure.bbox.width)
    return figure.legend(
        handles=handles, loc="lower center", ncols=columns, fontsize=TEXT, frameon=False, labelcolor=INK,
        handlelength=1.2, handleheight=1.0, columnspacing=1.2, borderaxespad=0.2,
    )  # fmt: skip


def _legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Labels and a width in pixels -> columns of the legend and its height in pixels."""
    columns = max(1, min(len(labels), int(width // (7 * max(map(len, labels)) + 38))))
    rows = math.ceil(len(labels) / columns)
    columns = math.ceil(len(labels) / rows)  # the same number of rows, evenly filled
    return columns, rows * (LINE + 3) + 8


def _figure(width: float, height: float) -> Figure:
    """A white figure of so many pixels, drawn by Agg."""
    figure = Figure(figsize=((width + 1e-6) / DPI, (height + 1e-6) / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _place(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """New axes at a pixel box, measured from the lower left corner."""
    w, h = figure.bbox.size
    return figure.add_axes((x / w, y / h, width / w, height / h))


def _chart(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Axes for a chart at a pixel box: two spines, pale grid behind the data."""
    axes = _place(figure, x, y, width, height)
    axes.set_axisbelow(True)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=SMALL, color=MUTED, labelcolor=INK)
    return axes


def _message(text: str) -> Figure:
    """A small figure that holds one line of text."""
    figure = _figure(WIDTH, 80)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=11)
    return figure


def _percent(share: float) -> str:
    """0.374 -> '37 %', 0.0212 -> '2.1 %', 0.0023 -> '0.23 %'."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def _short(text: str, pixels: float) -> str:
    """The text, cut with an ellipsis where it would not fit."""
    fits = max(2, int(pixels // 6.5))
    return text if len(text) <= fits else text[: fits - 1] + "…"


# ---- pictures in rows ----


def _fit(picture: np.ndarray, side: int, smooth: bool) -> np.ndarray:
    """uint8 [H,W] or [H,W,3] -> the same, its longer side `side` pixels; not smooth: nearest neighbour."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS if smooth else Image.NEAREST))


def _photo(image: np.ndarray, side: int) -> np.ndarray:
    """Photo uint8 [H,W,3] -> tile; six bits a channel, which the eye does not miss, make the PNG a third smaller."""
    return _fit(np.ascontiguousarray(image), side, smooth=True) & 0xFC


def _map(picture: np.ndarray, side: int) -> np.ndarray:
    """Coloured label uint8 [H,W,3] -> tile: smooth when it shrinks, square pixels when it grows."""
    return _fit(picture, side, smooth=max(picture.shape) > side)


def _tinted(image: np.ndarray, label: np.ndarray, dataset: Dataset, side: int) -> np.ndarray:
    """Photo and label -> overlay tile, laid at the tile's size so that its edges stay one pixel thin."""
    return overlay(_photo(image, side), _fit(label, side, smooth=False), dataset)


def _tiles(
    rows: list[list[np.ndarray]], side: int, above: list[list[str]] | None = None, beside: Sequence[str] | None = None,
    dataset: Dataset | None = None, labels: Sequence[str] | None = None, gap: int = 6,
) -> Figure:  # fmt: skip
    """Rows of uint8 [h,w,3] tiles, pixel for pixel; texts above tiles and beside rows, a legend if dataset is given."""
    above = above or [[] for _ in rows]
    left = gap + (LINE if beside else 0)
    heights = [max(tile.shape[0] for tile in row) + LINE * any(texts) for row, texts in zip(rows, above, strict=True)]
    width = left + max(map(len, rows)) * (side + gap)
    bottom = _legend_shape(labels or dataset.classes, width)[1] if dataset else 0
    top = sum(heights) + gap * (len(rows) + 1) + bottom
    figure = _figure(width, top)
    for r, (row, texts, height) in enumerate(zip(rows, above, heights, strict=True)):
        top -= gap + height
        for c, tile in enumerate(row):
            _tile(figure, tile, left + c * (side + gap), top, side, height, texts[c] if texts else "")
        if beside:
            y = (top + row[0].shape[0] / 2) / figure.bbox.height
            text = _short(beside[r], row[0].shape[0])
            figure.text(
                (LINE / 2 + 2) / width,
                y,
                text,
                rotation=90,
                ha="center",
                va="center",
                fontsize=SMALL,
                color=INK,
            )
    if dataset:
        legend(figure, dataset, labels)
    return figure


def _tile(figure: Figure, tile: np.ndarray, x: int, y: int, side: int, height: int, text: str) -> None:
    """One picture in a cell `side` wide and `height` high, its text above it."""
    h, w = tile.shape[:2]
    room = height - (LINE if text else 0)
    axes = _place(figure, x + (side - w) // 2, y + (room - h) // 2, w, h)
    axes.imshow(tile, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    if text:
        axes.set_title(_short(text, side), fontsize=TEXT, color=INK, pad=3)


def _lines(items: Sequence, columns: int) -> list[list]:
    """A flat list -> rows of at most `columns`."""
    return [list(items[i : i + columns]) for i in range(0, len(items), columns)]


def pairs(
    images: Sequence[np.ndarray], labels: Sequence[np.ndarray], dataset: Dataset,
    titles: Sequence[str] | None = None, columns: int = 4,
) -> Figure:  # fmt: skip
    """Photos uint8 [H,W,3], each beside its label uint8 [H,W]; `columns` counts both: 4 are two samples a row."""
    side = (WIDTH - 6) // columns - 6
    tiles, texts = [], []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        tiles += [_photo(image, side), _map(colorize(label, dataset), side)]
        texts += [titles[i] if titles else "", ""]
    columns = max(2, columns // 2 * 2)  # a photo and its label stay in one row
    return _tiles(_lines(tiles, columns), side, above=_lines(texts, columns), dataset=dataset)


def batch(images: Sequence[np.ndarray], labels: Sequence[np.ndarray], dataset: Dataset, columns: int = 5) -> Figure:
    """Photos uint8 [B,H,W,3] in rows of `columns`, under each its label uint8 [B,H,W]."""
    side = min(150, (WIDTH - 4) // columns - 4)
    photos = _lines([_photo(image, side) for image in images], columns)
    maps = _lines([_map(colorize(label, dataset), side) for label in labels], columns)
    return _tiles([row for pair in zip(photos, maps, strict=True) for row in pair], side, dataset=dataset, gap=4)


def predictions(
    images: Sequence[np.ndarray], truths: Sequence[np.ndarray], predictions: Sequence[np.ndarray], dataset: Dataset,
    titles: Sequence[str] | None = None,
) -> Figure:  # fmt: skip
    """A row an image: photo uint8 [H,W,3], truth and prediction uint8 [H,W], overlay, errors."""
    side, rows = 150, []
    for image, truth, guess in zip(images, truths, predictions, strict=True):
        maps = [colorize(truth, dataset), colorize(guess, dataset), error_map(truth, guess)]
        true, said, wrong = (_map(picture, side) for picture in maps)
        rows.append([_photo(image, side), true, said, _tinted(image, guess, dataset, side), wrong])
    above = [["photo", "true label", "prediction", "overlay", "errors"]] + [[] for _ in rows[1:]]
    return _tiles(rows, side, above=above, beside=titles, dataset=dataset)


def parse(image: np.ndarray, prediction: np.ndarray, dataset: Dataset) -> Figure:
    """One photo uint8 [H,W,3] with its label map uint8 [H,W] and overlay; the legend gives each class's share."""
    side = 290
    tiles = [
        _photo(image, side), _map(colorize(prediction, dataset), side), _tinted(image, prediction, dataset, side)
    ]  # fmt: skip
    shares = [f"{name} {_percent((prediction == i).mean())}" for i, name in enumerate(dataset.classes)]
    return _tiles([tiles], side, above=[["photo", "prediction", "overlay"]], dataset=dataset, labels=shares)


def class_overlays(image: np.ndarray, prediction: np.ndarray, dataset: Dataset) -> Figure:
    """One tile a class present in prediction uint8 [H,W]: that class in colour on the photo in dim grey."""
    side, columns = 174, 5
    photo, label = _photo(image, side), _fit(prediction, side, smooth=False)
    grey = np.repeat((photo.mean(-1, keepdims=True) * 0.45 + 120).astype(np.uint8) & 0xFC, 3, -1)
    tiles, texts = [], []
    for i in np.unique(prediction[prediction != masks.VOID]):
        only = np.where(label == i, label, masks.VOID)  # overlay leaves void as it is
        tiles.append(overlay(grey, only, dataset, alpha=0.75))
        texts.append(f"{dataset.classes[i]}  {_percent((prediction == i).mean())}")
    return _tiles(_lines(tiles, columns), side, above=_lines(texts, columns))


def resampling(label_crop: np.ndarray, nearest: np.ndarray, bilinear: np.ndarray, dataset: Dataset) -> Figure:
    """A label uint8 [h,w] and its two resized forms [H,W]; the last tile marks where averaging changed the id."""
    side = 215
    rounded = np.rint(bilinear).astype(np.uint8)
    changed = rounded != nearest
    known = np.where(rounded < len(dataset.classes), rounded, masks.VOID)  # void mixed in gives ids of no class
    marked = np.where(changed[..., None], WRONG, RIGHT).astype(np.uint8)
    pictures = [colorize(label_crop, dataset), colorize(nearest, dataset), colorize(known, dataset), marked]
    above = [["label", "nearest", "bilinear", f"changed by averaging: {_percent(changed.mean())}"]]
    return _tiles([[_fit(picture, side, smooth=False) for picture in pictures]], side, above=above, dataset=dataset)


# ---- charts ----


def shares(shares: dict[str, float] | np.ndarray, dataset: Dataset) -> Figure:
    """Share of the pixels, 0..1, of each class (by name, or [C] by id): bars on a log axis."""
    if not isinstance(shares, dict):
        shares = dict(zip(dataset.classes, np.asarray(shares).tolist(), strict=True))
    values = np.array(list(shares.values()), float)
    seen = values[values > 0]
    figure = _figure(WIDTH, 24 * len(values) + 60)
    axes = _chart(figure, 110, 46, WIDTH - 190, 24 * len(values))
    colors = [np.divide(dataset.colors[dataset.id(name)], 255) for name in shares]
    left = seen.min() / 2 if len(seen) else 1e-3  # where the bars start: a log axis has no zero
    axes.barh(
        range(len(values)),
        np.maximum(values, left) - left,
        left=left,
        color=colors,
        edgecolor=MUTED,
        linewidth=0.5,
    )
    for i, value in enumerate(values):
        axes.text(max(value, left) * 1.05, i, _percent(value), va="center", fontsize=TEXT, color=INK)
    axes.set(xscale="log", xlim=(left, 1), ylim=(len(values) - 0.4, -0.6))
    axes.set_yticks(range(len(values)), list(shares))
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
    axes.set_xlabel("share of all pixels (log scale)", fontsize=TEXT, color=INK)
    return figure


def dice_example(p: np.ndarray, t: np.ndarray, by_hand: float) -> Figure:
    """Probability [h,w] in 0..1, truth [h,w] of 0 and 1, and their product, number by number, with their sums."""
    figure = _figure(WIDTH, 330)
    maps = {"probability p": p, "truth t": t, "product p·t": np.multiply(p, t)}
    for i, (title, values) in enumerate(maps.items()):
        axes = _place(figure, 55 + i * 290, 42, 230, 230)
        _heat(axes, np.asarray(values, float), lambda value: f"{value:.2f}".rstrip("0").rstrip("."), TEXT)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=TEXT + 1, color=INK)
        axes.set_xlabel(f"sum {np.sum(values):.2f}", fontsize=TEXT + 1, color=INK)
    figure.text(0.5, 0.95, f"Dice loss by hand: {by_hand:.4f}", ha="center", va="center", fontsize=12, color=INK)
    return figure


def _heat(axes: Axes, values: np.ndarray, text, fontsize: float) -> None:
    """Numbers [h,w] in 0..1 as a heat map, `text(value)` in each cell; NaN cells stay pale grey and empty."""
    axes.set_facecolor(FAINT)
    axes.imshow(np.ma.masked_invalid(values), cmap="Blues", norm=PowerNorm(0.6, 0, 1.15), aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if value > 0.45 else INK
            axes.text(x, y, text(value), ha="center", va="center", fontsize=fontsize, color=color)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)


def confusion(matrix: np.ndarray, dataset: Dataset) -> Figure:
    """Pixel counts int64 [C,C], rows = truth -> each row's shares; an absent class is a grey row."""
    count, margin = len(dataset.classes), 12 + 7 * max(map(len, dataset.classes))
    cell = max(44, 320 // count)
    total = matrix.sum(1, keepdims=True)
    part = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    figure = _figure(margin + 24 + cell * count + 10, margin + 24 + cell * count + 10)
    axes = _place(figure, margin + 24, 10, cell * count, cell * count)
    _heat(axes, part, lambda value: f"{value:.2f}" if value >= 0.005 else "", SMALL)
    axes.set_xticks(range(count), dataset.classes, rotation=90 if margin > 60 else 0)
    axes.set_yticks(range(count), dataset.classes)
    axes.tick_params(labelsize=TEXT, labelcolor=INK, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", fontsize=TEXT, color=MUTED)
    axes.set_ylabel("true class (each row sums to 1)", fontsize=TEXT, color=MUTED)
    return figure


def f1_bars(
    scores: dict[str, float],
    intervals: dict[str, tuple[float, float]] | None = None,
    reported: dict[str, float] | None = None,
) -> Figure:
    """F1 in 0..1 by name, NaN = absent; 95 % intervals as error bars, reported values as diamonds."""
    figure = _figure(WIDTH, 360)
    axes = _chart(figure, 50, 60, WIDTH - 65, 260)
    values = np.array(list(scores.values()), float)
    axes.bar(range(len(values)), values, width=0.7, color="#8fbfdc", label="this run")
    spans = np.array([(intervals or {}).get(name, (np.nan, np.nan)) for name in scores], float)
    if intervals:
        half = (spans[:, 1] - spans[:, 0]) / 2
        axes.errorbar(
            range(len(values)), spans.mean(1), yerr=half, fmt="none", ecolor=INK, capsize=3, label="95 % interval"
        )  # fmt: skip
    if reported:
        marks = [reported.get(name, np.nan) for name in scores]
        axes.plot(
            range(len(values)),
            marks,
            "D",
            color=HUES[1],
            markeredgecolor="white",
            markersize=7,
            label="reported",
        )
    for i, value in enumerate(values):
        absent = np.isnan(value)
        axes.text(
            i, 0.02, "absent" if absent else f"{value:.3f}", ha="center", va="bottom", fontsize=SMALL,
            color=MUTED if absent else INK, rotation=90 if absent or len(values) > 16 else 0,
        )  # fmt: skip
    axes.set(ylim=(0, 1), xlim=(-0.6, len(values) - 0.4))
    axes.set_ylabel("F1", fontsize=TEXT, color=INK)
    axes.set_xticks(range(len(values)), list(scores), rotation=30 if max(map(len, scores)) > 7 else 0)
    axes.grid(visible=False, axis="x")
    figure.legend(loc="upper center", ncols=3, fontsize=TEXT, frameon=False, labelcolor=INK)
    return figure


# ---- the doctor's colours ----

SWATCHES, CLOSE = 12, 24  # rows at most; a colour no further off (RGB, Euclid) is most likely the same class


def swatches(rows: Sequence[UnknownColor]) -> Figure:
    """Colours that are not in the table (own.strange_colors), the most frequent first, beside the nearest that is.

    The same colour of several files is one row; 12 rows at most, then how many more there are.
    """
    if not rows:
        return _message("every colour of the masks is in the table")
    groups: dict[tuple, list[UnknownColor]] = {}
    for row in rows:
        groups.setdefault(row.color, []).append(row)
    order = sorted(groups.values(), key=lambda group: (-sum(row.pixels for row in group), group[0].color))
    shown, step, head = order[:SWATCHES], 36, 26
    figure = _figure(WIDTH, head + step * len(shown) + (LINE + 8 if len(order) > SWATCHES else 6))
    axes = _place(figure, 0, 0, *figure.bbox.size)
    axes.set(xlim=(0, figure.bbox.width), ylim=(figure.bbox.height, 0))  # pixels from the upper left corner
    axes.set_axis_off()
    for x, text in ((10, "in the masks, not in the table"), (270, "how much"), (450, "nearest in the table")):
        axes.text(x, head / 2, text, va="center", fontsize=SMALL, color=MUTED)
    for number, group in enumerate(shown):
        _swatch(axes, head + step * number, group)
    if len(order) > SWATCHES:
        text = f"and {len(order) - SWATCHES} more"
        axes.text(10, head + step * len(shown) + LINE / 2, text, va="center", fontsize=TEXT, color=MUTED)
    return figure


def _swatch(axes: Axes, top: float, group: Sequence[UnknownColor]) -> None:
    """One strange colour of one or more files, the nearest named colour, and what that suggests."""
    row, count, pixels = group[0], len({row.file for row in group}), sum(row.pixels for row in group)
    for x, color in ((10, row.color), (450, row.nearest.color)):
        face = np.divide(color, 255)
        axes.add_patch(Rectangle((x, top), 44, 28, facecolor=face, edgecolor=MUTED, linewidth=0.5))
    close = row.distance <= CLOSE
    advice = f"most likely {row.nearest.name}: repaint it" if close else "a class missing from the table?"
    where = row.file if count == 1 else f"{count} files"
    for x, text, color in (
        (64, f"{row.color[0]}, {row.color[1]}, {row.color[2]}   {row.hex}", INK),
        (270, f"{pixels:,} px in {_short(where, 90)}", INK),
        (504, f"{_short(row.nearest.name, 100)}, {row.distance:.0f} off", INK),
        (670, _short(advice, WIDTH - 680), HUES[0] if close else HUES[1]),
    ):
        axes.text(x, top + 14, text, va="center", fontsize=TEXT, color=color)


# ---- training curves ----


def curves(runs: dict[str, list[dict]] | list[dict], dataset: Dataset, trace: Sequence[Sequence[float]] = ()) -> Figure:
    """History rows (one run, or several by name): training loss, validation F1 and rate over epochs, notes dashed.

    trace: triples (epoch, loss, rate) of one run between its epochs: the loss is drawn thin behind the means, the
    rate in place of the epochs' last ones.
    """
    runs = runs if isinstance(runs, dict) else {"": runs}
    runs = {name: rows for name, rows in runs.items() if rows or len(trace)}
    if not runs:
        return _message("no epoch finished yet")
    primary_metric = dataset.primary_metric
    named = (
        f"F1\n{primary_metric}"
        if primary_metric in dataset.rows
        else primary_metric.replace("_", " ").replace("iou", "IoU")
    )
    panels = {"loss": "training loss", dataset.column(primary_metric): f"validation {named}"}
    if all("accuracy" in row for rows in runs.values() for row in rows):
        panels["accuracy"] = "validation\naccuracy"
    panels["lr"] = "learning rate"
    figure = _figure(WIDTH, 55 + 160 * len(panels))
    for number, (key, title) in enumerate(panels.items()):
        axes = _chart(figure, 70, 160 * (len(panels) - number) - 115, 810, 145)
        for (name, rows), color in zip(runs.items(), HUES * len(runs), strict=False):
            _line(axes, rows, key, color, name)
            _notes(axes, rows, color)
        axes.set_ylabel(title, fontsize=TEXT, color=INK)
        axes.tick_params(labelbottom=key == "lr")
    if len(trace):
        epochs, losses, rates = np.array(trace, float).T
        figure.axes[0].plot(epochs, losses, color=HUES[0], lw=0.8, alpha=0.45, zorder=1)
        figure.axes[-1].lines[0].set_data(epochs, rates)
        figure.axes[-1].lines[0].set_marker("")
        figure.axes[-1].relim()
    _share_epochs(figure, runs, trace)
    for axes in figure.axes[1:-1]:
        axes.set_ylim(0, 1)
    _rate_axis(figure.axes[-1])
    if any(runs):
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper center", ncols=4, fontsize=TEXT, frameon=False, labelcolor=INK)
    return figure


def _column(rows: list[dict], key: str) -> np.ndarray:
    """One value of every history row as float [N]; NaN where it is missing."""
    return np.array([row.get(key, np.nan) for row in rows], float)


def _line(axes: Axes, rows: list[dict], key: str, color, name: str) -> None:
    """A history column over epochs; dots too while there are few rows. A row without the value breaks no line."""
    marker = "o" if len(rows) <= 40 else ""
    epochs, values = _column(rows, "epoch"), _column(rows, key)
    known = ~np.isnan(values)
    axes.plot(epochs[known], values[known], color=color, marker=marker, ms=3, lw=1.6, label=name)


SLOTS = (0.97, "top"), (0.03, "bottom"), (0.5, "center")  # heights at which notes that lie close are written


def _notes(axes: Axes, rows: list[dict], color) -> None:
    """A dashed line with its text for each row's note; the last one where several were made at one step.

    Texts that would lie on each other go to other heights; a fourth within a text's width is left out.
    """
    noted = {row["step"] if "step" in row else row["epoch"]: row for row in rows if row.get("note")}
    epochs = _column(rows, "epoch")
    apart = 0.025 * (np.ptp(epochs) if len(rows) > 1 else 1.0)
    free = dict.fromkeys(SLOTS, -np.inf)  # height -> where the last text there stands
    for row in noted.values():
        epoch = row["epoch"]
        axes.axvline(epoch, color=color, linestyle="--", linewidth=1, alpha=0.8)
        slot = next((slot for slot, taken in free.items() if epoch - taken >= apart), None)
        if slot is not None:
            axes.text(
                epoch, slot[0], row["note"], transform=axes.get_xaxis_transform(), rotation=90, ha="right", va=slot[1],
                fontsize=SMALL - 1, color=color, bbox=dict(facecolor="white", alpha=0.75, linewidth=0, pad=0.6),
            )  # fmt: skip
            free[slot] = epoch


def _share_epochs(figure: Figure, runs: dict[str, list[dict]], trace: Sequence[Sequence[float]] = ()) -> None:
    """The same epochs on every axes, named once below."""
    epochs = np.concatenate([_column(rows, "epoch") for rows in runs.values()] + [[point[0] for point in trace]])
    pad = 0.03 * (np.ptp(epochs) or 1.0)
    for axes in figure.axes:
        axes.set_xlim(epochs.min() - pad, epochs.max() + pad)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.axes[-1].set_xlabel("epoch", fontsize=TEXT, color=INK)


def _rate_axis(axes: Axes) -> None:
    """A log axis in plain numbers; at most four decades, because a schedule may end near zero."""
    rates = np.concatenate([line.get_ydata() for line in axes.lines if line.get_linestyle() == "-"])
    rates = rates[rates > 0]
    if not len(rates):
        return
    axes.set_yscale("log")
    axes.set_ylim(max(rates.min(), rates.max() / 1e4) / 1.5, rates.max() * 1.5)
    subs = (1, 2, 5) if rates.max() < 100 * rates.min() else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def lr_finder(rates: np.ndarray, losses: np.ndarray, suggestion: float) -> Figure:
    """A sweep's losses over its rates, both float [N], with the suggested rate marked."""
    figure = _figure(WIDTH, 300)
    axes = _chart(figure, 70, 50, 810, 230)
    axes.plot(rates, losses, color=HUES[0], lw=1.6)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate", fontsize=TEXT, color=INK)
    axes.set_ylabel("training loss, smoothed", fontsize=TEXT, color=INK)
    axes.set_ylim(top=min(losses.max(), 1.3 * losses[0]))  # what is lost at the end would hide the fall
    axes.axvline(suggestion, color=HUES[1], linestyle="--", linewidth=1.2)
    axes.text(
        suggestion, 0.97, f" the loss falls fastest: {suggestion:.1e}", transform=axes.get_xaxis_transform(),
        fontsize=TEXT, color=HUES[1], va="top",
    )  # fmt: skip
    return figure


def directions(steps: dict[str, np.ndarray]) -> Figure:
    """How far each kind of step goes in its directions: singular values float [N] by name, as shares of the largest."""
    figure = _figure(WIDTH, 300)
    axes = _chart(figure, 70, 50, 640, 230)
    for (name, values), hue in zip(steps.items(), HUES, strict=False):
        shares = np.sort(values)[::-1] / values.max()
        axes.plot(np.arange(1, len(shares) + 1), shares, color=hue, lw=1.6, marker="o", markersize=3)
        axes.text(len(shares) + 0.5, shares[-1], name, color=hue, fontsize=TEXT, va="center")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("direction, the strongest first", fontsize=TEXT, color=INK)
    axes.set_ylabel("how far the step goes", fontsize=TEXT, color=INK)
    return figure


def class_curves(rows: list[dict], dataset: Dataset) -> Figure:
    """Validation F1 of every class over epochs, one line each, named at its right end."""
    last = {name: _last(_column(rows, f"f1_{name}")) for name in dataset.classes}
    last = {name: value for name, value in last.items() if not np.isnan(value)}
    if not last:
        return _message("no epoch finished yet")
    height = max(340, (LINE + 1) * len(last))
    figure = _figure(WIDTH, height + 70)
    axes = _chart(figure, 60, 50, 700, height)
    for name in last:
        _line(axes, rows, f"f1_{name}", np.divide(dataset.colors[dataset.id(name)], 255), name)
        axes.lines[-1].set_path_effects([patheffects.withStroke(linewidth=2.6, foreground=MUTED)])  # for pale colours
    axes.set_ylim(0, 1)
    axes.set_ylabel("validation F1", fontsize=TEXT, color=INK)
    _notes(axes, rows, MUTED)
    _share_epochs(figure, {"": rows})
    for (name, value), y in zip(last.items(), _spread(list(last.values()), LINE / height), strict=True):
        color = np.divide(dataset.colors[dataset.id(name)], 255)
        axes.plot((1.0, 1.03), (value, y), transform=axes.get_yaxis_transform(), color=color, lw=1.6, clip_on=False)
        axes.text(1.035, y, f"{name} {value:.3f}", transform=axes.get_yaxis_transform(), va="center", fontsize=TEXT)
    return figure


def _last(values: np.ndarray) -> float:
    """The last number that is not NaN; NaN if there is none."""
    seen = values[~np.isnan(values)]
    return float(seen[-1]) if len(seen) else math.nan


def _spread(values: Sequence[float], gap: float) -> np.ndarray:
    """Numbers in 0..1 moved as little as needed to lie `gap` apart within 0..1."""
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(order))
    ideal = np.asarray(values, float)[order] - steps
    up, down = (
        np.maximum.accumulate(ideal),
        np.minimum.accumulate(ideal[::-1])[::-1],
    )  # pushed up only, down only
    placed = np.empty(len(order))
    placed[order] = np.clip((up + down) / 2, 0, max(0, 1 - steps[-1])) + steps
    return placed


# ---- the network ----

POOL, RISE, COPY, LAST = HUES[1], HUES[2], MUTED, HUES[3]
ARROWS = {
    "max pool: half the size": POOL,
    "transposed convolution: twice the size": RISE,
    "copy and concatenate": COPY,
    "1 x 1 convolution": LAST,
}
Box = tuple[float, float, float, float]  # centre x, centre y, width, height in pixels


def architecture(rows: list[dict], dataset: Dataset | None = None) -> Figure:
    """Blocks in forward order (in, down1..N, up1..N, out), each {"name", "input", "output", "params"} -> the U.

    Box heights grow with the square root of H, widths with the logarithm of C; the output shows the class colours.
    """
    depth = (len(rows) - 2) // 2
    step = min(110, 320 / depth)
    width = 2 * (130 + step * depth)
    boxes, height = _boxes(rows, depth, step, width)
    figure = _figure(width, height)
    axes = _place(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    _arrows(axes, boxes, depth)
    for row, box in zip(rows, boxes[1:], strict=True):
        _block(axes, row, box, HUES[0] if row["name"] == "in" or row["name"].startswith("down") else HUES[4])
    photo = {"name": "photo", "output": rows[0]["input"], "params": 0}
    _block(axes, photo, boxes[0], MUTED)
    if dataset:
        _bands(axes, boxes[-1], dataset)
    _key(figure, sum(row["params"] for row in rows))
    return figure


def _boxes(rows: list[dict], depth: int, step: float, width: float) -> tuple[list[Box], float]:
    """Where the photo and every block lie, and the figure's height: level 0 on top, mirrored about the middle."""
    sizes = [row["output"][-2] for row in rows[: depth + 1]]
    heights = [max(16.0, 110 * math.sqrt(size / sizes[0])) for size in sizes]
    pitch = np.cumsum([0] + [h + 3 * LINE for h in heights])
    height = pitch[-1] + 76
    levels = [0, *range(depth + 1), *reversed(range(depth)), 0]
    shapes = [rows[0]["input"]] + [row["output"] for row in rows]
    boxes = []
    for i, (level, shape) in enumerate(zip(levels, shapes, strict=True)):
        x = 40 if i == 0 else 130 + step * level
        x = x if i <= depth + 1 else width - x
        x = width - 40 if i == len(levels) - 1 else x
        y = height - pitch[level] - 3 * LINE - heights[level] / 2
        boxes.append((x, y, 4 + 6 * math.log2(shape[1]), heights[level]))
    return boxes, height


def _block(axes: Axes, row: dict, box: Box, color) -> None:
    """One box: channels, size and weights above it, its name below."""
    x, y, w, h = box
    axes.add_patch(Rectangle((x - w / 2, y - h / 2), w, h, facecolor=color, edgecolor="white", gid=row["name"]))
    _, channels, high, wide = row["output"]
    lines = [f"{high} × {wide}"] + ([_count(row["params"])] if row["params"] else [])
    style = dict(ha="center", va="bottom", color=INK)
    for i, line in enumerate(reversed(lines)):
        axes.text(x, y + h / 2 + 3 + 11 * i, line, fontsize=SMALL - 1, **style)
    axes.text(x, y + h / 2 + 3 + 11 * len(lines), f"{channels}", fontsize=TEXT, fontweight="bold", **style)
    side = -4 if row["name"].startswith("down") or row["name"] == "in" else 4
    side = 0 if row["name"] in ("photo", "out") else side
    ha = {-4: "right", 0: "center", 4: "left"}[side]
    axes.text(x + side, y - h / 2 - 3, row["name"], fontsize=SMALL - 1, color=MUTED, ha=ha, va="top")


def _count(weights: int) -> str:
    """1234567 -> '1.2 M', 37120 -> '37 k'."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if weights >= size:
            return f"{weights / size:.{0 if weights >= 10 * size else 1}f} {unit}"
    return str(weights)


def _arrows(axes: Axes, boxes: list[Box], depth: int) -> None:
    """Photo to first block, down the left, up the right, across each level, and out."""
    photo, left, right, out = boxes[0], boxes[1 : depth + 2], boxes[depth + 1 : -1], boxes[-1]
    _arrow(axes, (photo[0] + photo[2] / 2, photo[1]), (left[0][0] - left[0][2] / 2, left[0][1]), INK)
    for (x, y, _, h), (x2, y2, w2, _) in zip(left, left[1:], strict=False):
        _arrow(axes, (x, y - h / 2), (x2 - w2 / 2, y2), POOL, "angle,angleA=90,angleB=0,rad=0")
    for (x, y, w, _), (x2, y2, _, h2) in zip(right, right[1:], strict=False):
        _arrow(axes, (x + w / 2, y), (x2, y2 - h2 / 2), RISE, "angle,angleA=0,angleB=90,rad=0")
    for (x, y, w, _), (x2, _, w2, _) in zip(left, right[:0:-1], strict=False):
        _arrow(axes, (x + w / 2, y), (x2 - w2 / 2, y), COPY)
    last = right[-1]
    _arrow(axes, (last[0] + last[2] / 2, last[1]), (out[0] - out[2] / 2, out[1]), LAST)


def _arrow(axes: Axes, start: tuple, end: tuple, color, bend: str = "arc3") -> None:
    """An arrow from start to end that touches both."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=bend,
            arrowstyle="-|>",
            mutation_scale=11,
            color=color,
            lw=1.6,
            shrinkA=0,
            shrinkB=0,
        )  # fmt: skip
    )


def _bands(axes: Axes, box: Box, dataset: Dataset) -> None:
    """The output's channels, one class colour each."""
    x, y, w, h = box
    band = h / len(dataset.colors)
    for i, color in enumerate(dataset.colors):
        low = y + h / 2 - (i + 1) * band
        axes.add_patch(Rectangle((x - w / 2, low), w, band, facecolor=np.divide(color, 255), linewidth=0))


def _key(figure: Figure, weights: int) -> None:
    """What the arrows and numbers mean, along the lower edge."""
    handles = [Patch(facecolor=color, label=text) for text, color in ARROWS.items()]
    figure.legend(
        handles=handles, loc="lower center", ncols=2 if figure.bbox.width < 850 else 4, fontsize=SMALL, frameon=False,
        handlelength=1.2, handleheight=0.6,
    )  # fmt: skip
    text = f"above each block: channels (bold), height × width, weights; {weights:,} weights in all"
    figure.text(0.5, 34 / figure.bbox.height, text, ha="center", va="bottom", fontsize=SMALL, color=MUTED)
