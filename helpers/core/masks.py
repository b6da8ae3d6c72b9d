"""Label files <-> class ids. What is not a known id is refused, never mapped silently."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..catalog import VOID, Color, Dataset, Row
from . import files
from .errors import DataError

VOID_COLOR = (255, 255, 255)
ID_MODES = {"1", "L", "P", "I", "I;16", "I;16B", "F"}  # one channel: the pixel is the id (for P the palette's index)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A label file as a picture; DataError if it is unreadable, or of several pages."""
    try:
        with Image.open(path) as image:
            files.check_one_page(image)
            yield image
    except files.UNREADABLE as error:
        fault = files.why(error, path)
        raise DataError(f"{Path(path).name}: cannot be read as a label ({fault}); replace it") from error


def read_colors(path: Path) -> np.ndarray:
    """Label file -> uint8 [H,W,3]; DataError if unreadable, or in part transparent: that hides or holds labels."""
    with opened(path) as image:
        if image.has_transparency_data and (clear := (np.asarray(image.convert("RGBA"))[..., 3] < 255).sum()):
            remedy = "fill them with the value of a class, and save without transparency"
            raise ValueError(f"{clear} pixels are transparent; {remedy}")
        return files.to_rgb(ImageOps.exif_transpose(image))


def read_values(path: Path) -> np.ndarray:
    """Label file -> int32 or float32 [H,W] as stored; DataError as read_colors, and if it has colours, not ids."""
    with opened(path) as image:
        if image.mode in ID_MODES:
            values = np.asarray(image).astype(np.float32 if image.mode == "F" else np.int32)
            if not np.isfinite(values).all():
                raise ValueError("some of its values are no numbers; fill them with the value of a class")
            return values
    rgb = read_colors(path)
    if (rgb[..., :1] != rgb).any():
        raise DataError(f"{Path(path).name}: holds colours, not class ids; convert it to one grey channel of ids")
    return rgb[..., 0].astype(np.int32)


def read_ids(path: Path) -> np.ndarray:
    """Label file -> int32 [H,W] as stored, unchecked; DataError as read_values, and for fractions."""
    values = read_values(path)
    if values.dtype == np.float32 and (values != values.round()).any():
        fault = f"holds fractions ({values.min():g} to {values.max():g}), not class ids"
        raise DataError(f"{Path(path).name}: {fault}; save the id of each pixel's class, of two classes 0 and 1")
    return values.astype(np.int32)


def check_ids(ids: np.ndarray, classes: int, name: str) -> np.ndarray:
    """int [H,W] -> uint8 [H,W] with ids in 0..classes-1 or 255 (void); DataError lists what else it found."""
    unknown = np.unique(ids[(ids < 0) | ((ids >= classes) & (ids != VOID))])
    if len(unknown):
        found = ", ".join(map(str, unknown[:6])) + (", ..." if len(unknown) > 6 else "")
        raise DataError(f"{name}: ids outside 0-{classes - 1}: {found}; map them to class ids (255 is void)")
    return ids.astype(np.uint8)


def read_label(path: Path, classes: int) -> np.ndarray:
    """Label file -> uint8 [H,W] with ids in 0..classes-1 or 255 (void); DataError otherwise."""
    return check_ids(read_ids(path), classes, Path(path).name)


def write_label(path: Path, label: np.ndarray) -> None:
    """uint8 [H,W] -> a one-channel PNG whose grey value is the id, written whole or not at all."""
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(f"a label map is uint8 [H,W], got {label.dtype} {label.shape}")
    with files.atomic(path) as file:
        Image.fromarray(label).save(file, format="PNG")


def colorize(label: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Label uint8 [H,W] -> uint8 [H,W,3] in the catalogue's colours, void white; DataError for any other id."""
    palette = np.full((256, 3), VOID_COLOR, np.uint8)
    palette[: len(dataset.colors)] = dataset.colors
    return palette[check_ids(np.asarray(label), len(dataset.classes), "label map")]


@dataclass(frozen=True)
class UnknownColor:
    """A colour of one mask that is not in the table: its pixels, the nearest row, and how far that is (RGB, Euclid)."""

    file: str
    color: Color
    pixels: int
    nearest: Row
    distance: float

    @property
    def hex(self) -> str:
        """As #rrggbb."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)
