"""Files that are never half written, and photos that are read the same way everywhere."""

import contextlib
import hashlib
import os
import shutil
import struct
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar

import filelock
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm
from tqdm.contrib import concurrent

from . import hardware
from .errors import DataError

T = TypeVar("T")
R = TypeVar("R")

# What PIL raises on a damaged or hostile picture (the last two on damaged EXIF); anything else is a fault of ours.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, struct.error, TypeError)


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for binary writing under a temporary name; on success fsync and rename, on failure leave nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write bytes to `path` whole or not at all."""
    with atomic(path) as file:
        file.write(data)


def link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, in place of what was there; a copy where the disk knows no links."""
    temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:
        with open(source, "rb") as file, atomic(target) as copy:
            shutil.copyfileobj(file, copy)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The file's SHA-256, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why(error: Exception, path: Path) -> str:
    """What PIL says, without the machine's folders, which it quotes."""
    whole, name = str(path), Path(path).name
    quoted = str(error).replace(repr(whole)[1:-1], repr(name)[1:-1])  # as PIL has it: line breaks, backslashes escaped
    return quoted.replace(whole, name)


def check_one_page(image: Image.Image) -> None:
    """ValueError for a file of several pictures; in a phone's MPO the first is the photo, the rest are its previews."""
    if (pages := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
        raise ValueError(f"it holds {pages} pictures, and which one is meant is not said: save that one alone")


def white_of(high: float) -> int:
    """The largest value of 8, 10, 12, 14 or 16 bits, whichever first holds `high`; ValueError beyond."""
    for bits in (8, 10, 12, 14, 16):
        if high < 2**bits:
            return 2**bits - 1
    raise ValueError(f"its values go up to {high:g}, and which one is white is not said: save it with 8 or 16 bits")


def to_rgb(image: Image.Image, white: int = 0, name: str = "a photo") -> np.ndarray:
    """A picture of any mode -> uint8 [H,W,3]; more than 8 bits are scaled from 0..white, which PIL would clip.

    Where white is not stated (0) it is taken from the values themselves, with a warning if they are a sliver of 16
    bits. ValueError for fractions without a white, and for values outside 0..white.
    """
    if image.mode != "F" and not image.mode.startswith("I"):
        return np.asarray(image.convert("RGB"))
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if not white and image.mode == "F":
        raise ValueError("a picture of floating-point numbers has no defined white: register its dataset with white=")
    if not white and (white := white_of(high)) < 2**16 - 1:
        said = f"{name}: more than 8 bits, but its values go from {low:g} to {high:g}: {white} is taken for white"
        warnings.warn(f"{said}; register its dataset with white= to state another", stacklevel=2)
    if not (low >= 0 and high <= white):
        raise ValueError(f"its values go from {low:g} to {high:g}, outside 0 to white={white}: state another white")
    return np.repeat((values * 255 / white).round().astype(np.uint8)[..., None], 3, 2)


def read_photo(path: Path, white: int = 0) -> np.ndarray:
    """Photo file -> uint8 [H,W,3] RGB, turned upright as its EXIF says; DataError names an unreadable file.

    white: the value that means white in photos of more than 8 bits; 0: not stated.
    """
    try:
        with Image.open(path) as image:
            check_one_page(image)
            deep = any(";16" in str(tile.args) for tile in image.tile) and not image.mode.startswith("I")
            pixels = to_rgb(ImageOps.exif_transpose(image), white, Path(path).name)
            if deep and (white not in (0, 65535) or (not white and pixels.max() < 64)):  # PIL keeps the upper 8 bits
                raise ValueError("colours of 16 bits whose white is not 65535: save it with 8 bits a channel")
            return pixels
    except UNREADABLE as error:
        raise DataError(f"{Path(path).name}: cannot be read as a photo ({why(error, path)}); replace it") from error


def thread_map(function: Callable[[T], R], items: Iterable[T], title: str) -> list[R]:
    """function of each item, in order, on all cores, with a bar for more than a handful.

    Threads: Pillow, hashing and file access let go of Python's lock. An interrupt drops what has not begun.
    """
    items = list(items)
    bar = {
        "desc": title,
        "disable": len(items) <= 16,
        "max_workers": hardware.cores(),
        "tqdm_class": tqdm,
    } | bar_style()
    return concurrent.thread_map(function, items, **bar)


def bar_style() -> dict:
    """How tqdm draws a bar: in a notebook on stdout, since stderr is a red box there, and gone when it is full."""
    in_notebook = "IPython" in sys.modules and sys.modules["IPython"].get_ipython()
    return {"file": sys.stdout, "leave": False} if in_notebook else {}


@contextlib.contextmanager
def locked(path: Path, busy: Exception) -> Iterator[None]:
    """Hold a lock file at `path`, freed when its process dies; raises `busy` where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise busy from None
    except (OSError, NotImplementedError):
        pass  # a folder on Drive or a network that knows no locks: better without than not at all
    try:
        yield
    finally:
        lock.release()
