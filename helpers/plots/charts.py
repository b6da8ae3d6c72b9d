"""Bars, tables of numbers, colours, and the curves of a single measurement."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..catalog import Dataset
from . import canvas
from .canvas import FAINT, HUES, INK, LABEL, MUTED, SMALL, TEXT, WIDTH, percent, shorten, spelled

Scores = dict[str, float]
Intervals = dict[str, tuple[float, float]]
NOTE: dict[str, Any] = dict(fontsize=SMALL, color=MUTED)
SWATCHES, CLOSE = 12, 24  # rows at most; a colour no further off (RGB, Euclid) is most likely the same class


def shares(shares: np.ndarray, dataset: Dataset) -> Figure:
    """Share of the pixels, float [C] in 0..1, of each class: bars on a log axis."""
    figure, (axes,) = canvas.charts(24 * len(shares) + 60)
    colors = [canvas.class_color(dataset, name) for name in dataset.classes]
    left = np.min(shares, where=shares > 0, initial=1) / 2  # where the bars start: a log axis has no zero
    lengths = np.maximum(shares, left) - left
    names = canvas.spelled_all(dataset)
    bars = axes.barh(names, lengths, left=left, color=colors, edgecolor=MUTED, linewidth=0.5)
    axes.bar_label(bars, [percent(share) for share in shares], padding=4, **LABEL)
    axes.set(xlabel="share of all pixels (log scale)", xscale="log", xlim=(left, 1), ylim=(len(shares) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(lambda value, _: percent(value))
    return figure


def dice_example(p: np.ndarray, t: np.ndarray, by_hand: float) -> Figure:
    """Probability [h,w] in 0..1, truth [h,w] of 0 and 1, and their product, number by number, with their sums."""
    figure = canvas.laid_out(330)
    maps = {"probability p": p, "truth t": t, "product p·t": p * t}
    for axes, (title, values) in zip(figure.subplots(1, 3), maps.items(), strict=True):
        _heat(axes, values, lambda value: f"{value:.2g}", "Blues", 1.15)
        axes.set(xticks=[], yticks=[], title=title, xlabel=f"sum {values.sum():.2f}")
    figure.suptitle(f"Dice loss by hand: {by_hand:.4f}", color=INK)
    return figure


def confusion(matrix: np.ndarray, dataset: Dataset) -> Figure:
    """Pixel counts int64 [C,C], rows = truth -> each row's shares in per cent; an absent class is a grey row.

    Recall is in grey on the diagonal; the errors have the whole colour scale for themselves.
    """
    total = matrix.sum(1, keepdims=True)
    part = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    errors = np.where(np.eye(len(matrix), dtype=bool), np.nan, part)
    most = max(np.nanmax(errors, initial=0), 1e-6)
    cell = 700 // len(matrix)  # pixels, about
    figure = canvas.laid_out(110 + len(matrix) * max(22, min(40, cell)))
    axes = figure.subplots()
    _heat(axes, errors, lambda share: _hundredths(share, cell), "OrRd", 1.6 * most)
    for i, recall in enumerate(np.diag(part)):
        if not np.isnan(recall):
            axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="#c8c8c8", edgecolor="white", linewidth=1.5))
            axes.text(i, i, _hundredths(recall, cell), ha="center", va="center", fontsize=SMALL, fontweight="bold")
    turned = 7 * max(map(len, dataset.classes)) > cell
    axes.set_xticks(range(len(matrix)), map(canvas.plain, dataset.classes), rotation=90 * turned)
    axes.set_yticks(range(len(matrix)), canvas.spelled_all(dataset))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", color=MUTED)
    axes.set_ylabel("true class", color=MUTED)
    key = "per cent of the true class's pixels; grey: found (recall); red: taken for another class"
    figure.supxlabel(f"{key}, at most {percent(most)}", **NOTE)
    return figure


def _hundredths(share: float, pixels: float) -> str:
    """A share in per cent for a cell so wide: .047 -> '4.7', or '5' where it is narrow; nothing below a thousandth."""
    digits = 1 if pixels >= 40 and share < 0.1 else 0
    return "" if share < 0.5 * 10 ** (-2 - digits) else f"{100 * share:.{digits}f}"


def _heat(axes: Axes, values: np.ndarray, text: Callable[[float], str], colors: str, top: float) -> None:
    """Numbers [h,w] in 0..top as a heat map, `text(value)` in each cell; NaN cells stay pale grey and empty."""
    axes.set_facecolor(FAINT)
    axes.imshow(values, cmap=colors, norm=PowerNorm(0.6, 0, top), aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if value > 0.4 * top else INK
            axes.text(x, y, text(value), ha="center", va="center", fontsize=SMALL, color=color)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)


def f1_dots(
    scores: Scores,
    dataset: Dataset,
    intervals: Intervals | None = None,
    others: dict[str, Scores] | None = None,
    name: str = "this run",
) -> Figure:
    """F1 in 0..1 by class and group, NaN = absent: a dot each, the best first, groups below; 95 % intervals as lines.

    others: the same scores from elsewhere, by what they are called (another split, a report): diamonds.
    """
    intervals, others = intervals or {}, others or {}
    order = sorted(scores, key=lambda row: (row in dataset.groups, np.isnan(scores[row]), -scores[row]))
    classes = sum(row not in dataset.groups for row in order)
    places = [i + (i >= classes) for i in range(len(order))]  # the groups a row apart
    figure, (axes,) = canvas.charts(24 * places[-1] + 124)
    axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=9, label=name)
    for row, y in zip(order, places, strict=True):
        value, (low, high) = scores[row], intervals.get(row, (np.nan, np.nan))
        color, marker = (MUTED, "s") if row in dataset.groups else (canvas.class_color(dataset, row), "o")
        axes.plot((low, high), (y, y), color=INK, lw=2.5, solid_capstyle="butt")
        axes.plot(value, y, marker, color=color, markeredgecolor=INK, markersize=9, zorder=3, clip_on=False)
        text = "absent" if np.isnan(value) else f"{value:.3f}"
        _beside(axes, y, text if np.isnan(low) else f"{text}   {low:.3f} to {high:.3f}")
    if intervals:
        axes.plot([], [], color=INK, lw=2.5, label="95 % interval")
    for (other, values), hue in zip(others.items(), HUES[1:], strict=False):
        marks = [values.get(row, np.nan) for row in order]
        axes.plot(marks, places, "D", color=hue, ms=5, label=other, zorder=4, clip_on=False)  # on the dots, smaller
    least = np.nanmin(np.concatenate([line.get_xdata() for line in axes.lines]), initial=0.9)
    axes.set(xlabel="F1", xlim=(max(0, least - 0.02), 1), ylim=(places[-1] + 0.7, -0.7))
    if classes < len(order):
        axes.text(axes.get_xlim()[0], classes, " groups: their classes are counted as one", va="center", **NOTE)
    axes.set_yticks(places, [spelled(dataset, row) for row in order])
    axes.tick_params(axis="y", labelsize=TEXT, length=0, pad=8)  # clear of a dot at 0
    canvas.top_legend(figure)
    return figure


def _beside(axes: Axes, y: float, text: str) -> None:
    """A text to the right of a chart, level with its y."""
    axes.annotate(text, (1, y), (20, 0), axes.get_yaxis_transform(), "offset pixels", va="center", **LABEL)


def lr_finder(rates: np.ndarray, losses: np.ndarray, suggestion: float, recipe: float) -> Figure:
    """The learning-rate finder's losses over its rates, both float [N]; the suggested rate and the recipe's marked."""
    figure, (axes,) = canvas.charts(320)
    axes.plot(rates, losses, color=HUES[0], lw=1.6)
    for rate, text, color in ((suggestion, "the loss falls fastest", HUES[1]), (recipe, "the recipe", HUES[2])):
        axes.axvline(rate, color=color, linestyle="--", linewidth=1.5, label=f"{text}: {rate:.2g}")
    highest = min(losses.max(), 1.3 * losses[0])  # the diverging end would hide the fall
    axes.set(xlabel="learning rate (log scale)", ylabel="training loss, smoothed", xscale="log")
    axes.set_ylim(top=highest + 0.05 * (highest - losses.min()))
    axes.xaxis.set_major_formatter("{x:g}")
    canvas.top_legend(figure)
    return figure


def loss_runs(runs: dict[str, np.ndarray]) -> Figure:
    """Losses float [N] over the steps of short runs, by name (the rate, say); thin as they are, thick their mean.

    What lies above 1.5 times the first loss, or is not finite, leaves the chart at its top.
    """
    figure, (axes,) = canvas.charts(320)
    top, colors = 1.5 * max(losses[0] for losses in runs.values()), (HUES[0], HUES[2], HUES[1], *HUES[3:])
    for (name, losses), color in zip(runs.items(), colors, strict=False):
        kept = np.minimum(np.nan_to_num(np.asarray(losses, float), nan=np.inf), 10 * top)
        weights = 0.7 ** np.arange(len(kept))  # a running mean, as if it had not begun at 0
        mean = np.convolve(kept, weights)[: len(kept)] / np.cumsum(weights)
        steps = np.arange(1, len(kept) + 1)
        axes.plot(steps, kept, color=color, lw=0.8, alpha=0.4)
        axes.plot(steps, mean, color=color, lw=2, label=canvas.plain(name))
    axes.set(xlabel="step", ylabel="loss", xlim=(0, None), ylim=(0, top))
    canvas.top_legend(figure)
    return figure


def skip_costs(scores: Scores) -> Figure:
    """F1 in 0..1 of one network, whole (the first) and without each of its skips, by name: bars and what is lost."""
    whole, *less = scores.values()
    figure, (axes,) = canvas.charts(34 * len(scores) + 70)
    axes.barh(list(scores), list(scores.values()), color=[HUES[0], *["#8fbfdc"] * len(less)], height=0.7)
    axes.axvline(whole, color=INK, linestyle="--", linewidth=1)
    _beside(axes, 0, f"{whole:.3f}")
    for y, value in enumerate(less, 1):
        _beside(axes, y, f"{value:.3f}   {value - whole:+.3f}".replace("-", "\N{MINUS SIGN}"))
    axes.set(xlabel="F1 overall", xlim=(0, 1), ylim=(len(scores) - 0.4, -0.6))
    axes.tick_params(axis="y", labelsize=TEXT, length=0)
    return figure


def directions(steps: dict[str, np.ndarray]) -> Figure:
    """How far each kind of step goes in its directions: singular values float [N] by name, as shares of the largest."""
    figure, (axes,) = canvas.charts(300)
    for (name, values), hue in zip(steps.items(), HUES, strict=False):
        shares = np.sort(values)[::-1] / values.max()
        axes.plot(np.arange(1, len(shares) + 1), shares, color=hue, lw=1.6, marker="o", markersize=3)
        axes.text(len(shares) + 0.5, shares[-1], name, color=hue, fontsize=TEXT, va="center")
    axes.set(xlabel="direction, the strongest first", ylabel="length of the step, longest = 1", ylim=(0, 1.05))
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
    more = len(order) - SWATCHES
    figure, axes = canvas.paper(WIDTH, 26 + 36 * min(len(order), SWATCHES) + (24 if more > 0 else 6))
    axes.invert_yaxis()
    for x, text in ((10, "in the masks, not in the table"), (270, "how much"), (450, "nearest in the table")):
        axes.text(x, 13, text, va="center", **NOTE)
    for number, group in enumerate(order[:SWATCHES]):
        y = 40 + 36 * number  # the middle, from the upper edge
        row, names, pixels = group[0], {row.file for row in group}, sum(row.pixels for row in group)
        for x, color in ((10, row.color), (450, row.nearest.color)):
            face = np.divide(color, 255)
            axes.add_patch(Rectangle((x, y - 14), 44, 28, facecolor=face, edgecolor=MUTED, linewidth=0.5))
        where = row.file if len(names) == 1 else f"{len(names)} files"
        advice, hue = "a class missing from the table?", HUES[1]
        if row.distance <= CLOSE:
            advice, hue = f"most likely {row.nearest.name}: repaint it", HUES[0]
        for x, text, color in (
            (64, f"{row.color[0]}, {row.color[1]}, {row.color[2]}   {row.hex}", INK),
            (270, f"{pixels:,} px in {shorten(where, 90)}", INK),
            (504, f"{shorten(row.nearest.name, 84)}, {row.distance:.0f} off", INK),
            (655, shorten(advice, WIDTH - 660), hue),
        ):
            axes.text(x, y, text, va="center", fontsize=TEXT, color=color)
    if more > 0:
        axes.text(10, 34 + 36 * SWATCHES, f"and {more} more", va="center", fontsize=TEXT, color=MUTED)
    return figure
