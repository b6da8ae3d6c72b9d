"""Pictures: arrays and plain rows in, a matplotlib Figure out."""

from .architecture import architecture
from .canvas import png, save
from .charts import confusion, dice_example, directions, f1_bars, lr_finder, shares, swatches
from .curves import class_curves, curves
from .pictures import batch, class_overlays, colorize, error_map, overlay, pairs, parse, predictions, resampling

__all__ = [
    "architecture",
    "batch",
    "class_curves",
    "class_overlays",
    "colorize",
    "confusion",
    "curves",
    "dice_example",
    "directions",
    "error_map",
    "f1_bars",
    "lr_finder",
    "overlay",
    "pairs",
    "parse",
    "png",
    "predictions",
    "resampling",
    "save",
    "shares",
    "swatches",
]
