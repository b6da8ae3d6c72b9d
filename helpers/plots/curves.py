"""A training's history over its epochs: loss, scores, learning rate, and what changed on the way."""

from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from ..catalog import Dataset
from . import canvas
from .canvas import HUES, LABEL, MUTED, SMALL, WIDTH, charts, class_color, message

HEIGHTS = {"top": (0.97, "top"), "bottom": (0.03, "bottom"), "center": (0.5, "center")}  # at which notes are written
SCORE_TICKS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998, 0.999)
PERFECT = 1e-4  # the error of a score of 1 on a log axis, which has no 0
Trace = Sequence[Sequence[float]]


def curves(runs: dict[str, list[dict]] | list[dict], dataset: Dataset, trace: Trace = ()) -> Figure:
    """History rows (one run, or several by name): loss, validation scores and rate over epochs, notes dashed.

    Training loss as a solid line at the middle of its epochs, validation loss dotted. Scores lie on a log scale of
    1 - score, so that the last hundredths can be seen.
    trace: triples (epoch, loss, rate) of one run between its epochs: the loss is drawn thin behind the means, the
    rate in place of the epochs' last ones.
    """
    runs = runs if isinstance(runs, dict) else {"": runs}
    runs = {name: rows for name, rows in runs.items() if rows or len(trace)}
    if not runs:
        return message("no epoch finished yet")
    metric = dataset.primary_metric
    named = f"F1 {metric}" if metric in dataset.rows else metric.replace("_", " ").replace("iou", "IoU")
    titles = {"loss": "loss", dataset.column(metric): f"validation {named}"}  # a column of the history -> its title
    if all("accuracy" in row for rows in runs.values() for row in rows):
        titles["accuracy"] = "validation pixel accuracy"
    titles["lr"] = "learning rate"
    figure, drawn = charts(450, len(titles), columns=2, shared=["sharex"])
    epochs, losses, rates = np.reshape(trace, (-1, 3)).T
    for axes, (key, title) in zip(drawn, titles.items(), strict=True):
        for (name, rows), color in zip(runs.items(), HUES * len(runs), strict=False):
            if key == "loss":
                _line(axes, rows, "loss", color, f"{name} training".strip(), shift=-0.5)
                _line(axes, rows, "val_loss", color, f"{name} validation".strip(), linestyle=":", lw=2)
            elif key == "lr" and len(trace):
                axes.plot(epochs, rates, color=color, lw=1.6)
            else:
                _line(axes, rows, key, color, name)
            if key == "loss" and len(trace):
                axes.plot(epochs, losses, color=color, lw=0.8, alpha=0.45, zorder=1)
            _notes(axes, rows, color, "top" if key == "loss" else "bottom")
        axes.set(xlabel="epoch", ylabel=title)
        if key in ("loss", "lr"):
            _log_axis(axes)
        else:
            _score_axis(axes)
    drawn[0].set_xlim(left=0)
    drawn[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    canvas.top_legend(figure)
    return figure


def class_curves(rows: list[dict], dataset: Dataset) -> Figure:
    """Validation F1 over epochs, a small chart a class: in its colour, behind it in grey the mean; notes dashed.

    Above each its last value, the weakest in orange. The scale is that of `curves`, and the same in all.
    """
    table = np.array([_column(rows, f"f1_{name}") for name in dataset.classes])
    scored = ~np.isnan(table)
    last = {name: f1[known][-1] for name, f1, known in zip(dataset.classes, table, scored, strict=True) if known.any()}
    if not last:
        return message("no epoch finished yet")
    mean = _column(rows, "epoch")[scored.any(0)], np.nanmean(table[:, scored.any(0)], 0)
    columns = 4
    figure, drawn = charts(52 + 158 * -(-len(last) // columns), len(last), columns, shared=["sharex", "sharey"])
    for number, (axes, (name, value)) in enumerate(zip(drawn, last.items(), strict=True)):
        axes.plot(*mean, color="#b0b0b0", lw=1.2)
        _line(axes, rows, f"f1_{name}", class_color(dataset, name), name)
        axes.lines[-1].set_path_effects([patheffects.withStroke(linewidth=2.6, foreground=MUTED)])  # for pale colours
        for row in _noted(rows):
            axes.axvline(row["epoch"], color=MUTED, linestyle="--", linewidth=1)
        weakest = {"color": HUES[1], "fontweight": "bold"} if value == min(last.values()) else {}
        axes.set_title(canvas.shorten(canvas.spelled(dataset, name), 140), loc="left", pad=4, **LABEL | weakest)
        axes.set_title(f"{value:.3f}", loc="right", pad=4, **LABEL | weakest)
        lowest = number + columns >= len(last)
        axes.set_xlabel("epoch" if lowest else "", **LABEL)
        axes.tick_params(labelleft=number % columns == 0, labelbottom=lowest)
    _score_axis(max(drawn, key=lambda axes: axes.dataLim.y1))
    drawn[0].xaxis.set_major_locator(MaxNLocator(4, integer=True))
    notes = ", ".join(f"{row['note']} ({row['epoch']:g})" for row in _noted(rows))
    text = "validation F1; grey: the mean of the classes; orange: the weakest" + f"; dashed: {notes}" * bool(notes)
    figure.supxlabel(canvas.shorten(text, WIDTH - 20), fontsize=SMALL, color=MUTED)
    return figure


def _noted(rows: list[dict]) -> list[dict]:
    """The rows with a note; the last one where several were made at one step."""
    return list({row["step"]: row for row in rows if row.get("note")}.values())


def _column(rows: list[dict], key: str) -> np.ndarray:
    """One value of every history row as float [N]; NaN where it is missing."""
    return np.array([row.get(key, np.nan) for row in rows], float)


def _line(axes: Axes, rows: list[dict], key: str, color, name: str, shift: float = 0.0, **style) -> None:
    """A history column over epochs; dots too while there are few rows. A row without the value breaks no line."""
    epochs, values = _column(rows, "epoch"), _column(rows, key)
    known = ~np.isnan(values)
    if known.any():
        style = dict(color=color, marker="o" if len(rows) <= 40 else "", ms=3, lw=1.6, label=name) | style
        axes.plot(epochs[known] + shift, values[known], **style)


def _notes(axes: Axes, rows: list[dict], color, first: str) -> None:
    """A dashed line with its text for each row's note; the last one where several were made at one step.

    Texts stand at the height `first`; those that would lie on each other go to other heights, and a fourth within a
    text's width is left out.
    """
    apart = 0.04 * (np.ptp(_column(rows, "epoch")) if len(rows) > 1 else 1.0)
    paper = dict(facecolor="white", alpha=0.85, linewidth=0, pad=0.6)
    style = dict(rotation=90, ha="right", fontsize=SMALL, color=color, bbox=paper)
    free = dict.fromkeys((HEIGHTS[first], *HEIGHTS.values()), -np.inf)  # height -> where the last text there stands
    for row in _noted(rows):
        epoch = row["epoch"]
        axes.axvline(epoch, color=color, linestyle="--", linewidth=1, alpha=0.8)
        height = next((height for height, taken in free.items() if epoch - taken >= apart), None)
        if height:
            axes.text(epoch, height[0], row["note"], va=height[1], transform=axes.get_xaxis_transform(), **style)
            free[height] = epoch


def _score_axis(axes: Axes) -> None:
    """Scores up to 1 on a log scale of 1 - score: from .9 to .95 is as high as from 0 to .5."""
    scores = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "-"]
    best = np.max(np.concatenate([[0.5], *scores]))
    to_error = lambda score: -np.log10(np.maximum(1 - np.asarray(score, float), PERFECT))  # noqa: E731
    axes.set_yscale("function", functions=(to_error, lambda height: 1 - 10.0 ** -np.asarray(height, float)))
    ticks = [tick for tick in SCORE_TICKS if tick <= best]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(0, 1 - max((1 - best) * 0.8, PERFECT))


def _log_axis(axes: Axes) -> None:
    """A log axis in plain numbers; at most four decades, because a schedule may end near zero."""
    drawn = [line.get_ydata() for line in axes.lines if line.get_linestyle() in ("-", ":")]
    values = np.concatenate([[], *drawn])  # nothing is drawn yet where a rate was set before the first epoch
    values = values[values > 0]
    if not len(values):
        return
    axes.set_yscale("log")
    axes.set_ylim(max(values.min(), values.max() / 1e4) / 1.3, values.max() * 1.3)
    subs = (1, 2, 5) if values.max() < 100 * values.min() else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
