"""A training's history over its epochs: loss, scores, learning rate, and what changed on the way."""

from collections.abc import Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..catalog import Dataset
from .canvas import HUES, LABEL, LINE, MUTED, SMALL, TEXT, WIDTH, chart, class_color, make_figure, message, top_legend

NOTE_SLOTS = (0.97, "top"), (0.03, "bottom"), (0.5, "center")  # heights at which notes that lie close are written
Trace = Sequence[Sequence[float]]


def curves(runs: dict[str, list[dict]] | list[dict], dataset: Dataset, trace: Trace = ()) -> Figure:
    """History rows (one run, or several by name): training loss, validation score and rate over epochs, notes dashed.

    trace: triples (epoch, loss, rate) of one run between its epochs: the loss is drawn thin behind the means, the
    rate in place of the epochs' last ones.
    """
    runs = runs if isinstance(runs, dict) else {"": runs}
    runs = {name: rows for name, rows in runs.items() if rows or len(trace)}
    if not runs:
        return message("no epoch finished yet")
    panels = _panels(runs, dataset)
    figure = make_figure(WIDTH, 55 + 160 * len(panels))
    for number, (key, title) in enumerate(panels.items()):
        axes = chart(figure, (70, 160 * (len(panels) - number) - 115, 810, 145), ylabel=title)
        if number:
            axes.sharex(figure.axes[0])
        for (name, rows), color in zip(runs.items(), HUES * len(runs), strict=False):
            _line(axes, rows, key, color, name)
            _notes(axes, rows, color)
        axes.tick_params(labelbottom=key == "lr")
        if key not in ("loss", "lr"):
            axes.set_ylim(0, 1)
    if len(trace):
        epochs, losses, rates = np.array(trace, float).T
        figure.axes[0].plot(epochs, losses, color=HUES[0], lw=0.8, alpha=0.45, zorder=1)
        figure.axes[-1].lines[0].set_data(epochs, rates)
        figure.axes[-1].lines[0].set_marker("")
    _epoch_axis(figure.axes[-1])
    _rate_axis(figure.axes[-1])
    if any(runs):
        top_legend(figure)
    return figure


def class_curves(rows: list[dict], dataset: Dataset) -> Figure:
    """Validation F1 of every class over epochs, one line each, named at its right end."""
    scores = {name: _column(rows, f"f1_{name}") for name in dataset.classes}
    last = {name: column[~np.isnan(column)][-1] for name, column in scores.items() if not np.isnan(column).all()}
    if not last:
        return message("no epoch finished yet")
    height = max(340, (LINE + 1) * len(last))
    figure = make_figure(WIDTH, height + 70)
    axes = chart(figure, (60, 50, 700, height), ylabel="validation F1")
    for name in last:
        _line(axes, rows, f"f1_{name}", class_color(dataset, name), name)
        axes.lines[-1].set_path_effects([patheffects.withStroke(linewidth=2.6, foreground=MUTED)])  # for pale colours
    axes.set_ylim(0, 1)
    _notes(axes, rows, MUTED)
    _epoch_axis(axes)
    right = axes.get_yaxis_transform()  # x as a share of the axes' width
    for (name, value), y in zip(last.items(), _spread(list(last.values()), LINE / height), strict=True):
        axes.plot((1.0, 1.03), (value, y), transform=right, color=class_color(dataset, name), lw=1.6, clip_on=False)
        axes.text(1.035, y, f"{name} {value:.3f}", transform=right, va="center", fontsize=TEXT)
    return figure


def _panels(runs: dict[str, list[dict]], dataset: Dataset) -> dict[str, str]:
    """What is drawn, top to bottom: the history's column and its title; the accuracy where every row has one."""
    metric = dataset.primary_metric
    named = f"F1\n{metric}" if metric in dataset.rows else metric.replace("_", " ").replace("iou", "IoU")
    panels = {"loss": "training loss", dataset.column(metric): f"validation {named}"}
    if all("accuracy" in row for rows in runs.values() for row in rows):
        panels["accuracy"] = "validation\naccuracy"
    return panels | {"lr": "learning rate"}


def _column(rows: list[dict], key: str) -> np.ndarray:
    """One value of every history row as float [N]; NaN where it is missing."""
    return np.array([row.get(key, np.nan) for row in rows], float)


def _line(axes: Axes, rows: list[dict], key: str, color, name: str) -> None:
    """A history column over epochs; dots too while there are few rows. A row without the value breaks no line."""
    marker = "o" if len(rows) <= 40 else ""
    epochs, values = _column(rows, "epoch"), _column(rows, key)
    known = ~np.isnan(values)
    axes.plot(epochs[known], values[known], color=color, marker=marker, ms=3, lw=1.6, label=name)


def _notes(axes: Axes, rows: list[dict], color) -> None:
    """A dashed line with its text for each row's note; the last one where several were made at one step.

    Texts that would lie on each other go to other heights; a fourth within a text's width is left out.
    """
    noted = {row["step"] if "step" in row else row["epoch"]: row for row in rows if row.get("note")}
    apart = 0.025 * (np.ptp(_column(rows, "epoch")) if len(rows) > 1 else 1.0)
    paper = dict(facecolor="white", alpha=0.75, linewidth=0, pad=0.6)
    style = dict(rotation=90, ha="right", fontsize=SMALL - 1, color=color, bbox=paper)
    free = dict.fromkeys(NOTE_SLOTS, -np.inf)  # height -> where the last text there stands
    for row in noted.values():
        epoch = row["epoch"]
        axes.axvline(epoch, color=color, linestyle="--", linewidth=1, alpha=0.8)
        slot = next((slot for slot, taken in free.items() if epoch - taken >= apart), None)
        if slot is not None:
            axes.text(epoch, slot[0], row["note"], va=slot[1], transform=axes.get_xaxis_transform(), **style)
            free[slot] = epoch


def _epoch_axis(axes: Axes) -> None:
    """Whole numbers, named below."""
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch", **LABEL)


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


def _spread(values: Sequence[float], gap: float) -> np.ndarray:
    """Numbers in 0..1 moved as little as needed to lie `gap` apart within 0..1."""
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(order))
    ideal = np.asarray(values, float)[order] - steps
    pushed_up, pushed_down = np.maximum.accumulate(ideal), np.minimum.accumulate(ideal[::-1])[::-1]
    placed = np.empty(len(order))
    placed[order] = np.clip((pushed_up + pushed_down) / 2, 0, max(0, 1 - steps[-1])) + steps
    return placed
