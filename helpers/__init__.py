"""Shared by the six notebooks: from a folder of photographs to a trained U-Net and its F1 table."""

__version__ = "0.2.0"
