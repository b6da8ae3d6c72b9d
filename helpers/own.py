"""The reader's own images and masks as a dataset: one call, and the doctor's words on what people get wrong."""

import colorsys
import dataclasses
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from . import catalog, env, files, layouts, masks
from .errors import DataError

SPLITS = ("train", "val", "test")
ENDINGS = ("", "_mask", "_label", "_labels", "_L", "_seg")  # what a mask's name may have after the image's
NOTHING = ("void", "unlabeled", "unlabelled", "ignore")  # names of what is no class
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def register(
    folder: Path, name: str, swaps: list[tuple[str, str]] = (), groups: dict[str, list[str]] | None = None,
    levels: dict[int, str] | None = None,
) -> catalog.Dataset:  # fmt: skip
    """Make a dataset of `folder` (images/ and masks/, split or not, with classes.txt or class_dict.csv) under `name`.

    swaps: pairs of classes that trade places in a mirrored image. groups: classes merged before counting. levels:
    grey level -> class name (or "" for void) where masks hold levels that are not ids.
    """
    folder = Path(folder).expanduser().resolve()
    if not NAME.fullmatch(name) or name in catalog.CATALOG:
        raise DataError(f"{name!r} cannot be a dataset's name: take small letters, digits, - and _, and none of "
                        f"{', '.join(catalog.CATALOG)}")  # fmt: skip
    table = read_table(folder)
    classes = tuple(dict.fromkeys(row.folds for row in table if row.folds))
    ids = {c: i for i, c in enumerate(classes)}
    for group in [*swaps, *(groups or {}).values(), [c for c in (levels or {}).values() if c]]:
        if unknown := [c for c in group if c not in ids]:
            raise DataError(f"{unknown[0]!r} is no class of {folder.name}: choose of {', '.join(classes)}")
    row = catalog.Dataset(
        name=name, title=name, classes=classes, colors=class_colors(table, classes),
        swaps=tuple((ids[a], ids[b]) for a, b in swaps),
        groups={key: tuple(ids[c] for c in members) for key, members in (groups or {}).items()},
        parts=tuple(range(1, len(classes))) or (0,), headline="mean_iou", about=f"Your own images, from {folder.name}.",
        look="that each outline sits on its object, and that void (white) is only what nobody could name.",
        hard="what is rare, small or half hidden",
        table=table if has_colors(folder) else (), levels=tuple((levels or {}).items()), folder=str(folder),
    )  # fmt: skip
    text = json.dumps(dataclasses.asdict(row), indent=1)
    files.write_atomic(env.data_dir() / "datasets" / f"{name}.json", text.encode())
    return row


def load(name: str) -> catalog.Dataset | None:
    """A registered dataset; None if there is none of this name."""
    path = env.data_dir() / "datasets" / f"{name}.json"
    if not NAME.fullmatch(name) or not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        for key in ("classes", "parts"):
            kept[key] = tuple(kept[key])
        for key in ("colors", "swaps", "levels"):
            kept[key] = tuple(tuple(item) for item in kept[key])
        kept["groups"] = {group: tuple(ids) for group, ids in kept["groups"].items()}
        kept["table"] = tuple(catalog.Row(r["name"], tuple(r["color"]), r["folds"]) for r in kept["table"])
        return catalog.Dataset(**kept)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{env.shown(path)} is damaged ({error}): register the dataset again") from error


# ---- classes and colours ----


def has_colors(folder: Path) -> bool:
    """Whether masks are in colours: class_dict.csv says so."""
    return (folder / "class_dict.csv").is_file()


def read_table(folder: Path) -> tuple[catalog.Row, ...]:
    """class_dict.csv (name,r,g,b; a class called void is void) or classes.txt (a name a line; the line is the id)."""
    if has_colors(folder):
        rows = layouts.read_class_dict(folder / "class_dict.csv")
        table = tuple(
            catalog.Row(n, color, "" if n.lower() in ("void", "unlabeled", "ignore") else n) for n, color in rows
        )
    elif (folder / "classes.txt").is_file():
        names = [n.strip() for n in (folder / "classes.txt").read_text(encoding="utf-8-sig").splitlines() if n.strip()]
        table = tuple(catalog.Row(n, color, n) for n, color in zip(names, spread_colors(len(names)), strict=True))
    else:
        raise DataError(f"{folder.name} has neither classes.txt (a class name a line, in the order of the ids) nor "
                        "class_dict.csv (name,r,g,b): write one of them")  # fmt: skip
    twice = [n for n, count in Counter(row.name for row in table).items() if count > 1]
    if twice or not 1 <= len(table) <= masks.VOID:
        raise DataError(f"{folder.name}: {f'class {twice[0]!r} is there twice' if twice else f'{len(table)} classes'}; "
                        "each of 1 to 255 classes needs a name of its own")  # fmt: skip
    return table


def class_colors(table: tuple[catalog.Row, ...], classes: tuple[str, ...]) -> tuple[catalog.Color, ...]:
    """The first colour of each class."""
    first: dict[str, catalog.Color] = {}
    for row in table:
        first.setdefault(row.folds, row.color)
    return tuple(first[name] for name in classes)


def spread_colors(count: int) -> list[catalog.Color]:
    """So many colours that differ: dark for the first, the background, then round the hues by the golden angle."""
    hues = [colorsys.hsv_to_rgb(0.618 * i % 1, 0.65 - 0.25 * (i % 3 == 0), 0.95 - 0.25 * (i % 2)) for i in range(count)]
    return [(24, 26, 33) if i == 0 else tuple(round(255 * part) for part in hue) for i, hue in enumerate(hues)]


# ---- where images and masks lie ----


def is_own(root: Path) -> bool:
    """images/ beside masks/, or both in each of train/, val/ and test/."""
    return any(all((root / part / kind).is_dir() for kind in ("images", "masks")) for part in (".", *SPLITS))


def list_own(root: Path) -> layouts.Found:
    """As the folders say (train/images or images/train), else 8 in 10 train, 1 val, 1 test by a hash of the name."""
    found = layouts.Found([])
    for split in SPLITS:
        for images, labels in ((root / split / "images", root / split / "masks"),
                               (root / "images" / split, root / "masks" / split)):  # fmt: skip
            if images.is_dir() and labels.is_dir():
                layouts.pair(split, images, masks_of(labels, found, split), found)
    if not found.items and (root / "images").is_dir():
        layouts.pair("train", root / "images", masks_of(root / "masks", found, "train"), found)
        splits = draw_splits([item.id for item in found.items])
        found.items = [dataclasses.replace(item, split=splits[item.id]) for item in found.items]
    elif not any(item.split == "test" for item in found.items):  # val is scored; restructure draws another from train
        found.items = [dataclasses.replace(i, split="test" if i.split == "val" else i.split) for i in found.items]
    return found


def draw_splits(names: list[str]) -> dict[str, str]:
    """A split for each name by its hash; of three and more names none is empty."""
    order = sorted(names, key=lambda name: layouts.draw(f"own {name}"))
    splits = {name: {0: "test", 1: "val"}.get(layouts.draw(f"own {name}") % 10, "train") for name in names}
    for split, name in zip(("test", "val", "train"), order, strict=False):
        if len(names) > 2 and split not in splits.values():
            splits[name] = split
    return splits


def masks_of(folder: Path, found: layouts.Found, split: str) -> dict[str, Path]:
    """Masks of a folder by their image's stem; a JPEG is taken, and told."""
    paths = {}
    for path in sorted(p for p in folder.iterdir() if not layouts.is_noise(p.name) and p.is_file()):
        stem = next(path.stem.removesuffix(e) for e in reversed(ENDINGS) if path.stem.endswith(e))
        if path.suffix.lower() in (".jpg", ".jpeg"):
            reason = "a mask saved as JPEG has colours that nobody chose; save masks as PNG"
            found.remarks.append(layouts.Remark(split, path.name, reason, bad=False))
        if path.suffix.lower() in layouts.PHOTOS:
            paths[stem] = path
    return paths


# ---- masks -> ids ----


def read_own(item: layouts.Item, row: catalog.Dataset) -> np.ndarray:
    """Colours by the table, levels by the mapping, else ids; DataError explains what else was found."""
    if row.table:
        return layouts.from_colors(files.read_photo(item.label), row.table, row, item.label.name)
    ids = masks.read_ids(item.label)
    if row.levels:
        ids = from_levels(ids, row, item.label.name)
    elif strange := sorted(set(np.unique(ids).tolist()) - {*range(len(row.classes)), masks.VOID}):
        raise DataError(f"{item.label.name}: {explain_levels(strange, np.unique(ids).tolist(), row)}")
    return ids.astype(np.uint8)


def from_levels(ids: np.ndarray, row: catalog.Dataset, name: str) -> np.ndarray:
    """Grey levels -> ids by the dataset's mapping; DataError lists levels that it lacks."""
    to = {int(level): row.id(c) if c else masks.VOID for level, c in row.levels}
    if lacking := sorted(set(np.unique(ids).tolist()) - set(to)):
        raise DataError(f"{name}: grey levels {', '.join(map(str, lacking[:6]))} are not in `levels`: add them")
    table = np.zeros(max(to) + 1, np.uint8)
    for level, number in to.items():
        table[level] = number
    return table[ids]


def explain_levels(strange: list[int], present: list[int], row: catalog.Dataset) -> str:
    """Why grey levels are no ids, and the mapping that they suggest."""
    text = f"grey levels {', '.join(map(str, strange[:6]))} are no ids of {len(row.classes)} classes"
    if len(present) <= len(row.classes):
        guess = ", ".join(f"{level}: {name!r}" for level, name in zip(present, row.classes, strict=False))
        return f"{text}; if they stand for the classes in order, register with levels={{{guess}}}"
    return f"{text}; list every class in classes.txt, or register with levels={{level: class}}"


OWN = layouts.Layout("images/ and masks/, or train/images and train/masks", is_own, list_own, read_own)


# ---- the doctor ----


def examine(name: str) -> list[layouts.Remark]:
    """What is wrong or odd with each image and mask of a registered dataset; writes nothing."""
    row = catalog.dataset(name)
    found = list_own(Path(row.folder))
    remarks = list(found.remarks)
    for item, (said, ids) in zip(
        found.items, layouts.parallel(lambda i: look_at(i, row), found.items, "examining"), strict=True
    ):
        remarks += said
        if ids is not None and len(present := np.unique(ids[ids != masks.VOID])) == 1 and len(row.classes) > 1:
            what = f"only one class in it ({row.classes[present[0]]}); right if the image shows nothing else"
            remarks.append(layouts.Remark(item.split, item.label.name, what, bad=False))
    return remarks


def look_at(item: layouts.Item, row: catalog.Dataset) -> tuple[list[layouts.Remark], np.ndarray | None]:
    """One sample: its faults, and its ids if they could be read."""
    try:
        photo, ids = files.read_photo(item.photo), read_own(item, row)
    except DataError as error:
        return [layouts.Remark(item.split, item.label.name, str(error).removeprefix(f"{item.label.name}: "))], None
    if ids.shape != photo.shape[:2]:
        with Image.open(item.photo) as image:
            turned = image.getexif().get(0x0112) in layouts.TURNED
        sizes = f"mask {ids.shape[1]} x {ids.shape[0]}, image {photo.shape[1]} x {photo.shape[0]}"
        if turned and ids.shape == photo.shape[1::-1]:
            return [
                layouts.Remark(item.split, item.label.name, f"{sizes}: turned as the image's EXIF says", bad=False)
            ], ids
        return [layouts.Remark(item.split, item.label.name, f"{sizes}: draw the mask on the image's own pixels")], None
    return [], ids
