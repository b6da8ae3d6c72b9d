"""The layouts of releases: how each is recognised, listed as samples, and read as class ids.

A layout only says where photos and labels are and what a label means; `restructure` checks and writes all the same way.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ..catalog import CITYSCAPES_IDS, Dataset
from ..core import files, masks
from ..core.errors import DataError
from ..core.masks import UnknownColor
from .archives import is_noise, printable

Severity = Literal["error", "warning", "left out"]
PHOTOS = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Sample:
    """One sample as a release keeps it: split "train", "val" or "test"; photo and label may be one file."""

    split: str
    id: str
    photo: Path
    label: Path
    parts: tuple[tuple[str, Path], ...] = ()  # of one mask a class: the class and its mask, the later over the earlier


@dataclass(frozen=True)
class Finding:
    """What is wrong with a file (an error leaves its sample out), odd (a warning), or no sample yet (left out)."""

    split: str
    file: str
    reason: str
    severity: Severity = "error"


@dataclass
class Listing:
    """What a release holds by the names of its files: samples, and findings on what is no part of one."""

    samples: list[Sample] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def warn(self, split: str, file: str, reason: str) -> None:
        """Add a warning."""
        self.findings.append(Finding(split, file, reason, "warning"))


@dataclass(frozen=True)
class Layout:
    """How one kind of release is recognised, listed and read."""

    hint: str  # what the folder should hold, for errors
    folders: tuple[str, ...]  # which it must have
    list: Callable[[Path], Listing]
    read: Callable[[Sample, Dataset], np.ndarray]  # -> ids uint8[H,W]
    is_one: Callable[[Path], bool] | None = None  # a closer look, where its folders alone do not tell
    note: Callable[[Sample, Dataset], str] | None = None  # what was decided in reading a label; "" of most
    photo: Callable[[Path], np.ndarray] | None = None  # -> uint8[H,W,3], where the photo is only a part of its file
    keeps_labels: bool = False  # label files are PNGs of ids already, so they are copied byte for byte

    def fits(self, root: Path) -> bool:
        """Whether a folder has this layout."""
        return all((root / name).is_dir() for name in self.folders) and (self.is_one is None or self.is_one(root))


# Common to several layouts ------------------------------------------------------------------------------------


def stable_hash(name: str) -> int:
    """A number from an id: the same on every machine and day, whatever other ids there are."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())


def natural(name: str) -> list[str | int]:
    """A sort key by which 2.jpg comes before 10.jpg."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def files_in(folder: Path) -> list[Path]:
    """What a folder holds, in natural order, without what systems leave there."""
    return sorted((p for p in folder.iterdir() if not is_noise(p.name)), key=lambda p: natural(p.name))


def pictures_in(folder: Path, split: str, listing: Listing, deep: bool = False) -> list[tuple[str, Path]]:
    """(key, path) of pictures in a folder, if deep below it too; others are warned of; key: no suffix, / as _, NFC."""
    found = []
    for path in sorted(folder.rglob("*") if deep else folder.iterdir(), key=lambda p: natural(p.as_posix())):
        inside = path.relative_to(folder)
        if any(map(is_noise, inside.parts)) or (deep and path.is_dir()):
            continue
        if path.is_dir() or path.suffix.lower() not in PHOTOS:
            listing.warn(split, path.name, "not a picture; left where it is")
        else:
            found.append((unicodedata.normalize("NFC", "_".join(inside.with_suffix("").parts)), path))
    return found


def photos_in(folder: Path, split: str, listing: Listing, deep: bool = False) -> dict[str, Path]:
    """Pictures as pictures_in by their keys; a second one of the same key is a warning."""
    photos: dict[str, Path] = {}
    for key, path in pictures_in(folder, split, listing, deep):
        if (first := photos.setdefault(key, path)) is not path:
            listing.warn(split, path.name, f"same name as {first.name}, which is used; rename one of them and its mask")
    return photos


def labels_in(folder: Path, ending: str = "") -> dict[str, Path]:
    """PNGs of a folder by their stems less an ending, as photos have them."""
    paths = [path for path in folder.glob("*.png") if not is_noise(path.name)]
    return {unicodedata.normalize("NFC", path.stem.removesuffix(ending)): path for path in paths}


def pair(split: str, photos: Mapping[str, Path], labels: Mapping[str, Path], listing: Listing) -> None:
    """Add photos with the label of the same key as samples; one without a partner is an error."""
    for key in sorted(photos.keys() | labels.keys(), key=natural):
        if key in photos and key in labels:
            listing.samples.append(Sample(split, key, photos[key], labels[key]))
        elif key in photos:
            listing.findings.append(Finding(split, photos[key].name, "no label of this name"))
        else:
            listing.findings.append(Finding(split, labels[key].name, "no photo of this name"))


def tail_as_val(samples: list[Sample]) -> list[Sample]:
    """val becomes test, and the last tenth of train in its own order val: neighbouring frames are not split by hash."""
    train = sorted((s for s in samples if s.split == "train"), key=lambda s: natural(s.id))
    cut = len(train) - max(1, len(train) // 10) if len(train) > 1 else len(train)
    val = [Sample("val", s.id, s.photo, s.label) for s in train[cut:]]
    return train[:cut] + val + [Sample("test", s.id, s.photo, s.label) for s in samples if s.split == "val"]


def find_leaks(samples: list[Sample], contents: Mapping[Sample, str]) -> dict[Sample, Finding]:
    """Samples of train (and val) that are in test (or val) too, by id or by their photo's hash in `contents`.

    The network must not be trained on what it is scored on.
    """
    leaks: dict[Sample, Finding] = {}
    by_id: dict[str, Sample] = {}
    by_content: dict[str, Sample] = {}
    for sample in sorted(samples, key=lambda s: ("test", "val", "train").index(s.split)):
        twin = by_id.setdefault(sample.id, sample)
        same = by_content.setdefault(contents[sample], sample)
        if twin.split != sample.split:
            reason = f"same id in {sample.split} and {twin.split}; kept in {twin.split} alone"
        elif same.split != sample.split:
            reason = f"same photo as {printable(same.photo.name)} in {same.split}; kept in {same.split} alone"
        else:
            continue
        leaks[sample] = Finding(sample.split, sample.photo.name, reason)
    return leaks


# Helen*: train/ and test/ with <id>_image.jpg, <id>_label.png of ids, <id>_viz.jpg --------------------------------

# id, kind
HELEN_NAME = re.compile(r"(.+)_(image(?=\.(?:jpe?g|png)$)|label(?=\.png$)|viz(?=\.jpe?g$))\.\w+", re.I | re.S)


def is_helen(root: Path) -> bool:
    """train/ with photos called <id>_image."""
    names = (HELEN_NAME.fullmatch(path.name) for path in (root / "train").glob("*") if not is_noise(path.name))
    return any(name and name[2].lower() == "image" for name in names)


def list_helen(root: Path) -> Listing:
    """train/ and test/ as they are; _viz.jpg is never opened."""
    listing = Listing()
    for split in ("train", "test"):
        kinds: dict[str, dict[str, Path]] = {"image": {}, "label": {}, "viz": {}}
        for path in files_in(root / split):
            name = HELEN_NAME.fullmatch(path.name)
            if not name:
                listing.warn(split, path.name, "not part of the release's naming")
                continue
            id = unicodedata.normalize("NFC", name[1])  # macOS spells é in two characters
            first = kinds[name[2].lower()].setdefault(id, path)
            if first is not path:
                listing.warn(split, path.name, f"same id and kind as {printable(first.name)}, which is used")
        pair(split, kinds["image"], kinds["label"], listing)
    return listing


def read_ids(sample: Sample, dataset: Dataset) -> np.ndarray:
    """Ids as they are."""
    return masks.read_label(sample.label, len(dataset.classes))


# Oxford-IIIT Pet: trimaps with 1, 2, 3 and the official lists ---------------------------------------------------


def list_pets(root: Path) -> Listing:
    """By annotations/{trainval,test}.txt where both are there, else one in five by hash to test."""
    listing = Listing()
    pair("train", photos_in(root / "images", "train", listing), labels_in(root / "annotations" / "trimaps"), listing)
    lists = {split: root / "annotations" / f"{name}.txt" for split, name in (("train", "trainval"), ("test", "test"))}
    if all(path.is_file() for path in lists.values()):
        splits = {name: split for split, path in lists.items() for name in read_list(path)}
    else:
        splits = {s.id: "test" if stable_hash(f"test {s.id}") % 5 == 0 else "train" for s in listing.samples}
        listing.warn("test", "annotations/", "no trainval.txt and test.txt: one in five is test")
    for sample in listing.samples:
        if sample.id not in splits:
            listing.warn("train", sample.photo.name, "in neither list; left out")
    listing.samples = [Sample(splits[s.id], s.id, s.photo, s.label) for s in listing.samples if s.id in splits]
    return listing


def read_list(path: Path) -> list[str]:
    """Names of an official list: the first word of each line that is not a comment; [] if it is not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def read_trimap(sample: Sample, dataset: Dataset) -> np.ndarray:
    """1 pet, 2 background, 3 border -> ids 0, 1, 2."""
    return masks.check_ids(masks.read_ids(sample.label) - 1, len(dataset.classes), sample.label.name)


# CamVid: SegNet's ids, or Kaggle's colours ----------------------------------------------------------------------


def list_camvid(root: Path, folder: str, ending: str = "") -> Listing:
    """train, val and test as they are; without test, val is test, and the last tenth of train in order is val."""
    listing = Listing()
    for split in ("train", "val", "test"):
        labels = root / folder.format(split)
        if (root / split).is_dir() and labels.is_dir():
            pair(split, photos_in(root / split, split, listing), labels_in(labels, ending), listing)
    splits = {sample.split for sample in listing.samples}
    if "test" not in splits and "val" in splits:
        listing.warn("test", "test/", "not there: val is scored, and val is the last tenth of train")
        listing.samples = tail_as_val(listing.samples)
    return listing


def read_segnet(sample: Sample, dataset: Dataset) -> np.ndarray:
    """Ids 0-10, and 11 = void -> 255."""
    ids, classes = masks.read_ids(sample.label), len(dataset.classes)
    return masks.check_ids(np.where(ids == classes, masks.VOID, ids), classes, sample.label.name)


def read_colors(sample: Sample, dataset: Dataset) -> np.ndarray:
    """A mask in the table's colours -> ids; DataError lists colours that are not in it."""
    return from_colors(files.read_photo(sample.label), dataset, sample.label.name)


# Cityscapes pairs: photo and label are halves of one JPEG -------------------------------------------------------


def is_pairs(root: Path) -> bool:
    """train/ with numbered pictures twice as wide as high."""
    first = next((p for p in sorted((root / "train").glob("*.jp*g")) if not is_noise(p.name)), None)
    if first is None or not first.stem.isdigit():
        return False
    try:
        with Image.open(first) as image:
            return image.width == 2 * image.height
    except files.UNREADABLE:
        return False


def list_pairs(root: Path) -> Listing:
    """val is scored; of train, the last tenth in its own order is val. Both count from 1, so ids name the folder."""
    listing = Listing()
    for split in ("train", "val"):
        paths = photos_in(root / split, split, listing).values()
        listing.samples += [Sample(split, f"{split}_{path.stem}", path, path) for path in paths]
    listing.samples = tail_as_val(listing.samples)
    return listing


def list_gtfine(root: Path) -> Listing:
    """leftImg8bit/{train,val}/<city> and gtFine; val is scored, since test's labels are withheld."""
    listing = Listing()
    for split in ("train", "val"):
        photos = {p.stem.removesuffix("_leftImg8bit"): p for p in (root / "leftImg8bit" / split).glob("*/*.png")}
        paths = (root / "gtFine" / split).glob("*/*_gtFine_labelIds.png")
        pair(split, photos, {p.stem.removesuffix("_gtFine_labelIds"): p for p in paths}, listing)
    return Listing(tail_as_val(listing.samples), listing.findings)


def read_label_ids(sample: Sample, dataset: Dataset) -> np.ndarray:
    """*_labelIds.png: 0 to 33 -> the 19 classes, else void."""
    ids = np.full(256, masks.VOID, np.uint8)
    ids[list(CITYSCAPES_IDS)] = range(len(dataset.classes))
    return ids[masks.check_ids(masks.read_ids(sample.label), 34, sample.label.name)]


def halves(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A pair's file -> photo and label in colours, uint8[H,W,3] each."""
    both = files.read_photo(path)
    middle = both.shape[1] // 2
    return both[:, :middle], both[:, middle:]


def read_half(sample: Sample, dataset: Dataset) -> np.ndarray:
    """The right half's nearest colours of the table -> ids; JPEG has moved most of them a little."""
    return from_colors(halves(sample.label)[1], dataset, sample.label.name)


# Colours -> ids -------------------------------------------------------------------------------------------------


def from_colors(picture: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    """uint8[H,W,3] -> uint8[H,W]: the id of the table's nearest colour; void if the table says so or it is too far.

    Nearest in RGB, Euclid. With a tolerance of 0 a colour that is not in the table is a DataError.
    """
    colors, where = unique_colors(picture)
    nearest, distance = nearest_colors(colors, dataset)
    if dataset.tolerance == 0 and distance.any():
        fault = describe_unknown(*unknown_colors(picture, dataset, name))
        raise DataError(f"{name}: {fault}; add them to the table or repaint them")
    ids = np.array([dataset.id(row.maps_to) if row.maps_to else masks.VOID for row in dataset.table], np.uint8)
    found = np.where(distance <= dataset.tolerance, ids[nearest], masks.VOID).astype(np.uint8)
    return found[where].reshape(picture.shape[:2])


def unique_colors(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uint8[H,W,3] -> its different colours uint8[K,3], and which one each pixel has, int[H*W]."""
    packed = picture.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    values, where = np.unique(packed, return_inverse=True)
    return np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.uint8), where.reshape(-1)


def nearest_colors(colors: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Colours uint8[K,3] -> index of the nearest row of the dataset's table int[K], and how far it is, f32[K]."""
    table, own = np.array([row.color for row in dataset.table], np.float32), colors.astype(np.float32)
    squared = (own * own).sum(1)[:, None] + (table * table).sum(1) - 2 * own @ table.T  # exact: integers below 2^24
    return squared.argmin(1), np.sqrt(squared.min(1))


def unknown_colors(picture: np.ndarray, dataset: Dataset, name: str) -> tuple[list[UnknownColor], int]:
    """Colours of uint8[H,W,3] that are not in the table, the most frequent first, and how many there are.

    At most 256 are listed: a photo among the masks has a hundred thousand.
    """
    colors, where = unique_colors(picture)
    nearest, distance = nearest_colors(colors, dataset)
    counts = np.bincount(where, minlength=len(colors)) * (distance > 0)
    total = int((counts > 0).sum())
    unknown = []
    for i in np.argsort(-counts, kind="stable")[: min(256, total)]:
        r, g, b = colors[i].tolist()
        unknown.append(UnknownColor(name, (r, g, b), int(counts[i]), dataset.table[nearest[i]], float(distance[i])))
    return unknown, total


def describe_unknown(unknown: list[UnknownColor], total: int, shown: int = 4) -> str:
    """The most frequent unknown colours with their pixels, as #rrggbb, and the nearest of the table."""
    listed = [f"{u.color} on {u.pixels} pixels = {u.hex} ({u.distance:.0f} off {u.nearest.name})" for u in unknown]
    more = f"; and {total - shown} more" if total > shown else ""
    return f"colours that are in no table: {'; '.join(listed[:shown])}{more}"


# The layouts of each dataset ------------------------------------------------------------------------------------

HELEN_HINT = "helenstar_release with train/ and test/, <id>_image.jpg and <id>_label.png in each"
HELEN = Layout(HELEN_HINT, ("train", "test"), list_helen, read_ids, is_helen, keeps_labels=True)
PETS = Layout("images/ and annotations/trimaps/", ("images", "annotations/trimaps"), list_pets, read_trimap)
list_segnet = functools.partial(list_camvid, folder="{}annot")
list_kaggle = functools.partial(list_camvid, folder="{}_labels", ending="_L")
SEGNET_HINT = "train/, trainannot/, val/, valannot/ (SegNet's tutorial)"
KAGGLE_HINT = "train/, train_labels/*_L.png and class_dict.csv (Kaggle's camvid)"
SEGNET = Layout(SEGNET_HINT, ("train", "trainannot"), list_segnet, read_segnet)
KAGGLE = Layout(KAGGLE_HINT, ("train", "train_labels"), list_kaggle, read_colors)
PAIRS_HINT = "train/N.jpg and val/N.jpg, photo left, label right"
GTFINE = Layout("leftImg8bit/ and gtFine/ with *_labelIds.png", ("leftImg8bit", "gtFine"), list_gtfine, read_label_ids)
PAIRS = Layout(PAIRS_HINT, ("train", "val"), list_pairs, read_half, is_pairs, photo=lambda path: halves(path)[0])
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "helen": (HELEN,),
    "pets": (PETS,),
    "camvid": (SEGNET, KAGGLE),
    "camvid32": (KAGGLE,),
    "cityscapes": (PAIRS, GTFINE),
}


def find(choices: tuple[Layout, ...], root: Path, levels: int = 2) -> tuple[Layout, Path] | None:
    """Which of the layouts a folder has, and where: itself or so many levels below it (archives wrap)."""
    below = ["*/", "*/*/"][:levels]
    for folder in (root, *(path for pattern in below for path in sorted(root.glob(pattern)))):
        for layout in choices:
            if not is_noise(folder.name) and layout.fits(folder):
                return layout, folder
    return None
