"""Widgets for the notebooks."""

from .panel import panel
from .upload import upload

__all__ = ["panel", "upload"]
