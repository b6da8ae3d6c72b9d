"""Pictures: arrays and plain rows in, a matplotlib Figure out."""

from .architecture import architecture
from .canvas import png, save
from .charts import confusion, dice_example, directions, f1_dots, loss_runs, lr_finder, shares, skip_costs, swatches
from .curves import class_curves, curves
from .pictures import (
    batch,
    class_overlays,
    colorize,
    error_map,
    feature_maps,
    flips,
    overlay,
    pairs,
    parse,
    predictions,
    receptive_field,
    resampling,
)

__all__ = [
    "architecture", "batch", "class_curves", "class_overlays", "colorize", "confusion", "curves", "dice_example",
    "directions", "error_map", "f1_dots", "feature_maps", "flips", "lr_finder", "overlay", "pairs", "parse", "png",
    "predictions", "loss_runs", "receptive_field", "resampling", "save", "shares", "skip_costs", "swatches",
]  # fmt: skip
