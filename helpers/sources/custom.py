"""The reader's own images and masks as a dataset: register a folder, list it, read its masks as class ids."""

import colorsys
import contextlib
import csv
import dataclasses
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from PIL import Image

from .. import catalog
from ..catalog import SPLITS
from ..core import env, files, masks, registry
from ..core.errors import DataError
from . import layouts
from .archives import is_noise
from .layouts import Finding, Listing, Sample

ENDINGS = ("_labels", "_label", "_mask", "_seg", "_L", "")  # what a mask's name may have after the image's
NOTHING = ("void", "unlabeled", "unlabelled", "ignore")  # names that mean no class
JPEG = (".jpg", ".jpeg")
SMOOTH = "anti-aliased or resized with smoothing"
Pairs = Sequence[tuple[str, str]]
Groups = Mapping[str, Sequence[str]]
Levels = Mapping[int, str]
Table = tuple[catalog.Row, ...]
BACKGROUND = "background"
KINDS = (("images", "masks"), ("JPEGImages", "SegmentationClass"))  # ours, and Pascal VOC's as CVAT writes it
SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"} | {s: s for s in SPLITS}
BLURRED = "JPEG has blurred them; export the mask as PNG (to convert the JPEG does not help)"


class Given(NamedTuple):
    """What the reader says beside the folder; register explains each."""

    flip_pairs: Pairs = ()
    groups: Groups = MappingProxyType({})
    levels: Sequence[tuple[int, str]] = ()  # pairs: JSON has no whole numbers as keys
    threshold: float = 0
    white: int = 0


def register(
    folder: Path | str,
    name: str = "",
    flip_pairs: Pairs = (),
    groups: Groups | None = None,
    levels: Levels | None = None,
    threshold: float = 0,
    white: int = 0,
) -> catalog.Dataset:
    """Make a dataset of `folder` (images/ and masks/, split or not, with classes.txt or class_dict.csv) under `name`.

    name: by default the folder's own, in small letters. flip_pairs: pairs of classes that trade places in a mirrored
    image. groups: classes merged before counting. levels: grey level -> class name (or "" for void) where masks hold
    levels that are not ids. threshold: of two classes, the grey level from which on it is the second. white: the value
    that means white in photos of more than 8 bits. Prints what the values mean by this.
    """
    name = name or re.sub(r"[^a-z0-9_-]+", "-", Path(folder).expanduser().resolve().name.lower()).strip("-")
    if not registry.NAME.fullmatch(name) or name in catalog.CATALOG:
        rule = f"take small letters, digits, - and _, and none of {', '.join(catalog.CATALOG)}"
        raise DataError(f"{name!r} cannot be a dataset's name: {rule}")
    given = Given(flip_pairs, groups or {}, tuple((levels or {}).items()), threshold, white)
    return keep(describe(folder, name, given), given)


def keep(row: catalog.Dataset, given: Given) -> catalog.Dataset:
    """Write a row with what was given for it, and print what the values in its files mean; returns the row."""
    text = json.dumps(dataclasses.asdict(row) | {"given": given._asdict()}, indent=1)
    files.write_atomic(env.data_dir() / "datasets" / f"{row.name}.json", text.encode())
    parts = [f"{row.name}: classes " + ", ".join(f"{number} {name}" for number, name in enumerate(row.classes))]
    levels = ", ".join(f"{level} is {name or 'void'}" for level, name in row.levels)
    parts += [f"in the masks {levels}"] if levels else []
    parts += [f"in the masks the object is from {row.threshold:g} on"] if row.threshold else []
    parts += [f"in the photos {row.white} is white"] if row.white else []
    print("; ".join(parts))
    return row


def refresh(name: str) -> catalog.Dataset:
    """A dataset's row; of the reader's own, as its folder is today: a corrected table counts with the next command."""
    row, path = registry.load_dataset(name), env.data_dir() / "datasets" / f"{name}.json"
    said = json.loads(path.read_text()).get("given") if row.folder else None
    if not said or not Path(row.folder).is_dir():
        return row
    given = Given(**said)
    now = describe(row.folder, name, given)
    return row if now == row else keep(now, given)


def describe(folder: Path | str, name: str, given: Given) -> catalog.Dataset:
    """The row that register keeps; writes nothing. DataError as register."""
    folder = Path(folder).expanduser().resolve()
    check_layout(folder)
    table, samples = read_table(folder), list_own(folder).samples
    levels, threshold = dict(given.levels), given.threshold
    drawn = {name for sample in samples for name, _ in sample.parts}
    few = samples[:: max(1, len(samples) // 64)]  # tell how all were saved; each is checked when it is read
    if levels and threshold:
        raise DataError(f"{folder.name}: levels= and threshold= both say what a grey level means: give one of them")
    in_colors = has_colors(folder) and not levels and not threshold  # what the reader says outright, counts
    if not in_colors:
        table, levels, threshold = settle(folder, few, drawn, table, given)
    classes = tuple(dict.fromkeys(row.maps_to for row in table if row.maps_to))
    ids = {c: i for i, c in enumerate(classes)}
    if len(classes) < 2 or (threshold and len(classes) > 2 and not drawn):
        rule = "threshold= is for two" if threshold else "name what is around it too, since it is learned from both"
        raise DataError(f"{folder.name}: {len(classes)} classes besides void ({', '.join(classes)}): {rule}")
    if not levels and not in_colors and len(classes) < len(table):  # a line of classes.txt is void
        levels = {masks.VOID: ""} | {level: row.maps_to for level, row in enumerate(table)}
    for members in [*given.flip_pairs, *given.groups.values(), [c for c in levels.values() if c]]:
        if unknown := [c for c in members if c not in ids]:
            raise DataError(f"{unknown[0]!r} is no class of {folder.name}: choose of {', '.join(classes)}")
    first_colors = {row.maps_to: row.color for row in reversed(table)}
    return catalog.Dataset(
        name=name,
        title=name,
        classes=classes,
        colors=tuple(first_colors[c] for c in classes),
        flip_pairs=tuple((ids[a], ids[b]) for a, b in given.flip_pairs),
        groups={key: tuple(ids[c] for c in members) for key, members in given.groups.items()},
        small_classes=tuple(range(1, len(classes))),
        primary_metric="mean_iou",
        about=f"Your own images, from {folder.name}.",
        look="that each outline sits on its object, and that void (white) is only what nobody could name.",
        hard="what is rare, small or half hidden",
        table=table if in_colors else (),
        levels=tuple(levels.items()),
        threshold=threshold,
        white=given.white or find_white(few),
        folder=str(folder),
    )


# What the files themselves settle -------------------------------------------------------------------------------


def find_white(samples: list[Sample]) -> int:
    """The value that means white in photos of more than 8 bits, by the largest of all; 0: they have 8."""
    highest = 0
    for sample in samples:
        with contextlib.suppress(*files.UNREADABLE), Image.open(sample.photo) as image:  # the report names it
            if image.mode.startswith("I"):
                highest = max(highest, files.white_of(np.asarray(image).max()))
    return highest


def settle(folder: Path, few: list[Sample], drawn: set[str], table: Table, given: Given) -> tuple[Table, dict, float]:
    """Table, levels and threshold of masks without colours, as the masks tell; DataError where they differ."""
    single = len(table) == 1
    if (single and table[0].name.lower() != BACKGROUND) or drawn >= {row.name for row in table}:
        names = [BACKGROUND, *(row.name for row in table)]
        colors = [row.color for row in table] if has_colors(folder) else spread_colors(len(names))[1:]
        table = tuple(catalog.Row(*row) for row in zip(names, [spread_colors(1)[0], *colors], names, strict=True))
    if drawn or given.levels or given.threshold or len(table) != 2:
        return table, dict(given.levels), given.threshold
    held: dict[str, set[float]] = {}
    for sample in few:
        with contextlib.suppress(DataError):  # the report names it
            held[sample.label.name] = set(np.unique(masks.read_values(sample.label)).tolist()) - {0}
    every = {level for found in held.values() for level in found}
    fractions = any(level % 1 for level in every) and 0 <= min(every) and max(every) <= 1
    if fractions or not single:
        return table, {}, 0.5 if fractions else 0
    if every == {1, masks.VOID}:
        if white := [file for file, found in held.items() if 1 not in found and found]:
            other = next(file for file, found in held.items() if 1 in found)
            raise DataError(f"{folder.name}: the object is 1 in {other} and 255 in {white[0]}: save all masks alike")
        return table, {0: BACKGROUND, 1: table[1].name, masks.VOID: ""}, 0
    return table, {0: BACKGROUND, int(max(every)) if len(every) == 1 else masks.VOID: table[1].name}, 0


# Classes and colours --------------------------------------------------------------------------------------------


def table_file(folder: Path) -> Path:
    """class_dict.csv or VOC's labelmap.txt if it is there, else classes.txt."""
    names = ("class_dict.csv", "labelmap.txt", "classes.txt")
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[-1])


def has_colors(folder: Path) -> bool:
    """Whether masks are in colours: the table has them."""
    return table_file(folder).name != "classes.txt"


def read_table(folder: Path) -> tuple[catalog.Row, ...]:
    """A folder's table: name,r,g,b or name:r,g,b:..., or a name a line in the order of ids; NOTHING is void."""
    path = table_file(folder)
    if not path.is_file():
        known = "classes.txt (a class name a line, in the order of the ids) nor class_dict.csv (name,r,g,b)"
        raise DataError(f"{folder.name} has neither {known}: write one of them")
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: is not UTF-8; save it again as UTF-8 (in Excel: CSV UTF-8)") from error
    if path.name == "labelmap.txt":
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        text = "\n".join(",".join(line.split(":")[:2]) for line in lines)
    if has_colors(folder):
        named = read_class_dict(path.name, text)
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
        named = list(zip(names, spread_colors(len(names)), strict=True))
    table = tuple(catalog.Row(name, color, "" if name.lower() in NOTHING else name) for name, color in named)
    check_table(table, folder)
    return table


def read_class_dict(file: str, text: str) -> list[tuple[str, catalog.Color]]:
    """Text of a class_dict.csv (name,r,g,b) -> names and colours, in order; DataError names the faulty line."""
    rows: list[tuple[str, catalog.Color]] = []
    for number, row in enumerate(csv.reader(text.splitlines(), skipinitialspace=True), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[-1].lower().startswith("b")):  # the heading; b,g,r is refused
            continue
        if len(cells) != 4 or not cells[0] or not all(cell.isdigit() and int(cell) < 256 for cell in cells[1:]):
            raise DataError(f"{file}: line {number} is no `name,r,g,b` with 0-255; correct it")
        rows.append((cells[0], (int(cells[1]), int(cells[2]), int(cells[3]))))
    return rows


def check_table(table: tuple[catalog.Row, ...], folder: Path) -> None:
    """DataError for a table without a class, and for a name or a colour that is there twice."""
    rule, names = "each of 1 to 255 classes needs a name of its own", [row.name for row in table]
    count = sum(row.maps_to != "" for row in table)
    if not 1 <= count <= masks.VOID:
        raise DataError(f"{folder.name}: {count} classes besides void; {rule}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{folder.name}: class {twice[0]!r} is there twice; {rule}")
    colors: dict[catalog.Color, catalog.Row] = {}
    for row in table:
        first = colors.setdefault(row.color, row)
        if first.maps_to != row.maps_to:
            fault = f"{first.name!r} and {row.name!r} have the same colour {row.color}"
            remedy = "give each class its own in class_dict.csv, and repaint its masks"
            raise DataError(f"{folder.name}: {fault}; {remedy}")


def spread_colors(count: int) -> list[catalog.Color]:
    """So many colours that differ: dark for the first, the background, then round the hues by the golden angle."""
    colors = [(24, 26, 33)]
    for i in range(1, count):
        saturation = 0.4 if i % 3 == 0 else 0.65
        value = 0.95 if i % 2 == 0 else 0.7
        r, g, b = colorsys.hsv_to_rgb(0.618 * i % 1, saturation, value)
        colors.append((round(255 * r), round(255 * g), round(255 * b)))
    return colors[:count]


# Where images and masks lie -------------------------------------------------------------------------------------


def split_folders(root: Path) -> list[tuple[str, Path, Path]]:
    """(split, images, masks) as train/images or images/train, however train, val and test are called (SPLIT_NAMES)."""
    found = []
    for path in [*sorted(root.glob("*/")), *sorted((root / "images").glob("*/"))]:
        beside = (path, root / "masks" / path.name) if path.parent != root else (path / "images", path / "masks")
        if path.name.lower() in SPLIT_NAMES and all(place.is_dir() for place in beside):
            found.append((SPLIT_NAMES[path.name.lower()], *beside))
    return found


def is_own(root: Path) -> bool:
    """images/ beside masks/, or both in each of train/, val/ and test/; or JPEGImages/ beside SegmentationClass/."""
    return any(all((root / kind).is_dir() for kind in kinds) for kinds in KINDS) or bool(split_folders(root))


def check_layout(root: Path) -> None:
    """DataError if the folder is not there or has no images/ beside masks/; it names what is there instead."""
    if not root.is_dir():
        raise DataError(f"{root.name}: is no folder; give the path of the one that holds images/ and masks/")
    if not is_own(root):
        there = ", ".join([f"{path.name}/" for path in layouts.files_in(root) if path.is_dir()][:6])
        remedy = "name yours so, a mask as its image, or give the folder that holds both"
        raise DataError(f"{root.name}: has no images/ beside masks/ (folders there: {there or 'none'}); {remedy}")


def list_own(root: Path) -> Listing:
    """As the folders or VOC's lists say, else as draw_splits; sub-folders of images/ are mirrored in masks/."""
    check_layout(root)
    listing, names, splits = Listing(), [], split_folders(root)
    with contextlib.suppress(DataError):  # of a table that is missing or wrong, which read_table says
        names = [row.name for row in read_table(root) if row.maps_to]
    lists = {name: s for s in SPLITS for name in layouts.read_list(root / "ImageSets" / "Segmentation" / f"{s}.txt")}
    kinds = next((kinds for kinds in KINDS if (root / kinds[0]).is_dir()), KINDS[0])
    for split, images, labels in splits or [("all", root / kinds[0], root / kinds[1])]:
        pair_own(split, images, labels, names, listing)
    samples = listing.samples
    if not splits:
        drawn = draw_splits([sample.id for sample in samples])
        if unlisted := drawn.keys() - lists.keys() if lists else ():
            listing.warn("all", "ImageSets/", f"names no split of {min(unlisted)}, so all are drawn")
        drawn = drawn if unlisted else drawn | lists
        samples = [dataclasses.replace(sample, split=drawn[sample.id]) for sample in samples]
    warn_of_unread(root, splits, listing)
    if splits or lists:
        counts = Counter(sample.split for sample in samples)
        if not counts["test"] and counts["train"] > 1:  # val is scored; restructure takes another from train
            samples = [dataclasses.replace(s, split="test") if s.split == "val" else s for s in samples]
    if len({sample.id for sample in samples}) < len(samples):  # each split counts from 1: equal names are no leak
        samples = [dataclasses.replace(sample, id=f"{sample.split}_{sample.id}") for sample in samples]
    return Listing(samples, listing.findings)


def warn_of_unread(root: Path, splits: list[tuple[str, Path, Path]], listing: Listing) -> None:
    """Warn of folders beside the splits that hold images and are none of them, and of images beside their folders."""
    read = {path for _, *paths in splits for path in paths}
    beside = [path for path in (root / "images").glob("*") if read and path not in read and not is_noise(path.name)]
    beside += [path.parent for path in root.glob("*/images") if path not in read]
    for path in beside[:9]:
        listing.warn("all", path.name, "is in no train, val or test, and is not read; move it into one of them")


def draw_splits(names: list[str]) -> dict[str, str]:
    """A split for each name by its hash; of three and more names none is empty, of two test is."""
    hashes = {name: layouts.stable_hash(f"own {name}") for name in names}
    splits = {name: {0: "test", 1: "val"}.get(hashes[name] % 10, "train") for name in names}
    if len(names) < 3:
        splits = dict.fromkeys(names, "train")
    for split in ("train", "val", "test"):
        counts = Counter(splits.values())
        largest = max(counts, key=counts.__getitem__, default="")
        if not counts[split] and counts[largest] > 1:
            splits[min((n for n in names if splits[n] == largest), key=hashes.__getitem__)] = split
    return splits


def pair_own(split: str, images: Path, labels: Path, names: Sequence[str], listing: Listing) -> None:
    """Images with the mask of the same name, or one mask a class; an image without is left out by name."""
    photos = layouts.photos_in(images, split, listing, deep=True)
    drawn, parts = masks_in(labels, list(photos), names, split, listing)
    for key in sorted(photos.keys() & (drawn.keys() | parts.keys()), key=layouts.natural):
        order = [] if key in drawn else sorted(parts[key].items(), key=lambda part: names.index(part[0]))
        listing.samples.append(Sample(split, key, photos[key], drawn.get(key) or order[0][1], tuple(order)))
    lone = {key.casefold(): path for key, path in photos.items() if key not in drawn and key not in parts}
    for path in lone.values():
        reason = f"no mask of this name; put {path.stem}.png into masks/, or take the image away"
        listing.findings.append(Finding(split, path.name, reason, "left out"))
    for key, path in ((key, path) for key, path in drawn.items() if key not in photos):
        remedy = "add the image, or remove it"
        if image := likely_image(key, lone):
            remedy = f"if it is the mask of {image.name}, call it {image.stem}.png"
        # a sub-folder that is not mirrored may hold no masks at all, but pictures of them
        severity: layouts.Severity = "error" if path.parent == labels else "left out"
        listing.findings.append(Finding(split, path.name, f"no image of this name; {remedy}", severity))


def likely_image(stem: str, lone: dict[str, Path]) -> Path | None:
    """Of images without a mask, the one whose name begins a mask's name."""
    stem = stem.casefold()
    cuts = [n for n in range(len(stem), 0, -1) if n == len(stem) or not stem[n].isalnum()]
    return next((lone[stem[:n]] for n in cuts if stem[:n] in lone), None)


def masks_in(
    folder: Path, keys: Sequence[str], names: Sequence[str], split: str, listing: Listing
) -> tuple[dict[str, Path], dict[str, dict[str, Path]]]:
    """Masks by their image's key, one of `keys`: whole ones, and class -> mask where there is one a class."""
    whole: dict[str, Path] = {}
    parts: dict[str, dict[str, Path]] = {}
    spelled = {key.casefold(): key for key in reversed(keys)} | {key: key for key in keys}
    found = sorted(layouts.pictures_in(folder, split, listing, deep=True), reverse=True)
    for stem, path in sorted(found, key=lambda item: item[1].suffix.lower() in JPEG):  # a JPEG is used if nothing else
        key = image_key(stem, spelled)
        if key not in keys and (part := part_of(stem, names, spelled)):
            key, name = part
            parts.setdefault(key, {}).setdefault(name, path)
            listing.warn(split, path.name, f"read as the mask of {name} alone, with the others of {key}")
        elif first := whole.get(key):
            listing.warn(split, path.name, f"a second mask beside {first.name}, which is used; remove one of them")
        else:
            whole[key] = path
            if path.suffix.lower() in JPEG:
                listing.warn(split, path.name, "JPEG has colours that nobody chose; export the mask again as PNG")
    return whole, parts


def image_key(stem: str, spelled: Mapping[str, str]) -> str:
    """A mask's name -> its image's: the same if there is such an image (a_L.jpg and a_L.png), else less its ending."""
    ends = ["", *(ending for ending in ENDINGS if ending and stem.lower().endswith(ending.lower()))]
    cut = [stem[: len(stem) - len(ending)] for ending in ends]
    return next((spelled[n] for name in cut for n in (name, name.casefold()) if n in spelled), cut[1 % len(cut)])


def part_of(stem: str, names: Sequence[str], spelled: Mapping[str, str]) -> tuple[str, str] | None:
    """000_skin, or 000 in a folder skin/ (skin_000) -> the image's key and the class; None if it is not one's mask."""
    stem = stem.casefold().replace(" ", "_")
    for name in names:
        plain = name.casefold().replace(" ", "_")
        for key in (stem.removesuffix(f"_{plain}"), stem.removesuffix(f"-{plain}"), stem.removeprefix(f"{plain}_")):
            if key != stem and key in spelled:
                return spelled[key], name
    return None


# Masks -> ids ---------------------------------------------------------------------------------------------------


def read_own(sample: Sample, row: catalog.Dataset) -> np.ndarray:
    """Colours by the table, levels by the mapping, else ids -> uint8[H,W]; DataError explains what else was found."""
    name = sample.label.name
    if sample.parts:
        return read_parts(sample, row)[0]
    if row.table:
        picture = masks.read_colors(sample.label)
        try:
            return layouts.from_colors(picture, row, name)
        except DataError:
            raise DataError(f"{name}: {explain_colors(sample.label, picture, row)}") from None
    if row.threshold:
        return is_object(sample.label, row).astype(np.uint8)
    try:
        ids = masks.read_ids(sample.label)
    except DataError as error:
        table = ", or replace classes.txt by class_dict.csv (name,r,g,b)" if "colours" in str(error) else ""
        raise DataError(f"{error}{table}") from error
    if row.levels:
        return from_levels(ids, row, name)
    present = np.unique(ids).tolist()
    if strange := strange_levels(present, row):
        raise DataError(f"{name}: {explain_levels(name, strange, present, row, whole=False)}")
    return ids.astype(np.uint8)


def is_object(path: Path, row: catalog.Dataset) -> np.ndarray:
    """A mask of one class -> bool[H,W]: from the threshold on, else what is not 0; DataError if its edges are soft."""
    values = masks.read_values(path)
    if row.threshold:
        return values >= row.threshold
    if len(np.unique(values)) > 2:
        raise DataError(f"{path.name}: more than two grey levels: {SMOOTH}; {propose_threshold(values.max())}")
    return values > 0


def read_parts(sample: Sample, row: catalog.Dataset) -> tuple[np.ndarray, int]:
    """One mask a class -> ids uint8[H,W], 0 where none has anything, the later over the earlier; pixels in two."""
    drawn = [(row.id(name), is_object(path, row)) for name, path in sample.parts]
    ids, twice = np.zeros(drawn[0][1].shape, np.uint8), np.zeros(drawn[0][1].shape, np.uint8)
    for (number, inside), (_, path) in zip(drawn, sample.parts, strict=True):
        if inside.shape != ids.shape:
            raise DataError(f"{path.name}: has another size than {sample.label.name}: save all masks of a photo alike")
        ids[inside] = number
        twice += inside
    return ids, int((twice > 1).sum())


def palette_of(sample: Sample, row: catalog.Dataset, held: Sequence[int]) -> tuple[str, ...]:
    """A mask's own colour of each id that it holds, as #rrggbb; () where it has no palette or indices are no ids."""
    if not row.holds_ids or sample.parts:
        return ()
    with Image.open(sample.label) as image:
        colors = image.getpalette("RGB") if image.mode == "P" else None
    return tuple("#" + bytes(colors[3 * number : 3 * number + 3]).hex() for number in held) if colors else ()


def note(sample: Sample, row: catalog.Dataset) -> str:
    """What was decided in reading a mask: how many pixels lie between two levels, or in two masks; else ""."""
    if sample.parts:
        twice = read_parts(sample, row)[1]
        return f"{twice} pixels are in two masks: the later in classes.txt counts" if twice else ""
    ends = [level for level, name in row.levels if name]
    if row.table or not (row.threshold or len(row.levels) == len(ends) == 2):
        return ""
    values = masks.read_values(sample.label)
    low, high = sorted(ends) if ends else (values.min(), values.max())
    between = float(((values > low) & (values < high)).mean())
    rule = f"the object is from {row.threshold:g} on" if row.threshold else "the nearer counts"
    return f"{between:.1%} of its pixels lie between {low:g} and {high:g}: {rule}" if between else ""


def propose_threshold(highest: float) -> str:
    """The remedy for soft edges of an object that is `highest` inside."""
    return f"register with threshold={(highest + 1) // 2 if highest > 1 else 0.5:g} if the object is from there on"


def from_levels(ids: np.ndarray, row: catalog.Dataset, name: str) -> np.ndarray:
    """Grey levels -> ids by the dataset's mapping, of two levels the nearer; DataError lists what it lacks."""
    to = {int(level): row.id(c) if c else masks.VOID for level, c in row.levels}
    if lacking := sorted(set(np.unique(ids).tolist()) - set(to)):
        fault = f"grey levels {first_six(lacking)} are not in `levels` ({', '.join(map(str, sorted(to)[:12]))})"
        soft = ""
        if len(to) == 2 and masks.VOID not in to.values():
            low, high = sorted(to)
            # soft edges: few pixels lie far from both
            far = np.minimum(ids - low, high - ids) > (high - low) / 8
            if low <= ids.min() and ids.max() <= high and far.mean() <= 0.1:
                return np.where(2 * ids < low + high, to[low], to[high]).astype(np.uint8)
            soft = f"; if its edges are soft, {propose_threshold(high)}"
        raise DataError(f"{name}: {fault}: register with them, or repaint them{soft}")
    table = np.zeros(max(to) + 1, np.uint8)
    table[list(to)] = list(to.values())
    return table[ids]


def first_six(levels: Sequence[int]) -> str:
    """Levels as text, six at most."""
    return ", ".join(map(str, levels[:6])) + (f" and {len(levels) - 6} more" if len(levels) > 6 else "")


def strange_levels(present: Sequence[int], row: catalog.Dataset) -> list[int]:
    """Levels that are no ids. Of two classes, 255 without 1 is strange too: mostly it is white, and not void."""
    strange = sorted(set(present) - {*range(len(row.classes)), masks.VOID})
    if not strange and len(row.classes) == 2 and masks.VOID in present and 1 not in present:
        return [masks.VOID]
    return strange


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
    text = f"grey levels {first_six(strange)} are no ids of {count} classes (0-{count - 1})"
    if count == 2 and len(strange) > 2:
        return f"{text}: {SMOOTH}, or JPEG; export without it, or {propose_threshold(max(present))}"
    if name.lower().endswith(JPEG):
        return f"{text}: {BLURRED}"
    if len(strange) > max(8, count):
        return f"{text}: {SMOOTH}; export without it. If each is a class, list them all in classes.txt"
    if len(present) == count or (whole and len(present) < count):
        guess = ", ".join(f"{level}: {name!r}" for level, name in zip(present, row.classes, strict=False))
        return f"{text}; if they stand for the classes in order, register with levels={{{guess}}}"
    hint = "" if whole else "; validation.examine says which levels all masks have"
    return f"{text}; list every class in classes.txt, or register with levels={{level: class}}{hint}"


def explain_colors(path: Path, picture: np.ndarray, row: catalog.Dataset) -> str:
    """Which colours of a mask are not in the table, as #rrggbb with the nearest that is, and the remedy."""
    unknown, total = layouts.unknown_colors(picture, row, path.name)
    many = total > max(16, 2 * len(row.table))
    remedy = f"{SMOOTH}; export without it" if many else "add them to class_dict.csv, or repaint them"
    if path.suffix.lower() in JPEG:
        remedy = BLURRED
    else:
        with contextlib.suppress(DataError):  # of colours, as they should be
            if set(np.unique(masks.read_ids(path)).tolist()) <= {*range(len(row.table)), masks.VOID}:
                remedy = "they look like ids; replace class_dict.csv by classes.txt, a class name a line"
    return f"{layouts.describe_unknown(unknown, total, shown=2 if many else 4)}: {remedy}"


OWN = layouts.Layout("images/ and masks/, or train/images and train/masks", (), list_own, read_own, is_own, note)
