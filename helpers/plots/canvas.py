"""What figures are made of: axes, texts, legends, PNG bytes. No pyplot, so any thread may draw."""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..catalog import Dataset
from ..core import files

DPI = 90  # 900 pixels = 10 inches: a notebook's width, and a modest PNG
WIDTH = 900  # pixels
LINE = 16  # pixels that a line of text takes
TEXT, SMALL = 10, 9  # points: 11 pixels is the least that one reads with ease
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's, safe for colour-blind eyes
LABEL: dict[str, Any] = dict(fontsize=TEXT, color=INK)
LEGEND: dict[str, Any] = dict(fontsize=TEXT, frameon=False, labelcolor=INK)


def make_figure(width: float, height: float) -> Figure:
    """A white figure of so many pixels."""
    return Figure(figsize=((width + 1e-6) / DPI, (height + 1e-6) / DPI), dpi=DPI, facecolor="white")


def laid_out(height: float) -> Figure:
    """A figure in which matplotlib finds the room for labels, legends and texts beside the axes."""
    figure = make_figure(WIDTH, height)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.07)
    return figure


def place(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """New axes at a pixel box, measured from the lower left corner."""
    w, h = figure.bbox.size
    return figure.add_axes((x / w, y / h, width / w, height / h))


def paper(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure and axes all over it, without lines, in pixels from the lower left corner."""
    figure = make_figure(width, height)
    axes = place(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def charts(height: float, count: int = 1, columns: int = 1, shared: Sequence[str] = ()) -> tuple[Figure, list[Axes]]:
    """So many charts in rows, `shared` axes ("sharex", "sharey") alike: two spines, pale grid behind the data."""
    figure = laid_out(height)
    for number in range(count):
        alike = dict.fromkeys(shared, figure.axes[0]) if number else {}
        axes = figure.add_subplot(math.ceil(count / columns), columns, number + 1, **alike)
        axes.set_axisbelow(True)
        axes.grid(color=FAINT, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(MUTED)
        axes.tick_params(labelsize=SMALL, color=MUTED, labelcolor=INK)
    return figure, figure.axes


def message(text: str) -> Figure:
    """A small figure that holds one line of text."""
    figure = make_figure(WIDTH, 80)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, fontsize=11)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes: the same figure gives the same bytes, in any thread."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    figure.set_layout_engine("none")  # laid out a second time, it would move by a fraction of a pixel
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write the figure to `path` as PNG, whole or not at all."""
    files.write_atomic(path, png(figure))


def class_color(dataset: Dataset, name: str) -> tuple[float, float, float]:
    """A class's colour, each channel in 0..1."""
    red, green, blue = dataset.colors[dataset.id(name)]
    return red / 255, green / 255, blue / 255


def plain(text: str) -> str:
    r"""A text that comes from data: `$` as `\$`, since matplotlib would set what stands between two as a formula."""
    return re.sub(r"(?<!\\)\$", r"\\$", text)


def spelled(dataset: Dataset, name: str, short: bool = True) -> str:
    """A class or group for a reader: 'lb  left brow', or without its short name 'left brow'."""
    long = dataset.long_names.get(name, name)
    return plain(f"{name}  {long}" if short and long != name else long)


def spelled_all(dataset: Dataset) -> list[str]:
    """Every class, 'lb  left brow', by id."""
    return [spelled(dataset, name) for name in dataset.classes]


def class_legend(figure: Figure, dataset: Dataset, labels: Sequence[str]) -> float:
    """Class colours along the figure's lower edge, one label a class; returns the pixels that this takes."""
    handles = [Patch(facecolor=class_color(dataset, name), edgecolor=MUTED, linewidth=0.5) for name in dataset.classes]
    fitting = max(1, figure.bbox.width // (6.7 * max(map(len, labels)) + 36))
    rows = math.ceil(len(labels) / fitting)
    columns = math.ceil(len(labels) / rows)  # evenly filled
    style = LEGEND | dict(handlelength=1.2, handleheight=1.0, columnspacing=1.2, borderaxespad=0.2)
    figure.legend(handles, labels, loc="lower center", ncols=columns, **style)
    return rows * (LINE + 3) + 8


def top_legend(figure: Figure) -> None:
    """What the lines and bars of the first axes are, along the figure's upper edge."""
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, **LEGEND)


def percent(share: float) -> str:
    """0.374 -> '37 %', 0.0212 -> '2.1 %', 0.0023 -> '0.23 %', 0.00002 -> '< 0.01 %'."""
    value = 100 * share
    if 0 < value < 0.01:
        return "< 0.01 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def shorten(text: str, pixels: float) -> str:
    """The text, cut with an ellipsis where it would not fit."""
    fits = max(2, int(pixels // 7))  # characters
    return plain(text if len(text) <= fits else text[: fits - 1] + "…")
