"""Widgets for the notebooks."""

from .explore import augmentation, confidence, dice_grid, errors, feature_maps
from .panel import panel
from .upload import upload

__all__ = ["augmentation", "confidence", "dice_grid", "errors", "feature_maps", "panel", "upload"]
