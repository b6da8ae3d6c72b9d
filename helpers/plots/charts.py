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
from .canvas import FAINT, HUES, INK, LABEL, MUTED, SMALL, TEXT, WIDTH, make_figure, percent, place, shorten, spelled

Scores = dict[str, float]
Intervals = dict[str, tuple[float, float]]
NOTE: dict[str, Any] = dict(fontsize=SMALL, color=MUTED)
SWATCHES, CLOSE = 12, 24  # rows at most; a colour no further off (RGB, Euclid) is most likely the same class


def shares(shares: np.ndarray, dataset: Dataset) -> Figure:
    """Share of the pixels, float [C] in 0..1, of each class: bars on a log axis."""
    height = 24 * len(shares)
    figure = make_figure(WIDTH, height + 60)
    names = canvas.spelled_all(dataset)
    margin = 20 + 7 * max(map(len, names))
    axes = canvas.chart(figure, (margin, 46, WIDTH - 80 - margin, height), "share of all pixels (log scale)")
    colors = [canvas.class_color(dataset, name) for name in dataset.classes]
    left = np.min(shares, where=shares > 0, initial=1) / 2  # where the bars start: a log axis has no zero
    lengths = np.maximum(shares, left) - left
    bars = axes.barh(names, lengths, left=left, color=colors, edgecolor=MUTED, linewidth=0.5)
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
    """Pixel counts int64 [C,C], rows = truth -> each row's shares in per cent; an absent class is a grey row.

    Recall is in grey on the diagonal; the errors have the whole colour scale for themselves.
    """
    total = matrix.sum(1, keepdims=True)
    part = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    names, longest, count = canvas.spelled_all(dataset), 7 * max(map(len, dataset.classes)), len(matrix)
    left = 50 + 7 * max(map(len, names))
    cell = min(62, (WIDTH - left - 10) // count)
    high, turned = max(22, min(40, cell)), longest > cell
    figure = make_figure(max(700, left + cell * count + 10), 100 + high * count + turned * longest)
    axes = place(figure, left, 40, cell * count, high * count)
    errors = np.where(np.eye(count, dtype=bool), np.nan, part)
    most = max(np.nanmax(errors, initial=0), 1e-6)
    _heat(axes, errors, lambda share: _hundredths(share, cell), SMALL, "OrRd", 1.6 * most)
    for i, recall in enumerate(np.diag(part)):
        if not np.isnan(recall):
            axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="#c8c8c8", edgecolor="white", linewidth=1.5))
            axes.text(i, i, _hundredths(recall, cell), ha="center", va="center", fontsize=SMALL, fontweight="bold")
    axes.set_xticks(range(count), map(canvas.plain, dataset.classes), rotation=90 * turned)
    axes.set_yticks(range(count), names)
    axes.tick_params(labelsize=TEXT, labelcolor=INK, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("predicted", fontsize=TEXT, color=MUTED)
    axes.set_ylabel("true class", fontsize=TEXT, color=MUTED)
    key = "per cent of the true class's pixels; grey: found (recall); red: taken for another class"
    figure.text(20 / figure.bbox.width, 14 / figure.bbox.height, f"{key}, at most {percent(most)}", **NOTE)
    return figure


def _hundredths(share: float, pixels: float) -> str:
    """A share in per cent for a cell so wide: .047 -> '4.7', or '5' where it is narrow; nothing below a thousandth."""
    digits = 1 if pixels >= 40 and share < 0.1 else 0
    return "" if share < 0.5 * 10 ** (-2 - digits) else f"{100 * share:.{digits}f}"


def _heat(
    axes: Axes, values: np.ndarray, text: Callable[[float], str], size: float, colors: str = "Blues", top: float = 1.15
) -> None:
    """Numbers [h,w] in 0..top as a heat map, `text(value)` in each cell; NaN cells stay pale grey and empty."""
    axes.set_facecolor(FAINT)
    axes.imshow(np.ma.masked_invalid(values), cmap=colors, norm=PowerNorm(0.6, 0, top), aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if not np.isnan(value):
            color = "white" if value > 0.4 * top else INK
            axes.text(x, y, text(value), ha="center", va="center", fontsize=size, color=color)
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
    figure = make_figure(WIDTH, 24 * places[-1] + 124)
    names = [spelled(dataset, row) for row in order]
    left = 36 + 7 * max(map(len, names))
    axes = canvas.chart(figure, (left, 50, WIDTH - left - 190, 24 * places[-1] + 34), "F1")
    across = axes.get_yaxis_transform()  # x as a share of the axes' width
    axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=9, label=name)
    for row, y in zip(order, places, strict=True):
        value, (low, high) = scores[row], intervals.get(row, (np.nan, np.nan))
        color, marker = (MUTED, "s") if row in dataset.groups else (canvas.class_color(dataset, row), "o")
        axes.plot((low, high), (y, y), color=INK, lw=2.5, solid_capstyle="butt")
        axes.plot(value, y, marker, color=color, markeredgecolor=INK, markersize=9, zorder=3, clip_on=False)
        text = "absent" if np.isnan(value) else f"{value:.3f}"
        text += "" if np.isnan(low) else f"   {low:.3f} to {high:.3f}"
        axes.text(1.03, y, text, transform=across, va="center", **LABEL)
    if intervals:
        axes.plot([], [], color=INK, lw=2.5, label="95 % interval")
    for (other, values), hue in zip(others.items(), HUES[1:], strict=False):
        marks = [values.get(row, np.nan) for row in order]
        axes.plot(marks, places, "D", color=hue, markeredgecolor="white", markersize=7, label=other, clip_on=False)
    if classes < len(order):
        axes.text(0.01, classes, "groups: their classes are counted as one", transform=across, va="center", **NOTE)
    drawn = [np.asarray(line.get_xdata(), float) for line in axes.lines]
    least = np.nanmin(np.concatenate(drawn), initial=0.62)
    axes.set(xlim=(max(0, least - 0.02), 1), ylim=(places[-1] + 0.7, -0.7))
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", labelsize=TEXT, length=0, pad=8)  # clear of a dot at 0
    canvas.top_legend(figure)
    return figure


def lr_finder(rates: np.ndarray, losses: np.ndarray, suggestion: float, recipe: float | None = None) -> Figure:
    """The learning-rate finder's losses over its rates, both float [N]; the suggested rate and the recipe's marked."""
    figure = make_figure(WIDTH, 320)
    axes = canvas.chart(figure, (70, 50, 810, 250), "learning rate (log scale)", "training loss, smoothed")
    axes.plot(rates, losses, color=HUES[0], lw=1.6)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    highest = min(losses.max(), 1.3 * losses[0])  # the diverging end would hide the fall
    axes.set_ylim(top=highest + 0.35 * (highest - losses.min()))  # room for the texts
    marks = [(suggestion, "the loss falls fastest", HUES[1])]
    if recipe:
        marks.append((recipe, "the recipe", HUES[2]))
    across = axes.get_xaxis_transform()  # y as a share of the axes' height
    for number, (rate, text, color) in enumerate(sorted(marks)):
        axes.axvline(rate, color=color, linestyle="--", linewidth=1.5)
        at = np.log(rate / rates[0]) / np.log(rates[-1] / rates[0])  # from 0, the left end, to 1
        left = at > 0.7 or (at > 0.3 and number < len(marks) - 1)  # away from the other where there is room
        paper = dict(facecolor="white", linewidth=0, pad=1)
        style = LABEL | dict(color=color, va="top", ha="right" if left else "left", bbox=paper)
        corner = (-6 if left else 6, 0)
        axes.annotate(f"{text}: {rate:.2g}", (rate, 0.98 - 0.1 * number), corner, across, "offset pixels", **style)
    return figure


def loss_runs(runs: dict[str, np.ndarray]) -> Figure:
    """Losses float [N] over the steps of short runs, by name (the rate, say); thin as they are, thick their mean.

    What lies above 1.5 times the first loss, or is not finite, leaves the chart at its top.
    """
    figure = make_figure(WIDTH, 320)
    axes = canvas.chart(figure, (60, 50, 640, 250), "step", "loss")
    top, ends, colors = 1.5 * max(losses[0] for losses in runs.values()), [], (HUES[0], HUES[2], HUES[1], *HUES[3:])
    for losses, color in zip(runs.values(), colors, strict=False):
        kept = np.minimum(np.nan_to_num(np.asarray(losses, float), nan=np.inf), 10 * top)
        weights = 0.7 ** np.arange(len(kept))  # a running mean, as if it had not begun at 0
        mean = np.convolve(kept, weights)[: len(kept)] / np.cumsum(weights)
        steps = np.arange(1, len(kept) + 1)
        axes.plot(steps, kept, color=color, lw=0.8, alpha=0.4)
        axes.plot(steps, mean, color=color, lw=2)
        ends.append(min(mean[-1] / top, 1.0))
    axes.set(xlim=(0, None), ylim=(0, top))
    for name, y, color in zip(runs, canvas.spread(ends, 0.07), colors, strict=False):
        axes.text(1.01, y, shorten(name, 180), transform=axes.transAxes, va="center", fontsize=TEXT, color=color)
    return figure


def skip_costs(scores: Scores) -> Figure:
    """F1 in 0..1 of one network, whole (the first) and without each of its skips, by name: bars and what is lost."""
    height, left, whole = 34 * len(scores), 30 + 7 * max(map(len, scores)), next(iter(scores.values()))
    figure = make_figure(WIDTH, height + 70)
    axes = canvas.chart(figure, (left, 50, WIDTH - left - 150, height), "F1 overall")
    hues = [HUES[0], *["#8fbfdc"] * (len(scores) - 1)]
    axes.barh(list(map(canvas.plain, scores)), list(scores.values()), color=hues, height=0.7)
    axes.axvline(whole, color=INK, linestyle="--", linewidth=1)
    for y, value in enumerate(scores.values()):
        text = f"{value:.3f}" + f"   {value - whole:+.3f}".replace("-", "\N{MINUS SIGN}") * (y > 0)
        axes.text(1.03, y, text, transform=axes.get_yaxis_transform(), va="center", **LABEL)
    axes.set(xlim=(0, 1), ylim=(len(scores) - 0.4, -0.6))
    axes.tick_params(axis="y", labelsize=TEXT, length=0)
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
        (504, f"{shorten(row.nearest.name, 84)}, {row.distance:.0f} off", INK),
        (655, shorten(advice, WIDTH - 660), hue),
    ):
        axes.text(x, top + 14, text, va="center", fontsize=TEXT, color=color)
