"""Files that are never half written, and photos that are read the same way everywhere."""

import contextlib
import hashlib
import os
import shutil
import struct
import sys
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


def to_rgb(image: Image.Image) -> np.ndarray:
    """A decoded picture of any mode -> uint8 [H,W,3]; 16 bits are scaled, which PIL alone would clip to white."""
    if image.mode == "F":
        raise ValueError("a picture of floating-point numbers has no defined white")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def read_photo(path: Path) -> np.ndarray:
    """Photo file -> uint8 [H,W,3] RGB, turned upright as its EXIF says; DataError names an unreadable file."""
    try:
        with Image.open(path) as image:
            return to_rgb(ImageOps.exif_transpose(image))
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
