"""The network as the U that it is named after."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ..catalog import Dataset
from .canvas import HUES, INK, LEGEND, MUTED, SMALL, TEXT, class_color, paper

DOWN, UP, COPIED, RAISED = HUES[0], HUES[4], "#8fbfdc", "#9ad5c1"  # blocks, and the two halves of an up block's input
KEY = {
    "max pool: half the size": HUES[1],
    "transposed convolution: twice the size": HUES[2],
    "skip: copied as it is": MUTED,
    "1 × 1 convolution: one number per class": HUES[3],
    "input from the skip": COPIED,
    "input from the level below, enlarged": RAISED,
}
POOL, RAISE, COPY, OUT = list(KEY.values())[:4]
LEFT, RIGHT, BOTTOM = (0, 0.5), (1, 0.5), (0.5, 0)  # the middle of a block's side, as shares of its width and height
ABOVE, BELOW = 4 * 14 + 12, 142  # pixels: for the texts above a block, for the key
Block = tuple[Rectangle, Rectangle, Rectangle]  # where the skip comes in, where the way up comes in, the convolutions


def architecture(rows: list[dict], dataset: Dataset | None = None) -> Figure:
    """Blocks in forward order (in, down1..N, up1..N, out), each {"name", "input", "output", "params"} -> the U.

    Block heights grow with the square root of H, widths with the logarithm of C; the output shows the class colours.
    """
    rows = [{"name": "photo", "output": rows[0]["input"], "params": 0}, *rows]
    boxes, width, height = _layout(rows)
    figure, axes = paper(width, height)
    blocks = [_block(axes, row, *box) for row, box in zip(rows, boxes, strict=True)]
    _arrows(axes, blocks)
    if dataset:
        (x, y), w, h = blocks[-1][2].get_xy(), blocks[-1][2].get_width(), boxes[-1][2] / len(dataset.classes)
        for i, name in enumerate(reversed(dataset.classes)):  # the output's channels, one class colour each
            axes.add_patch(Rectangle((x, y + i * h), w, h, facecolor=class_color(dataset, name), linewidth=0))
    weights = sum(row["params"] for row in rows)
    title = (
        "each blue or orange block: (3 × 3 convolution → norm → activation) twice, a column each\n"
        f"above: name and output channels, input channels, height × width, parameters; {weights:,} in all"
    )
    handles = [Patch(facecolor=color, label=text) for text, color in KEY.items()]
    shape = LEGEND | dict(fontsize=SMALL, title_fontsize=SMALL, handlelength=1.2, handleheight=0.6, columnspacing=1.2)
    figure.legend(handles=handles, title=title, loc="lower center", ncols=2 if width < 850 else 3, **shape)
    return figure


def _layout(rows: list[dict]) -> tuple[list[tuple], float, float]:
    """Each block's centre and height (x, y, height), and the figure's size: level 0 on top, mirrored."""
    depth = (len(rows) - 3) // 2
    step = min(110, 330 / depth)
    left = [120 + step * level for level in range(depth + 1)]
    width = 2 * left[-1]
    xs = [40, *left, *(width - x for x in reversed(left[:-1])), width - 40]
    sizes = [row["output"][-2] for row in rows[1 : depth + 2]]
    heights = [max(16.0, 90 * math.sqrt(size / sizes[0])) for size in sizes]
    tops = np.cumsum([ABOVE] + [h + ABOVE for h in heights])  # from the figure's upper edge
    height = tops[-1] - ABOVE + BELOW
    levels = [0, *range(depth + 1), *reversed(range(depth)), 0]
    ys = [height - tops[level] - heights[level] / 2 for level in levels]
    return list(zip(xs, ys, [heights[level] for level in levels], strict=True)), width, height


def _block(axes: Axes, row: dict, x: float, y: float, height: float) -> Block:
    """One block with its texts above: a column a convolution; before an up block the two halves of its input."""
    name, (_, channels, high, wide) = row["name"], row["output"]
    column, low = max(9.0, 2.4 * math.log2(channels) - 3), y - height / 2

    def part(left: float, columns: int, color: str, gid: str = "") -> Rectangle:
        shape = Rectangle((left, low), columns * column, height, facecolor=color, edgecolor="white", gid=gid or None)
        axes.add_patch(shape)
        return shape

    lines = [f"{high} × {wide}"] + ([f"{row['params']:,}"] if row["params"] else [])
    if name.startswith("up"):
        parts = part(x - 2 * column, 1, COPIED), part(x - column, 1, RAISED), part(x, 2, UP, name)
        lines.insert(0, f"from {channels} + {channels}")
    else:
        columns, color = {"photo": (1, MUTED), "out": (1, OUT)}.get(name, (2, DOWN))
        body = part(x - columns * column / 2, columns, color, name)
        parts = body, body, body
    if name not in ("photo", "out"):
        axes.vlines(parts[2].get_x() + column, low, low + height, color="white", lw=1.2)  # between two convolutions
    top = low + height + 3
    axes.text(x, top, "\n".join(lines), fontsize=SMALL, ha="center", va="bottom", color=INK, linespacing=1.1)
    top += 14 * len(lines)
    axes.text(x, top, f"{name}: {channels}", fontsize=TEXT, fontweight="bold", ha="center", va="bottom", color=INK)
    return parts


def _arrows(axes: Axes, blocks: list[Block]) -> None:
    """Photo to first block, down the left, up the right, across each level, and out."""

    def arrow(start: Rectangle, side: tuple, end: Rectangle, end_side: tuple, color: str, bend: str = "arc3") -> None:
        style = dict(
            arrowstyle="-|>", connectionstyle=bend, color=color, lw=1.6, shrinkA=0, shrinkB=0, mutation_scale=11
        )
        axes.annotate("", xy=end_side, xycoords=end, xytext=side, textcoords=start, arrowprops=style)

    middle = len(blocks) // 2
    photo, down, up, out = blocks[0][2], [block[2] for block in blocks[1 : middle + 1]], blocks[middle:-1], blocks[-1]
    arrow(photo, RIGHT, down[0], LEFT, INK)
    for here, below in zip(down, down[1:], strict=False):
        arrow(here, BOTTOM, below, LEFT, POOL, "angle,angleA=90,angleB=0,rad=0")
    for (*_, body), (_, raised, _) in zip(up, up[1:], strict=False):
        arrow(body, RIGHT, raised, BOTTOM, RAISE, "angle,angleA=0,angleB=90,rad=0")
    for body, (copied, *_) in zip(down, up[:0:-1], strict=False):
        arrow(body, RIGHT, copied, LEFT, COPY)
    arrow(up[-1][2], RIGHT, out[2], LEFT, OUT)
