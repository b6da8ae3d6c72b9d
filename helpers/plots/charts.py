"""Bars, tables of numbers, colours, and the curves of a single measurement."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from ..catalog import Dataset
from . import canvas
from .canvas import FAINT, HUES, INK, LABEL, MUTED, SMALL, TEXT, WIDTH, make_figure, percent, place, shorten

Scores = dict[str, float]
SWATCHES, CLOSE = 12, 24  # rows at most; a colour no further off (RGB, Euclid) is most likely the same class


def shares(shares: np.ndarray, dataset: Dataset) -> Figure:
    """Share of the pixels, float [C] in 0..1, of each class: bars on a log axis."""
    height = 24 * len(shares)
    figure = make_figure(WIDTH, height + 60)
    axes = canvas.chart(figure, (110, 46, WIDTH - 190, height), "share of all pixels (log scale)")
    colors = [canvas.class_color(dataset, name) for name in dataset.classes]
    left = np.min(shares, where=shares > 0, initial=1) / 2  # where the bars start: a log axis has no zero
    lengths = np.maximum(shares, left) - left
    bars = axes.barh(dataset.classes, lengths, left=left, color=colors, edgecolor=MUTED, linewidth=0.5)
    axes.bar_label(bars, [percent(share) for share in shares], padding=4, **LABEL)
    axes.set(xscale="log", xlim=(left, 1), ylim=(len(shares) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value)))
    return figure


def dice_example(p: np.ndarray, t: np.ndarray, by_hand: float) -> Figure:
    """Probability [h,w] in 0..1, truth [h,w] of 0 and 1, and their product, number by number, with their sums."""
    figure = make_figure(WIDTH, 330)
    maps = {"probability p": p, "truth t": t, "product p·t": np.multiply(p, t)}
    for i, (title, values) in enumerate(maps.items()):
        axes = place(figure, 55 + i * 290, 42, 230, 230)
        _heat(axes, np.asarray(values, float), lambda value: f"{value:.2f}".rstrip("0").rstrip("."), TEXT)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=TEXT + 1, color=INK)
        axes.set_xlabel(f"sum {np.sum(values):.2f}", fontsize=TEXT + 1, color=INK)
    figure.text(0.5, 0.95, f"Dice loss by hand: {by_hand:.4f}", ha="center", va="center", fontsize=12, color=INK)
    return figure


def confusion(matrix: np.ndarray, dataset: Dataset) -> Figure:
    """Pixel counts int64 [C,C], rows = truth -> each row's shares; an absent class is a grey row."""
    count, margin = len(dataset.classes), 12 + 7 * max(map(len, dataset.classes))
    cell = max(44, 320 // count)
    total = matrix.sum(1, keepdims=True)
    part = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    figure = make_figure(margin + 24 + cell * count + 10, margin + 24 + cell * count + 10)
    axes = place(figure, margin + 24, 10, cell * count, cell * count)
    _heat(axes, part, lambda value: f"{value:.2f}" if value >= 0.005 else "", SMALL)
    axes.set_xticks(range(count), dataset.classes, rotation=90 if margin > 60 else 0)
    axes.set_yticks(range(count), dataset.classes)
    axes.tick_params(labelsize=TEXT, labelcolor=INK, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", fontsize=TEXT, color=MUTED)
    axes.set_ylabel("true class (each row sums to 1)", fontsize=TEXT, color=MUTED)
    return figure


def _heat(axes: Axes, values: np.ndarray, text: Callable[[float], str], fontsize: float) -> None:
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


def f1_bars(
    scores: Scores, intervals: dict[str, tuple[float, float]] | None = None, reported: Scores | None = None
) -> Figure:
    """F1 in 0..1 by name, NaN = absent; 95 % intervals as error bars, reported values as diamonds."""
    figure = make_figure(WIDTH, 360)
    axes = canvas.chart(figure, (50, 60, WIDTH - 65, 260), ylabel="F1")
    places = range(len(scores))
    axes.bar(places, list(scores.values()), width=0.7, color="#8fbfdc", label="this run")
    if intervals:
        spans = np.array([intervals.get(name, (np.nan, np.nan)) for name in scores])
        half = (spans[:, 1] - spans[:, 0]) / 2
        axes.errorbar(places, spans.mean(1), yerr=half, fmt="none", ecolor=INK, capsize=3, label="95 % interval")
    if reported:
        marks = [reported.get(name, np.nan) for name in scores]
        axes.plot(places, marks, "D", color=HUES[1], markeredgecolor="white", markersize=7, label="reported")
    for i, value in enumerate(scores.values()):
        absent = np.isnan(value)
        text, color = ("absent", MUTED) if absent else (f"{value:.3f}", INK)
        turn = 90 if absent or len(scores) > 16 else 0
        axes.text(i, 0.02, text, ha="center", va="bottom", fontsize=SMALL, color=color, rotation=turn)
    axes.set(ylim=(0, 1), xlim=(-0.6, len(scores) - 0.4))
    axes.set_xticks(places, list(scores), rotation=30 if max(map(len, scores)) > 7 else 0)
    axes.grid(visible=False, axis="x")
    canvas.top_legend(figure)
    return figure


def lr_finder(rates: np.ndarray, losses: np.ndarray, suggestion: float) -> Figure:
    """The learning-rate finder's losses over its rates, both float [N], with the suggested rate marked."""
    figure = make_figure(WIDTH, 300)
    axes = canvas.chart(figure, (70, 50, 810, 230), "learning rate", "training loss, smoothed")
    axes.plot(rates, losses, color=HUES[0], lw=1.6)
    axes.set_xscale("log")
    axes.set_ylim(top=min(losses.max(), 1.3 * losses[0]))  # the diverging end would hide the fall
    axes.axvline(suggestion, color=HUES[1], linestyle="--", linewidth=1.2)
    text, up = f" the loss falls fastest: {suggestion:.1e}", axes.get_xaxis_transform()
    axes.text(suggestion, 0.97, text, transform=up, fontsize=TEXT, color=HUES[1], va="top")
    return figure


def directions(steps: dict[str, np.ndarray]) -> Figure:
    """How far each kind of step goes in its directions: singular values float [N] by name, as shares of the largest."""
    figure = make_figure(WIDTH, 300)
    axes = canvas.chart(figure, (70, 50, 640, 230), "direction, the strongest first", "how far the step goes")
    for (name, values), hue in zip(steps.items(), HUES, strict=False):
        shares = np.sort(values)[::-1] / values.max()
        axes.plot(np.arange(1, len(shares) + 1), shares, color=hue, lw=1.6, marker="o", markersize=3)
        axes.text(len(shares) + 0.5, shares[-1], name, color=hue, fontsize=TEXT, va="center")
    axes.set_ylim(0, 1.05)
    return figure


def swatches(rows: Sequence[Any]) -> Figure:
    """Colours of masks that are not in the class table, the most frequent first, beside the nearest that is.

    A row has file, color (RGB), hex, pixels, nearest (its name and color) and distance (RGB, Euclid). The same colour
    of several files is shown once; 12 colours at most, then how many more there are.
    """
    if not rows:
        return canvas.message("every colour of the masks is in the table")
    groups: dict[tuple, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.color, []).append(row)
    order = sorted(groups.values(), key=lambda group: (-sum(row.pixels for row in group), group[0].color))
    head, step, more = 26, 36, len(order) - SWATCHES
    figure = make_figure(WIDTH, head + step * min(len(order), SWATCHES) + (24 if more > 0 else 6))
    axes = place(figure, 0, 0, *figure.bbox.size)
    axes.set(xlim=(0, figure.bbox.width), ylim=(figure.bbox.height, 0))  # pixels from the upper left corner
    axes.set_axis_off()
    for x, text in ((10, "in the masks, not in the table"), (270, "how much"), (450, "nearest in the table")):
        axes.text(x, head / 2, text, va="center", fontsize=SMALL, color=MUTED)
    for number, group in enumerate(order[:SWATCHES]):
        _swatch(axes, head + step * number, group)
    if more > 0:
        axes.text(10, head + step * SWATCHES + 8, f"and {more} more", va="center", fontsize=TEXT, color=MUTED)
    return figure


def _swatch(axes: Axes, top: float, group: Sequence[Any]) -> None:
    """One unknown colour of one or more files, the nearest named colour, and what that suggests."""
    row, count, pixels = group[0], len({row.file for row in group}), sum(row.pixels for row in group)
    for x, color in ((10, row.color), (450, row.nearest.color)):
        face = np.divide(color, 255)
        axes.add_patch(Rectangle((x, top), 44, 28, facecolor=face, edgecolor=MUTED, linewidth=0.5))
    advice, hue = "a class missing from the table?", HUES[1]
    if row.distance <= CLOSE:
        advice, hue = f"most likely {row.nearest.name}: repaint it", HUES[0]
    where = row.file if count == 1 else f"{count} files"
    for x, text, color in (
        (64, f"{row.color[0]}, {row.color[1]}, {row.color[2]}   {row.hex}", INK),
        (270, f"{pixels:,} px in {shorten(where, 90)}", INK),
        (504, f"{shorten(row.nearest.name, 100)}, {row.distance:.0f} off", INK),
        (670, shorten(advice, WIDTH - 680), hue),
    ):
        axes.text(x, top + 14, text, va="center", fontsize=TEXT, color=color)
