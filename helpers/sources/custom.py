"""The reader's own images and masks as a dataset: one call, and the doctor's words on what people get wrong."""

import colorsys
import csv
import dataclasses
import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .. import catalog
from ..core import env, files, masks
from ..core.errors import DataError
from ..core.files import thread_map
from ..core.registry import load_dataset
from . import layouts

SPLITS = ("train", "val", "test")
ENDINGS = ("_labels", "_label", "_mask", "_seg", "_L", "")  # what a mask's name may have after the image's
NOTHING = ("void", "unlabeled", "unlabelled", "ignore")  # names of what is no class
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
JPEG = (".jpg", ".jpeg")
SMOOTH = "anti-aliased or resized with smoothing"
BLURRED = "JPEG has blurred them; export the mask as PNG (to convert the JPEG does not help)"
MANY = 256  # strange colours of one mask that are kept: a photo among the masks has a hundred thousand


@dataclasses.dataclass(frozen=True)
class UnknownColor:
    """A colour of one mask that is not in the table, its pixels, the nearest row and how far it is (RGB, Euclid)."""

    file: str
    color: catalog.Color
    pixels: int
    nearest: catalog.Row
    distance: float

    @property
    def hex(self) -> str:
        """As #rrggbb."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)


@dataclasses.dataclass(frozen=True)
class Look:
    """What one sample shows: its faults, and the grey levels of its mask where levels are ids."""

    remarks: list[layouts.Remark]
    levels: tuple[int, ...] = ()


def register(
    folder: Path, name: str, flip_pairs: list[tuple[str, str]] = (), groups: dict[str, list[str]] | None = None,
    levels: dict[int, str] | None = None,
) -> catalog.Dataset:  # fmt: skip
    """Make a dataset of `folder` (images/ and masks/, split or not, with classes.txt or class_dict.csv) under `name`.

    flip_pairs: pairs of classes that trade places in a mirrored image. groups: classes merged before counting. levels:
    grey level -> class name (or "" for void) where masks hold levels that are not ids.
    """
    if not NAME.fullmatch(name) or name in catalog.CATALOG:
        raise DataError(f"{name!r} cannot be a dataset's name: take small letters, digits, - and _, and none of "
                        f"{', '.join(catalog.CATALOG)}")  # fmt: skip
    row = describe(folder, name, flip_pairs, groups or {}, levels or {})
    text = json.dumps(dataclasses.asdict(row), indent=1)
    files.write_atomic(env.data_dir() / "datasets" / f"{name}.json", text.encode())
    return row


def describe(folder: Path, name: str, flip_pairs=(), groups=None, levels=None) -> catalog.Dataset:
    """The row that register keeps; writes nothing. DataError as register."""
    folder = Path(folder).expanduser().resolve()
    check_layout(folder)
    table = read_table(folder)
    classes = tuple(dict.fromkeys(row.maps_to for row in table if row.maps_to))
    ids = {c: i for i, c in enumerate(classes)}
    levels = levels or ({} if has_colors(folder) else void_levels(table))
    for group in [*flip_pairs, *(groups or {}).values(), [c for c in levels.values() if c]]:
        if unknown := [c for c in group if c not in ids]:
            raise DataError(f"{unknown[0]!r} is no class of {folder.name}: choose of {', '.join(classes)}")
    return catalog.Dataset(
        name=name, title=name, classes=classes, colors=class_colors(table, classes),
        flip_pairs=tuple((ids[a], ids[b]) for a, b in flip_pairs),
        groups={key: tuple(ids[c] for c in members) for key, members in (groups or {}).items()},
        small_classes=tuple(range(1, len(classes))) or (0,), primary_metric="mean_iou", about=f"Your own images, from {folder.name}.",
        look="that each outline sits on its object, and that void (white) is only what nobody could name.",
        hard="what is rare, small or half hidden",
        table=table if has_colors(folder) else (), levels=tuple(levels.items()), folder=str(folder),
    )  # fmt: skip


# ---- classes and colours ----


def has_colors(folder: Path) -> bool:
    """Whether masks are in colours: class_dict.csv says so."""
    return (folder / "class_dict.csv").is_file()


def read_table(folder: Path) -> tuple[catalog.Row, ...]:
    """class_dict.csv (name,r,g,b) or classes.txt (a name a line, in the order of the ids); NOTHING's names are void."""
    if not has_colors(folder) and not (folder / "classes.txt").is_file():
        raise DataError(f"{folder.name} has neither classes.txt (a class name a line, in the order of the ids) nor "
                        "class_dict.csv (name,r,g,b): write one of them")  # fmt: skip
    path = folder / ("class_dict.csv" if has_colors(folder) else "classes.txt")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: is not UTF-8; save it again as UTF-8 (in Excel: CSV UTF-8)") from error
    if has_colors(folder):
        check_heading(path.name, text)
        named = layouts.read_class_dict(path)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
        named = list(zip(names, spread_colors(len(names)), strict=True))
    table = tuple(catalog.Row(n, color, "" if n.lower() in NOTHING else n) for n, color in named)
    check_table(table, folder)
    return table


def check_heading(name: str, text: str) -> None:
    """DataError if the first line has r, g and b in another order: the colours would be swapped in silence."""
    first = next(csv.reader(text.splitlines(), skipinitialspace=True), [])
    order = [cell.strip().lower()[:1] for cell in first[1:4]]
    if sorted(order) == ["b", "g", "r"] and order != ["r", "g", "b"]:
        raise DataError(f"{name}: its heading has {', '.join(order)}; put the columns in the order name,r,g,b")


def check_table(table: tuple[catalog.Row, ...], folder: Path) -> None:
    """DataError for a name or colour that is there twice, a row without a name, and a table without a class."""
    names, colors = Counter(row.name for row in table), {}
    if twice := [n for n, count in names.items() if count > 1]:
        fault = f"class {twice[0]!r} is there twice"
    elif not 1 <= len({row.maps_to for row in table if row.maps_to}) <= masks.VOID:
        fault = f"{len([row for row in table if row.maps_to])} classes besides void"
    elif "" in names:
        fault = f"the colour {next(row.color for row in table if not row.name)} has no name (write void for no class)"
    else:
        for row in table:
            if (first := colors.setdefault(row.color, row)).maps_to != row.maps_to:
                raise DataError(f"{folder.name}: {first.name!r} and {row.name!r} have the same colour {row.color}; "
                                "give each class its own in class_dict.csv, and repaint its masks")  # fmt: skip
        return
    raise DataError(f"{folder.name}: {fault}; each of 1 to 255 classes needs a name of its own")


def void_levels(table: tuple[catalog.Row, ...]) -> dict[int, str]:
    """Levels of a classes.txt that names void as one of its lines; {} if it does not, since then levels are ids."""
    if all(row.maps_to for row in table):
        return {}
    return {masks.VOID: ""} | {level: row.maps_to for level, row in enumerate(table)}


def class_colors(table: tuple[catalog.Row, ...], classes: tuple[str, ...]) -> tuple[catalog.Color, ...]:
    """The first colour of each class."""
    first: dict[str, catalog.Color] = {}
    for row in table:
        first.setdefault(row.maps_to, row.color)
    return tuple(first[name] for name in classes)


def spread_colors(count: int) -> list[catalog.Color]:
    """So many colours that differ: dark for the first, the background, then round the hues by the golden angle."""
    hues = [colorsys.hsv_to_rgb(0.618 * i % 1, 0.65 - 0.25 * (i % 3 == 0), 0.95 - 0.25 * (i % 2)) for i in range(count)]
    return [(24, 26, 33) if i == 0 else tuple(round(255 * part) for part in hue) for i, hue in enumerate(hues)]


# ---- where images and masks lie ----


def is_own(root: Path) -> bool:
    """images/ beside masks/, or both in each of train/, val/ and test/."""
    return any(all((root / part / kind).is_dir() for kind in ("images", "masks")) for part in (".", *SPLITS))


def check_layout(root: Path) -> None:
    """DataError if the folder is not there or has no images/ beside masks/; it names what is there instead."""
    if not root.is_dir():
        raise DataError(f"{root.name}: is no folder; give the path of the one that holds images/ and masks/")
    if not is_own(root):
        there = [
            f"{path.name}/" for path in sorted(root.iterdir()) if path.is_dir() and not layouts.is_noise(path.name)
        ]
        raise DataError(f"{root.name}: has no images/ beside masks/ (folders there: {', '.join(there[:6]) or 'none'}); "
                        "name yours so, a mask as its image, or give the folder that holds both")  # fmt: skip


def list_own(root: Path) -> layouts.Found:
    """As the folders say (train/images or images/train), else 8 in 10 train, 1 val, 1 test by a hash of the name."""
    check_layout(root)
    found = layouts.Found([])
    for split in SPLITS:
        for images, labels in ((root / split / "images", root / split / "masks"),
                               (root / "images" / split, root / "masks" / split)):  # fmt: skip
            if images.is_dir() and labels.is_dir():
                pair(split, images, labels, found)
    if not found.items and (root / "images").is_dir() and (root / "masks").is_dir():
        pair("all", root / "images", root / "masks", found)
        splits = draw_splits([item.id for item in found.items])
        found.items = [dataclasses.replace(item, split=splits[item.id]) for item in found.items]
    elif not any(item.split == "test" for item in found.items):  # val is scored; restructure draws another from train
        found.items = [dataclasses.replace(i, split="test" if i.split == "val" else i.split) for i in found.items]
    counts = Counter(item.id for item in found.items)
    if max(counts.values(), default=0) > 1:  # each split counts from 1: these are no twins, content decides that
        found.items = [dataclasses.replace(item, id=f"{item.split}_{item.id}") for item in found.items]
    return found


def draw_splits(names: list[str]) -> dict[str, str]:
    """A split for each name by its hash; of three and more names none is empty."""
    order = sorted(names, key=lambda name: layouts.draw(f"own {name}"))
    splits = {name: {0: "test", 1: "val"}.get(layouts.draw(f"own {name}") % 10, "train") for name in names}
    for split, name in zip(("test", "val", "train"), order, strict=False):
        if len(names) > 2 and split not in splits.values():
            splits[name] = split
    return splits


def pair(split: str, images: Path, labels: Path, found: layouts.Found) -> None:
    """Images with the mask of the same stem; what has no partner is remarked on."""
    photos: dict[str, Path] = {}
    for path in layouts.photos_in(images, split, found):
        if (first := photos.setdefault(path.stem, path)) is not path:
            reason = f"same name as {first.name}, which is used; rename one of them and its mask"
            found.remarks.append(layouts.Remark(split, path.name, reason, bad=False))
    drawn = masks_of(labels, photos, found, split)
    both = sorted(photos.keys() & drawn.keys(), key=layouts.natural)
    found.items += [layouts.Item(split, stem, photos[stem], drawn[stem]) for stem in both]
    lone = {stem.casefold(): path for stem, path in photos.items() if stem not in drawn}
    for path in lone.values():
        reason = f"no mask of this name; put {path.stem}.png into masks/, or take the image away"
        found.remarks.append(layouts.Remark(split, path.name, reason))
    for path in (path for stem, path in drawn.items() if stem not in photos):
        like = likely(path.stem, lone)
        remedy = f"if it is the mask of {like.name}, call it {like.stem}.png" if like else "add the image, or remove it"
        found.remarks.append(layouts.Remark(split, path.name, f"no image of this name; {remedy}"))


def likely(stem: str, lone: dict[str, Path]) -> Path | None:
    """Of images without a mask, the one whose name begins a mask's name, or differs from it in capitals only."""
    stem = stem.casefold()
    cuts = [n for n in range(len(stem), 0, -1) if n == len(stem) or not stem[n].isalnum()]
    return next((lone[stem[:n]] for n in cuts if stem[:n] in lone), None)


def masks_of(folder: Path, stems: Container[str], found: layouts.Found, split: str) -> dict[str, Path]:
    """Masks of a folder by their image's stem, one of `stems`; JPEGs, second masks and what is no picture are told."""
    paths: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if not layouts.is_noise(p.name) and p.is_file()):
        stem, suffix, reason = image_stem(path.stem, stems), path.suffix.lower(), ""
        if suffix not in layouts.PHOTOS:
            reason = "is no picture and is not read; save masks as PNG"
        elif stem in paths and suffix in JPEG:
            reason = f"a second mask beside {paths[stem].name}, which is used; remove one of them"
        elif suffix in JPEG:
            reason = "a mask saved as JPEG has colours that nobody chose; export it again as PNG"
        elif stem in paths:
            reason = f"used in place of {paths[stem].name}, another mask of the same image; remove one of them"
        if reason:
            found.remarks.append(layouts.Remark(split, path.name, reason, bad=False))
        if suffix in layouts.PHOTOS and (suffix not in JPEG or stem not in paths):
            paths[stem] = path
    return paths


def image_stem(stem: str, stems: Container[str]) -> str:
    """A mask's stem -> its image's: the same if there is such an image (a_L.jpg and a_L.png), else less its ending."""
    if stem in stems:
        return stem
    ending = next(e for e in ENDINGS if stem.lower().endswith(e.lower()))
    return stem[: len(stem) - len(ending)]


# ---- masks -> ids ----


def read_own(item: layouts.Item, row: catalog.Dataset) -> np.ndarray:
    """Colours by the table, levels by the mapping, else ids; DataError explains what else was found."""
    name = item.label.name
    if row.table:
        picture = files.read_photo(item.label)
        try:
            return layouts.from_colors(picture, row.table, row, name)
        except DataError:
            raise DataError(f"{name}: {explain_colors(item.label, picture, row)}") from None
    ids = read_levels(item.label)
    if row.levels:
        return from_levels(ids, row, name)
    present = np.unique(ids).tolist()
    if strange := strange_levels(present, row):
        raise DataError(f"{name}: {explain_levels(name, strange, present, row, whole=False)}")
    return ids.astype(np.uint8)


def read_levels(path: Path) -> np.ndarray:
    """Mask -> its grey levels, int32[H,W]; DataError if it is unreadable or in colours."""
    try:
        return masks.read_ids(path)
    except DataError as error:
        table = ", or replace classes.txt by class_dict.csv (name,r,g,b)" if "colours" in str(error) else ""
        raise DataError(f"{error}{table}") from error


def from_levels(ids: np.ndarray, row: catalog.Dataset, name: str) -> np.ndarray:
    """Grey levels -> ids by the dataset's mapping; DataError lists levels that it lacks."""
    to = {int(level): row.id(c) if c else masks.VOID for level, c in row.levels}
    if lacking := sorted(set(np.unique(ids).tolist()) - set(to)):
        more = f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""
        raise DataError(f"{name}: grey levels {', '.join(map(str, lacking[:6]))}{more} are not in `levels` "
                        f"({', '.join(map(str, sorted(to)[:12]))}): register with them, or repaint them")  # fmt: skip
    table = np.zeros(max(to) + 1, np.uint8)
    for level, number in to.items():
        table[level] = number
    return table[ids]


def strange_levels(present: Sequence[int], row: catalog.Dataset) -> list[int]:
    """Levels that are no ids. Of two classes, 255 without 1 is strange too: mostly it is white, and not void."""
    strange = sorted(set(present) - {*range(len(row.classes)), masks.VOID})
    return strange or [masks.VOID] * (len(row.classes) == 2 and masks.VOID in present and 1 not in present)


def explain_levels(
    name: str, strange: Sequence[int], present: Sequence[int], row: catalog.Dataset, whole: bool = True
) -> str:
    """Why a mask's grey levels are no ids, and the remedy; `present`: of all masks, or (not whole) of this one."""
    count, first, last = len(row.classes), row.classes[0], row.classes[-1]
    if list(strange) == [masks.VOID]:
        return (
            f"grey level 255 but no 1: 255 is void; if it is {last!r}, register with levels={{0: {first!r}, 255: "
            f"{last!r}}}, if it is void, with levels={{0: {first!r}, 1: {last!r}, 255: ''}}"
        )
    more = f" and {len(strange) - 6} more" if len(strange) > 6 else ""
    text = f"grey levels {', '.join(map(str, strange[:6]))}{more} are no ids of {count} classes (0-{count - 1})"
    if name.lower().endswith(JPEG):
        return f"{text}: {BLURRED}"
    if len(strange) > max(8, count):
        return f"{text}: {SMOOTH}; export without it. If each is a class, list them all in classes.txt"
    if len(present) == count or (whole and len(present) < count):
        guess = ", ".join(f"{level}: {name!r}" for level, name in zip(present, row.classes, strict=False))
        return f"{text}; if they stand for the classes in order, register with levels={{{guess}}}"
    hint = "" if whole else "; own.examine says which levels all masks have"
    return f"{text}; list every class in classes.txt, or register with levels={{level: class}}{hint}"


def strange_in(name: str, picture: np.ndarray, row: catalog.Dataset) -> tuple[list[UnknownColor], int]:
    """uint8[H,W,3] -> colours that are not in the table, the most frequent first, MANY at most; how many there are."""
    colors, where = layouts.unique_colors(picture)
    nearest, distance = layouts.nearest_colors(colors, np.array([r.color for r in row.table], np.float32))
    counts = np.bincount(where, minlength=len(colors)) * (distance > 0)
    order = np.argsort(-counts, kind="stable")[: min(MANY, (counts > 0).sum())]
    strange = [
        UnknownColor(name, tuple(colors[i].tolist()), int(counts[i]), row.table[nearest[i]], float(distance[i]))
        for i in order
    ]
    return strange, int((counts > 0).sum())


def explain_colors(path: Path, picture: np.ndarray, row: catalog.Dataset) -> str:
    """Which colours of a mask are not in the table, as #rrggbb with the nearest that is, and the remedy."""
    strange, count = strange_in(path.name, picture, row)
    many = count > max(16, 2 * len(row.table))
    listed = [f"{s.color} on {s.pixels} pixels = {s.hex} ({s.distance:.0f} off {s.nearest.name})" for s in strange[:4]]
    listed = listed[: 2 if many else 4]
    more = f"; and {count - len(listed)} more" if count > len(listed) else ""
    usual = f"{SMOOTH}; export without it" if many else "add them to class_dict.csv, or repaint them"
    remedy = color_remedy(path, row) or usual
    return f"colours that are in no table: {'; '.join(listed)}{more}: {remedy}"


def color_remedy(path: Path, row: catalog.Dataset) -> str:
    """What explains strange colours better than a gap in the table: JPEG, ids, transparency; "" if none does."""
    if path.suffix.lower() in JPEG:
        return BLURRED
    with Image.open(path) as image:
        clear = (np.asarray(image)[..., -1] == 0).sum() if image.mode in ("RGBA", "LA") else 0
    if clear:
        return f"{clear} pixels are transparent; fill them with the colour of a class, and save without transparency"
    try:
        if set(np.unique(masks.read_ids(path)).tolist()) <= {*range(len(row.table)), masks.VOID}:
            return "they look like ids; replace class_dict.csv by classes.txt, a class name a line"
    except DataError:  # colours, as they should be
        pass
    return ""


OWN = layouts.Layout("images/ and masks/, or train/images and train/masks", is_own, list_own, read_own)


# ---- the doctor ----


def examine(name: str | Path) -> list[layouts.Remark]:
    """What is wrong or odd with each image and mask of a registered dataset, or of a folder; writes nothing."""
    row = row_of(name)
    found = list_own(Path(row.folder))
    looks = each(lambda item: look_at(item, row), found.items, "examining")
    present = shared_levels(looks, row)
    remarks = [remark for look in looks for remark in retold(look, present, row)] + leaks(found.items)
    if not found.items:
        remarks.append(layouts.Remark("all", Path(row.folder).name, "no image has a mask; name a mask as its image"))
    told = {r.file for r in remarks if "JPEG" in r.reason or "is a photo" in r.reason}
    return [r for r in found.remarks if r.file not in told or "JPEG" not in r.reason] + remarks


def shared_levels(looks: list[Look], row: catalog.Dataset) -> list[int]:
    """Levels of all masks but those that smoothing or JPEG has blurred: theirs would hide the mapping of the rest."""
    sharp = [
        look.levels
        for look in looks
        if len(strange_levels(look.levels, row)) <= max(8, len(row.classes))
        and not any(r.bad and r.file.lower().endswith(JPEG) for r in look.remarks)
    ]
    return sorted({level for levels in sharp for level in levels})


def retold(look: Look, present: list[int], row: catalog.Dataset) -> list[layouts.Remark]:
    """A sample's remarks; strange levels get the mapping that the levels of all masks suggest, not of this one."""
    if not (strange := strange_levels(look.levels, row)) or row.levels or row.table:
        return look.remarks
    return [dataclasses.replace(r, reason=explain_levels(r.file, strange, present, row)) for r in look.remarks]


def row_of(name: str | Path) -> catalog.Dataset:
    """A registered dataset's row, or that of a folder (a Path, or text with a / in it) which is not registered."""
    is_folder = isinstance(name, Path) or any(sign in name for sign in ("/", os.sep))
    return describe(Path(name), "own") if is_folder else load_dataset(name)


def strange_colors(name: str | Path) -> list[UnknownColor]:
    """Colours of a registered dataset's (or a folder's) masks that are not in class_dict.csv, by file and pixel count.

    At most MANY of a file; none where masks hold ids. For plots.swatches.
    """
    row = row_of(name)
    if not row.table:
        return []
    look = functools.partial(strange_of, row=row)
    return [s for found in each(look, list_own(Path(row.folder)).items, "colours") for s in found]


def each(function: Callable, items: Sequence, title: str) -> list:
    """layouts.parallel; of a handful without its bar, whose seconds would be the only thing to differ in a notebook."""
    return thread_map(function, items, title) if len(items) > 16 else [function(item) for item in items]


def strange_of(item: layouts.Item, row: catalog.Dataset) -> list[UnknownColor]:
    """strange_in of one mask; none if it cannot be read, which examine tells."""
    try:
        return strange_in(item.label.name, files.read_photo(item.label), row)[0]
    except DataError:
        return []


def leaks(items: list[layouts.Item]) -> list[layouts.Remark]:
    """Photos that are in two splits, byte for byte: what is scored must not have been trained on."""
    seen: dict[str, layouts.Item] = {}
    remarks = []
    for item in sorted(items, key=lambda item: ("test", "val", "train").index(item.split)):
        twin = seen.setdefault(files.sha256(item.photo), item)
        if twin.split != item.split:
            reason = f"same photo as {twin.photo.name} in {twin.split}; kept in {twin.split} alone: remove one of them"
            remarks.append(layouts.Remark(item.split, item.photo.name, reason))
    return remarks


def look_at(item: layouts.Item, row: catalog.Dataset) -> Look:
    """One sample: its faults, and the levels of its mask."""
    try:
        photo = files.read_photo(item.photo)
    except DataError as error:
        return Look([layouts.Remark(item.split, item.photo.name, str(error).removeprefix(f"{item.photo.name}: "))])
    name = item.label.name
    try:
        ids = read_own(item, row)
    except DataError as error:
        if is_swapped(item, row):
            reason = f"is a photo, and {item.photo.name} in images/ is its mask: exchange images/ and masks/"
            return Look([layouts.Remark(item.split, name, reason)])
        return Look([layouts.Remark(item.split, name, str(error).removeprefix(f"{name}: "))], levels_of(item, row))
    said = compare_sizes(item, ids.shape, photo.shape[:2])
    if not any(remark.bad for remark in said):
        said += few_classes(item, ids, row)
    return Look(said, () if row.table or row.levels else tuple(np.unique(ids).tolist()))


def is_swapped(item: layouts.Item, row: catalog.Dataset) -> bool:
    """Whether the image can be read as the mask, which itself could not be."""
    try:
        return read_own(dataclasses.replace(item, label=item.photo), row).size > 0
    except DataError:
        return False


def levels_of(item: layouts.Item, row: catalog.Dataset) -> tuple[int, ...]:
    """Grey levels of a mask, where they should be ids; () if it is none of grey."""
    try:
        return () if row.table or row.levels else tuple(np.unique(masks.read_ids(item.label)).tolist())
    except DataError:
        return ()


def few_classes(item: layouts.Item, ids: np.ndarray, row: catalog.Dataset) -> list[layouts.Remark]:
    """A mask of one class, or of none."""
    present = np.unique(ids[ids != masks.VOID])
    if len(present) > 1 or (len(present) == 1 and len(row.classes) == 1):
        return []
    what = "nothing but void in it, so it teaches nothing; paint it, or take it away"
    if len(present):
        what = f"only one class in it ({row.classes[present[0]]}); right if the image shows nothing else"
    return [layouts.Remark(item.split, item.label.name, what, bad=False)]


def compare_sizes(item: layouts.Item, mask: tuple[int, int], photo: tuple[int, int]) -> list[layouts.Remark]:
    """A mask that is not as large as its image; shapes are rows and columns, the photo's as it is shown."""
    with Image.open(item.photo) as image:
        way, stored = image.getexif().get(0x0112), (image.height, image.width)
    turned = way in layouts.TURNED
    sizes, bad = f"mask {mask[1]} x {mask[0]}, image {photo[1]} x {photo[0]}", False
    if turned and mask == stored == photo:
        text = f"its image is turned by EXIF ({way}): look at both; if they do not fit, save the image without EXIF"
    elif mask == photo:
        return []
    elif turned and mask == stored:
        text = f"{sizes}: turned as the image's EXIF says; nothing to do"
    elif mask == photo[::-1]:
        text, bad = f"{sizes}: turned by 90 degrees; turn it back, or save the image without EXIF and draw again", True
    else:
        text, bad = f"{sizes}: draw the mask on the image's own pixels, or export it at their size", True
    return [layouts.Remark(item.split, item.label.name, text, bad)]
