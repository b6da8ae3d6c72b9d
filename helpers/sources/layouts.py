"""A release in its own layout -> one plain layout: {train,val,test}/<id>_image.{jpg,png} and <id>_label.png of ids.

Helen*'s own layout is the plain one already. What the others keep in lists, colours and halves of pictures is read
here; `restructure` then checks and copies all of them the same way.
"""

import csv
import functools
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from .. import catalog
from ..core import files, masks
from ..core.errors import DataError
from ..core.files import thread_map
from ..core.registry import load_dataset
from .archives import is_noise

FORMAT = 1  # raised when the same release would be converted to something else, so that old conversions are redone
PHOTOS = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
TURNED = {2, 3, 4, 5, 6, 7, 8}  # EXIF orientations by which a photo is shown otherwise than it is stored


@dataclass(frozen=True)
class Item:
    """One sample as a release keeps it: split "train", "val" or "test"; photo and label may be one file."""

    split: str
    id: str
    photo: Path
    label: Path


@dataclass(frozen=True)
class Remark:
    """What is odd about a file: `bad` leaves its sample out."""

    split: str
    file: str
    reason: str
    bad: bool = True


@dataclass
class Found:
    """What a release holds: its samples, remarks, and the share of void pixels once they were read."""

    items: list[Item]
    remarks: list[Remark] = field(default_factory=list)
    void: float = 0.0


# ---- small matters ----


def draw(name: str) -> int:
    """A number from an id: the same on every machine and day, whatever other ids there are."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())


def natural(name: str) -> list:
    """A key by which 2.jpg comes before 10.jpg."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def photos_in(folder: Path, split: str, found: Found) -> list[Path]:
    """Photos of a folder in natural order; what is none is remarked on."""
    paths = sorted((p for p in folder.iterdir() if not is_noise(p.name)), key=lambda p: natural(p.name))
    for path in paths:
        if path.is_dir() or path.suffix.lower() not in PHOTOS:
            found.remarks.append(Remark(split, path.name, "not a photo; left where it is", bad=False))
    return [p for p in paths if not p.is_dir() and p.suffix.lower() in PHOTOS]


def by_stem(folder: Path, ending: str = "") -> dict[str, Path]:
    """PNGs of a folder -> their stems less an ending, as photos have them."""
    paths = [p for p in folder.glob("*.png") if not is_noise(p.name)]
    return {p.stem.removesuffix(ending): p for p in paths}


def pair(split: str, folder: Path, labels: dict[str, Path], found: Found) -> None:
    """Photos of `folder` with the label of the same stem; a lone one is remarked on."""
    photos = {path.stem: path for path in photos_in(folder, split, found)}
    for stem in sorted(photos.keys() | labels.keys(), key=natural):
        if stem in photos and stem in labels:
            found.items.append(Item(split, stem, photos[stem], labels[stem]))
        else:
            there, lacks = (photos[stem], "label") if stem in photos else (labels[stem], "photo")
            found.remarks.append(Remark(split, there.name, f"no {lacks} of this name"))


# ---- Oxford-IIIT Pet: trimaps with 1, 2, 3 and the official lists ----


def is_pets(root: Path) -> bool:
    """images/ beside annotations/trimaps/."""
    return (root / "images").is_dir() and (root / "annotations" / "trimaps").is_dir()


def list_pets(root: Path) -> Found:
    """By annotations/{trainval,test}.txt where both are there, else one in five by hash to test."""
    found = Found([])
    lists = {split: root / "annotations" / f"{name}.txt" for split, name in (("train", "trainval"), ("test", "test"))}
    pair("train", root / "images", by_stem(root / "annotations" / "trimaps"), found)
    if not all(path.is_file() for path in lists.values()):
        splits = {item.id: "test" if draw(f"test {item.id}") % 5 == 0 else "train" for item in found.items}
        found.remarks.append(
            Remark("test", "annotations/", "no trainval.txt and test.txt: one in five is test", bad=False)
        )
    else:
        splits = {name: split for split, path in lists.items() for name in read_list(path)}
    lone = [item for item in found.items if item.id not in splits]
    found.remarks += [Remark("train", item.photo.name, "in neither list; left out", bad=False) for item in lone]
    found.items = [Item(splits[i.id], i.id, i.photo, i.label) for i in found.items if i.id in splits]
    return found


def read_list(path: Path) -> list[str]:
    """Names of an official list: the first word of each line that is no comment."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def read_trimap(item: Item, dataset: catalog.Dataset) -> np.ndarray:
    """1 pet, 2 background, 3 border -> ids 0, 1, 2."""
    return masks.check_ids(masks.read_ids(item.label) - 1, len(dataset.classes), item.label.name)


# ---- CamVid: SegNet's ids, or Kaggle's colours ----


def is_segnet(root: Path) -> bool:
    """train/ beside trainannot/."""
    return (root / "train").is_dir() and (root / "trainannot").is_dir()


def is_kaggle(root: Path) -> bool:
    """train/ beside train_labels/ with colours."""
    return (root / "train").is_dir() and (root / "train_labels").is_dir()


def list_camvid(root: Path, folder: str, ending: str) -> Found:
    """train, val and test as they are; without test, val is test, and the last tenth of train in order is val."""
    found = Found([])
    for split in ("train", "val", "test"):
        if (root / split).is_dir() and (root / folder.format(split)).is_dir():
            pair(split, root / split, by_stem(root / folder.format(split), ending), found)
    splits = {item.split for item in found.items}
    if "test" not in splits and "val" in splits:
        found.remarks.append(
            Remark("test", "test/", "not there: val is scored, and val is the last tenth of train", False)
        )
        found.items = tail_as_val(found.items)
    return found


def tail_as_val(items: list[Item]) -> list[Item]:
    """val becomes test, and the last tenth of train in its own order val: neighbouring frames are not split by hash."""
    train = sorted((item for item in items if item.split == "train"), key=lambda item: natural(item.id))
    cut = len(train) - max(1, len(train) // 10) if len(train) > 1 else len(train)
    moved = [Item("val", i.id, i.photo, i.label) for i in train[cut:]]
    return train[:cut] + moved + [Item("test", i.id, i.photo, i.label) for i in items if i.split == "val"]


def read_segnet(item: Item, dataset: catalog.Dataset) -> np.ndarray:
    """Ids 0-10, and 11 = void -> 255."""
    ids = masks.read_ids(item.label)
    return masks.check_ids(
        np.where(ids == len(dataset.classes), masks.VOID, ids), len(dataset.classes), item.label.name
    )


def read_colors(item: Item, dataset: catalog.Dataset) -> np.ndarray:
    """A mask in the table's colours -> ids; DataError lists colours that are not in it."""
    return from_colors(files.read_photo(item.label), dataset.table, dataset, item.label.name)


# ---- Cityscapes pairs: photo and label are halves of one JPEG ----


def is_pairs(root: Path) -> bool:
    """train/ and val/ with numbered pictures twice as wide as high, and no folder of labels."""
    if not all((root / split).is_dir() for split in ("train", "val")):
        return False
    first = next((p for p in sorted((root / "train").glob("*.jp*g")) if not is_noise(p.name)), None)
    if first is None or not first.stem.isdigit():
        return False
    try:
        with Image.open(first) as image:
            return image.width == 2 * image.height
    except files.UNREADABLE:
        return False


def list_pairs(root: Path) -> Found:
    """val is scored; of train, the last tenth in its own order is val."""
    found = Found([])
    for split in ("train", "val"):
        paths = photos_in(root / split, split, found)
        found.items += [Item(split, f"{split}_{p.stem}", p, p) for p in paths]  # both count from 1
    found.items = tail_as_val(found.items)
    return found


def halves(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A pair's file -> photo and label in colours, uint8[H,W,3] each; DataError if it is not two halves."""
    both = files.read_photo(path)
    if both.shape[1] % 2:
        raise DataError(f"{path.name}: {both.shape[1]} columns cannot be halved into photo and label; replace it")
    middle = both.shape[1] // 2
    return both[:, :middle], both[:, middle:]


def read_half(item: Item, dataset: catalog.Dataset) -> np.ndarray:
    """The right half's nearest colours of the table -> ids; JPEG has moved most of them a little."""
    return from_colors(halves(item.label)[1], dataset.table, dataset, item.label.name)


# ---- colours -> ids ----


def from_colors(picture: np.ndarray, table: tuple[catalog.Row, ...], dataset: catalog.Dataset, name: str) -> np.ndarray:
    """uint8[H,W,3] -> uint8[H,W]: the id of the nearest colour, void where the table says so or it is too far.

    Nearest in RGB, Euclid. With a tolerance of 0 a colour that is not in the table is a DataError.
    """
    colors, where = unique_colors(picture)
    palette = np.array([row.color for row in table], np.float32)
    ids = np.array([dataset.id(row.maps_to) if row.maps_to else masks.VOID for row in table], np.uint8)
    nearest, distance = nearest_colors(colors, palette)
    if dataset.tolerance == 0 and distance.any():
        raise DataError(f"{name}: {strange_colors(colors, where, distance)}; add them to the table or repaint them")
    found = np.where(distance <= dataset.tolerance, ids[nearest], masks.VOID).astype(np.uint8)
    return found[where].reshape(picture.shape[:2])


def unique_colors(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8[H,W,3] -> its different colours uint8[K,3], and which one each pixel has, int[H*W]."""
    packed = picture.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, where = np.unique(packed, return_inverse=True)
    return np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.uint8), where.reshape(-1)


def nearest_colors(colors: np.ndarray, palette: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours uint8[K,3], palette f32[P,3] -> index of the nearest int[K], and how far it is, f32[K]."""
    apart = colors[:, None].astype(np.float32) - palette
    squared = (apart * apart).sum(-1)
    return squared.argmin(1), np.sqrt(squared.min(1))


def strange_colors(colors: np.ndarray, where: np.ndarray, distance: np.ndarray) -> str:
    """The colours that lie off the palette, the most frequent first, with their pixel counts."""
    counts = np.bincount(where, minlength=len(colors)) * (distance > 0)
    order = np.argsort(-counts, kind="stable")[: min(4, (counts > 0).sum())]
    listed = ", ".join(f"{tuple(colors[i].tolist())} on {counts[i]} pixels" for i in order)
    more = (counts > 0).sum() - len(order)
    return f"colours that are in no table: {listed}" + (f" and {more} more" if more > 0 else "")


# ---- the layouts ----


@dataclass(frozen=True)
class Layout:
    """How one kind of release is recognised, listed and read."""

    hint: str  # what the folder should hold, for errors
    fits: Callable[[Path], bool]
    list: Callable[[Path], Found]
    read: Callable[[Item, catalog.Dataset], np.ndarray]  # -> ids uint8[H,W]
    photo: Callable[[Path], np.ndarray] | None = None  # where the photo is only a part of its file


SEGNET = Layout(
    "train/, trainannot/, val/, valannot/ (SegNet's tutorial)", is_segnet,
    functools.partial(list_camvid, folder="{}annot", ending=""), read_segnet,
)  # fmt: skip
KAGGLE = Layout(
    "train/, train_labels/*_L.png and class_dict.csv (Kaggle's camvid)", is_kaggle,
    functools.partial(list_camvid, folder="{}_labels", ending="_L"), read_colors,
)  # fmt: skip
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "pets": (Layout("images/ and annotations/trimaps/", is_pets, list_pets, read_trimap),),
    "camvid": (SEGNET, KAGGLE),
    "camvid32": (KAGGLE,),
    "cityscapes": (
        Layout("train/N.jpg and val/N.jpg, photo left, label right", is_pairs, list_pairs, read_half,
               lambda path: halves(path)[0]),
    ),
}  # fmt: skip


def find(dataset: str, root: Path, levels: int = 3) -> tuple[Layout, Path] | None:
    """The layout of `dataset` that a folder has, and where: itself or up to two levels below it (archives wrap)."""
    for folder in (root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/")))[: None if levels > 1 else 1]:
        for layout in LAYOUTS[dataset]:
            if not is_noise(folder.name) and layout.fits(folder):
                return layout, folder
    return None


def hints(dataset: str) -> str:
    """What a release of `dataset` holds, for errors."""
    return "; or ".join(layout.hint for layout in LAYOUTS[dataset])


# ---- convert ----


def fingerprint(found: Found) -> str:
    """Of names, sizes and times of all files that are read: it changes when any of them does."""
    paths = sorted({path for item in found.items for path in (item.photo, item.label)})
    stats = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in paths]
    places = [(item.split, item.id) for item in found.items]
    return hashlib.sha256(json.dumps([FORMAT, stats, places]).encode()).hexdigest()


def convert(dataset: str, layout: Layout, root: Path, target: Path) -> list[Remark]:
    """Write a release's samples into `target` in the plain layout, whole or not at all; returns all remarks.

    If they are there already, from the same files, nothing is written.
    """
    row, found = load_dataset(dataset), layout.list(root)
    about, stamp = target / "about.json", fingerprint(found)
    if (written := read_about(about)) and written["fingerprint"] == stamp:
        return [Remark(**remark) for remark in written["remarks"]]
    work = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(work, ignore_errors=True)
    try:
        for split in {item.split for item in found.items}:
            (work / split).mkdir(parents=True)
        done = thread_map(
            functools.partial(convert_item, row=row, layout=layout, folder=work), found.items, "converting"
        )
        remarks = found.remarks + [remark for remarks, _ in done for remark in remarks] + void_remark(row, done)
        kept = {"fingerprint": stamp, "remarks": [vars(remark) for remark in remarks]}
        files.write_atomic(work / "about.json", json.dumps(kept).encode())
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return remarks


def read_about(path: Path) -> dict | None:
    """What a finished conversion says of itself; None if there is none that can be read."""
    try:
        about = json.loads(path.read_text())
        return about if isinstance(about["fingerprint"], str) and isinstance(about["remarks"], list) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def void_remark(row: catalog.Dataset, done: list[tuple[list[Remark], np.ndarray]]) -> list[Remark]:
    """The share of label pixels that are void: a void that grows makes a score that lies."""
    void, pixels = np.sum([counts for _, counts in done], axis=0) if done else (0, 1)
    if not row.table or not pixels:
        return []
    how = f", nearest colour within {row.tolerance}" if row.tolerance else ""
    return [Remark("all", "labels", f"{void / pixels:.2%} of their pixels are void{how}", bad=False)]


def convert_item(item: Item, row: catalog.Dataset, layout: Layout, folder: Path) -> tuple[list[Remark], np.ndarray]:
    """Write one sample; its remarks, and its void and all label pixels, int64[2]."""
    try:
        photo, suffix, oddities, shapes = plain_photo(item, layout)
        ids = layout.read(item, row)
        if shapes and ids.shape != shapes[1] and ids.shape == shapes[0]:  # drawn on the photo as it is stored
            ids = turn(ids, item.photo)
            oddities.append("label turned as the photo's EXIF says")
    except DataError as error:
        name = item.photo.name
        return [Remark(item.split, name, str(error).removeprefix(f"{name}: "))], np.zeros(2, np.int64)
    base = folder / item.split
    (base / f"{item.id}_image{suffix}").write_bytes(photo)
    masks.write_label(base / f"{item.id}_label.png", ids)
    counts = np.array([(ids == masks.VOID).sum(), ids.size])
    return [Remark(item.split, item.photo.name, oddity, bad=False) for oddity in oddities], counts


def plain_photo(item: Item, layout: Layout) -> tuple[bytes, str, list[str], tuple]:
    """A photo as bytes of a JPEG or PNG, its suffix, what is odd, and its shapes as stored and as shown, or ().

    The file's own bytes where it is an RGB or grey JPEG or PNG; else a PNG of its pixels.
    """
    if layout.photo:
        return png(layout.photo(item.photo)), ".png", [], ()
    pixels = files.read_photo(item.photo)
    with Image.open(item.photo) as image:
        form, mode, turned = image.format, image.mode, image.getexif().get(0x0112) in TURNED
        stored = (image.height, image.width)
    shapes = (stored, pixels.shape[:2]) if turned else ()
    suffix = {"JPEG": ".jpg", "PNG": ".png"}.get(form, ".png")
    if form in ("JPEG", "PNG") and mode in ("RGB", "L"):
        odd = [] if item.photo.suffix.lower() in (suffix, ".jpeg") else [f"a {form} in spite of its name"]
        return item.photo.read_bytes(), suffix, odd, shapes
    return png(pixels), ".png", [f"{form} of mode {mode}: kept as an RGB PNG"], shapes


def png(pixels: np.ndarray) -> bytes:
    """uint8[H,W,3] -> the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def turn(ids: np.ndarray, photo: Path) -> np.ndarray:
    """uint8[H,W] as stored -> as its photo is shown, by the photo's EXIF orientation."""
    with Image.open(photo) as image:
        way = image.getexif().get(0x0112)
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[way]  # fmt: skip
    return np.asarray(Image.fromarray(ids).transpose(method))


def read_class_dict(path: Path) -> list[tuple[str, catalog.Color]]:
    """class_dict.csv (name, r, g, b) -> names and colours, in order; DataError names the faulty line."""
    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            cells = [cell.strip() for cell in row]
            if not any(cells) or (number == 1 and not cells[-1].isdigit()):
                continue  # blank, or the heading
            if len(cells) != 4 or not all(cell.isdigit() and int(cell) < 256 for cell in cells[1:]):
                raise DataError(f"{path.name}: line {number} is no `name,r,g,b` with 0-255; correct it")
            rows.append((cells[0], tuple(int(cell) for cell in cells[1:])))
    return rows
