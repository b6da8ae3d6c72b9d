"""The network as the U that it is named after."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..catalog import Dataset
from .canvas import HUES, INK, LINE, MUTED, SMALL, TEXT, class_color, make_figure, place

ARROWS = {
    "max pool: half the size": HUES[1],
    "transposed convolution: twice the size": HUES[2],
    "copy and concatenate": MUTED,
    "1 x 1 convolution": HUES[3],
}
POOL, UP, COPY, OUT = ARROWS.values()
LEFT, RIGHT, BOTTOM = (0, 0.5), (1, 0.5), (0.5, 0)  # the middle of a block's side, as shares of its width and height


def architecture(rows: list[dict], dataset: Dataset | None = None) -> Figure:
    """Blocks in forward order (in, down1..N, up1..N, out), each {"name", "input", "output", "params"} -> the U.

    Block heights grow with the square root of H, widths with the logarithm of C; the output shows the class colours.
    """
    rows = [{"name": "photo", "output": rows[0]["input"], "params": 0}, *rows]
    boxes, width, height = _layout(rows)
    figure = make_figure(width, height)
    axes = place(figure, 0, 0, width, height)
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    blocks = [_block(axes, row, *box) for row, box in zip(rows, boxes, strict=True)]
    _arrows(axes, blocks)
    if dataset:
        x, y, w, h = boxes[-1]
        band = h / len(dataset.classes)  # the output's channels, one class colour each
        for i, name in enumerate(reversed(dataset.classes)):
            corner = x - w / 2, y - h / 2 + i * band
            axes.add_patch(Rectangle(corner, w, band, facecolor=class_color(dataset, name), linewidth=0))
    _key(figure, sum(row["params"] for row in rows))
    return figure


def _layout(rows: list[dict]) -> tuple[list[tuple], float, float]:
    """Each block's centre and size (x, y, width, height), and the figure's size: level 0 on top, mirrored."""
    depth = (len(rows) - 3) // 2
    step = min(110, 320 / depth)
    left = [130 + step * level for level in range(depth + 1)]
    width = 2 * left[-1]
    xs = [40, *left, *(width - x for x in reversed(left[:-1])), width - 40]
    sizes = [row["output"][-2] for row in rows[1 : depth + 2]]
    heights = [max(16.0, 110 * math.sqrt(size / sizes[0])) for size in sizes]
    tops = np.cumsum([3 * LINE] + [h + 3 * LINE for h in heights])  # from the figure's upper edge
    height = tops[-1] - 3 * LINE + 76
    levels = [0, *range(depth + 1), *reversed(range(depth)), 0]
    ys = [height - tops[level] - heights[level] / 2 for level in levels]
    widths = [4 + 6 * math.log2(row["output"][1]) for row in rows]
    return list(zip(xs, ys, widths, [heights[level] for level in levels], strict=True)), width, height


def _block(axes: Axes, row: dict, x: float, y: float, width: float, height: float) -> Rectangle:
    """One block: channels, size and weights above it, its name below."""
    name, (_, channels, high, wide) = row["name"], row["output"]
    if name in ("photo", "out"):
        color, shift, align = MUTED if name == "photo" else HUES[4], 0, "center"
    elif name.startswith("up"):
        color, shift, align = HUES[4], 7, "left"  # beside the arrow that comes from below
    else:
        color, shift, align = HUES[0], -7, "right"
    low, top = y - height / 2, y + height / 2 + 3
    block = Rectangle((x - width / 2, low), width, height, facecolor=color, edgecolor="white", gid=name)
    axes.add_patch(block)
    lines = [f"{high} × {wide}"] + ([f"{row['params']:,}"] if row["params"] else [])
    axes.text(x, top, "\n".join(lines), fontsize=SMALL - 1, ha="center", va="bottom", color=INK)
    top += 11 * len(lines)
    axes.text(x, top, f"{channels}", fontsize=TEXT, fontweight="bold", ha="center", va="bottom", color=INK)
    axes.text(x + shift, low - 3, name, fontsize=SMALL - 1, color=MUTED, ha=align, va="top")
    return block


def _arrows(axes: Axes, blocks: list[Rectangle]) -> None:
    """Photo to first block, down the left, up the right, across each level, and out."""

    def arrow(start: Rectangle, side: tuple, end: Rectangle, end_side: tuple, color: str, bend: str = "arc3") -> None:
        style = dict(
            arrowstyle="-|>", connectionstyle=bend, color=color, lw=1.6, shrinkA=0, shrinkB=0, mutation_scale=11
        )
        axes.annotate("", xy=end_side, xycoords=end, xytext=side, textcoords=start, arrowprops=style)

    middle = len(blocks) // 2
    photo, down, up, out = blocks[0], blocks[1 : middle + 1], blocks[middle:-1], blocks[-1]
    arrow(photo, RIGHT, down[0], LEFT, INK)
    for here, below in zip(down, down[1:], strict=False):
        arrow(here, BOTTOM, below, LEFT, POOL, "angle,angleA=90,angleB=0,rad=0")
    for here, above in zip(up, up[1:], strict=False):
        arrow(here, RIGHT, above, BOTTOM, UP, "angle,angleA=0,angleB=90,rad=0")
    for here, across in zip(down, up[:0:-1], strict=False):
        arrow(here, RIGHT, across, LEFT, COPY)
    arrow(up[-1], RIGHT, out, LEFT, OUT)


def _key(figure: Figure, weights: int) -> None:
    """What the arrows and numbers mean, along the lower edge."""
    handles = [Patch(facecolor=color, label=text) for text, color in ARROWS.items()]
    columns = 2 if figure.bbox.width < 850 else 4
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=columns,
        fontsize=SMALL,
        frameon=False,
        handlelength=1.2,
        handleheight=0.6,
    )
    text = f"above each block: channels (bold), height × width, weights; {weights:,} weights in all"
    figure.text(0.5, 34 / figure.bbox.height, text, ha="center", va="bottom", fontsize=SMALL, color=MUTED)
