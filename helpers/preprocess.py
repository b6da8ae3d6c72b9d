"""Photos and labels, resized once and kept as uint8 arrays on disk, memory-mapped."""

import hashlib
import json
import os
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .catalog import SPLITS
from .core import env, files, hardware
from .core.errors import DataError
from .core.files import read_photo
from .core.masks import read_label
from .core.registry import load_dataset, rules

FORMAT = 1  # raised when the arrays' content changes for the same files, so that old ones are built anew

Size = int | tuple[int, int]  # of a square, or rows and columns


def sides(size: Size) -> tuple[int, int]:
    """Rows and columns."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def resize_photo(photo: np.ndarray, size: Size) -> np.ndarray:
    """uint8[H,W,3] -> uint8[rows,columns,3], bicubic (antialiased when it shrinks)."""
    return np.asarray(Image.fromarray(photo).resize(sides(size)[::-1], Image.Resampling.BICUBIC))


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """uint8[H,W] ids -> uint8[rows,columns], nearest: a mean of two ids would be a third, wrong one."""
    return np.asarray(Image.fromarray(label).resize(sides(size)[::-1], Image.Resampling.NEAREST))


@dataclass(frozen=True)
class Arrays:
    """One split: images uint8[N,S,T,3] and labels uint8[N,S,T], memory-mapped, with the ids of the samples."""

    images: np.ndarray
    labels: np.ndarray
    ids: list[str]
    content: str  # checksum of images and labels: the same data has the same, wherever it was copied

    def __len__(self) -> int:
        return len(self.ids)


def read_manifest(dataset: str) -> dict:
    """What 01 noted of the samples it wrote; {} if it has not run or the file is damaged."""
    try:
        manifest = json.loads((env.split_dir(dataset) / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def pairs(dataset: str, split: str) -> list[tuple[str, Path, Path]]:
    """(id, photo, label) of a split as 01 left it, sorted by id; DataError if 01 has not run or a file is missing."""
    root = env.split_dir(dataset) / split
    photos = {p.stem: p for kind in ("jpg", "png") for p in (root / "images").glob(f"[!.]*.{kind}")}
    labels = {p.stem: p for p in (root / "labels").glob("[!.]*.png")}
    if not photos:
        remedy = f"run notebook 01 (01_restructure_data), or python -m helpers prepare --dataset {dataset}"
        raise DataError(f"{env.shown(root)} holds no photos: {remedy} in the folder that holds helpers/")
    manifest = read_manifest(dataset)
    if manifest.get("complete") is not True:  # 01 writes false first, true last
        raise DataError(f"{env.shown(root.parent)} is half copied: run notebook 01 again, it goes on from there")
    if manifest.get("meaning", now := rules(load_dataset(dataset))) != now:
        fault = "was prepared before the classes, colours or levels of its masks changed"
        raise DataError(f"{env.shown(root.parent)} {fault}: run notebook 01 again, or prepare --dataset {dataset}")
    if lone := sorted(photos.keys() ^ labels.keys()):
        raise DataError(f"{env.shown(root)}: {lone[0]} has no photo or no label; run notebook 01 again to repair it")
    return [(i, photos[i], labels[i]) for i in sorted(photos)]


def fingerprint(samples: list[tuple[str, Path, Path]], size: Size) -> str:
    """Hash of names, sizes and times of a split's files: it changes when any file does."""
    stats = [(i, *(s for p in paths for s in (p.stat().st_size, p.stat().st_mtime_ns))) for i, *paths in samples]
    return hashlib.sha256(json.dumps([FORMAT, sides(size), stats]).encode()).hexdigest()[:16]


def about(samples: list[tuple[str, Path, Path]], size: Size, images: np.ndarray, labels: np.ndarray) -> dict:
    """What about.json holds: the ids, the fingerprint of the files, the CRC-32 of the arrays' bytes."""
    checksums = {"images": zlib.crc32(images.data), "labels": zlib.crc32(labels.data)}
    return {"ids": [i for i, *_ in samples], "fingerprint": fingerprint(samples, size)} | checksums


def build(dataset: str, split: str, size: Size) -> None:
    """Write one split's arrays beside their final place, then rename the folder: never half there."""
    target = env.array_dir(dataset, sides(size)) / split
    work = target.with_name(f"{split}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        write_arrays(work, pairs(dataset, split), size, len(load_dataset(dataset).classes), split)
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    except OSError as error:  # Windows does not replace what another notebook has open
        fault = f"{env.shown(target)} cannot be replaced ({error.strerror})"
        raise DataError(f"{fault}: restart the kernels of the other notebooks, see that the disk has room") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_arrays(folder: Path, samples: list, size: Size, classes: int, title: str) -> None:
    """images.npy, labels.npy and, last, about.json (ids, fingerprint, checksums); all cores, rows written in order."""

    def convert(paths: tuple[str, Path, Path]) -> tuple[np.ndarray, np.ndarray]:
        _, photo, label = paths
        return resize_photo(read_photo(photo), size), resize_label(read_label(label, classes), size)

    shape = (len(samples), *sides(size))
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (*shape, 3))
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, shape)
    with ThreadPoolExecutor(hardware.cores()) as pool:  # PIL lets go of the GIL while it decodes and resizes
        done = tqdm(pool.map(convert, samples), title, len(samples), **files.bar_style())
        for row, (image, label) in enumerate(done):
            images[row], labels[row] = image, label
    images.flush()
    labels.flush()
    files.write_atomic(folder / "about.json", json.dumps(about(samples, size, images, labels)).encode())


def read_arrays(dataset: str, split: str, size: Size) -> Arrays | None:
    """Open one split's arrays; None if they are not there, damaged, or built from other files than 01's."""
    folder, samples = env.array_dir(dataset, sides(size)) / split, pairs(dataset, split)
    try:
        written = json.loads((folder / "about.json").read_text())
        images, labels = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("images", "labels"))
    except (OSError, ValueError, EOFError):  # missing or cut short
        return None
    if written != about(samples, size, images, labels):
        return None
    return Arrays(images, labels, written["ids"], f"{written['images']:08x}{written['labels']:08x}")


def open_arrays(dataset: str, size: Size) -> dict[str, Arrays]:
    """The three splits at `size`, built where they are missing, damaged or out of date, else only opened.

    Without test, and so says a line that is printed, where 01 had too few images for one.
    """
    opened, samples = {}, read_manifest(dataset).get("samples")
    for split in SPLITS:
        if split == "test" and samples and all(entry["split"] != "test" for entry in samples):
            print(f"{dataset}: too few images for a test split; train and val are there")
            continue
        arrays = read_arrays(dataset, split, size)
        if arrays is None:
            build(dataset, split, size)
            arrays = read_arrays(dataset, split, size)
        if arrays is None:
            folder = env.shown(env.array_dir(dataset, sides(size)) / split)
            raise DataError(f"{folder}: a file was changed, or the disk damaged, during the build: run it again")
        opened[split] = arrays
    return opened


def class_shares(arrays: Arrays, classes: int) -> np.ndarray:
    """Share of the pixels of each class, float64[classes], void left out."""
    counts = np.zeros(256, np.int64)
    for label in arrays.labels:
        counts += np.bincount(label.ravel(), minlength=256)
    return counts[:classes] / counts[:classes].sum()
