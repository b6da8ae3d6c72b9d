"""The reader's own images and masks as a dataset: register a folder, list it, read its masks as class ids."""

import colorsys
import contextlib
import csv
import dataclasses
import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

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
BLURRED = "JPEG has blurred them; export the mask as PNG (to convert the JPEG does not help)"


def register(
    folder: Path | str, name: str, flip_pairs: Pairs = (), groups: Groups | None = None, levels: Levels | None = None
) -> catalog.Dataset:
    """Make a dataset of `folder` (images/ and masks/, split or not, with classes.txt or class_dict.csv) under `name`.

    flip_pairs: pairs of classes that trade places in a mirrored image. groups: classes merged before counting. levels:
    grey level -> class name (or "" for void) where masks hold levels that are not ids.
    """
    if not registry.NAME.fullmatch(name) or name in catalog.CATALOG:
        rule = f"take small letters, digits, - and _, and none of {', '.join(catalog.CATALOG)}"
        raise DataError(f"{name!r} cannot be a dataset's name: {rule}")
    row = describe(folder, name, flip_pairs, groups, levels)
    text = json.dumps(dataclasses.asdict(row), indent=1)
    files.write_atomic(env.data_dir() / "datasets" / f"{name}.json", text.encode())
    return row


def describe(
    folder: Path | str, name: str, flip_pairs: Pairs = (), groups: Groups | None = None, levels: Levels | None = None
) -> catalog.Dataset:
    """The row that register keeps; writes nothing. DataError as register."""
    folder = Path(folder).expanduser().resolve()
    check_layout(folder)
    table = read_table(folder)
    classes = tuple(dict.fromkeys(row.maps_to for row in table if row.maps_to))
    ids = {c: i for i, c in enumerate(classes)}
    groups, levels, in_colors = groups or {}, levels or {}, has_colors(folder)
    if not levels and not in_colors and len(classes) < len(table):  # a line of classes.txt is void
        levels = {masks.VOID: ""} | {level: row.maps_to for level, row in enumerate(table)}
    for members in [*flip_pairs, *groups.values(), [c for c in levels.values() if c]]:
        if unknown := [c for c in members if c not in ids]:
            raise DataError(f"{unknown[0]!r} is no class of {folder.name}: choose of {', '.join(classes)}")
    first_colors = {row.maps_to: row.color for row in reversed(table)}
    return catalog.Dataset(
        name=name,
        title=name,
        classes=classes,
        colors=tuple(first_colors[c] for c in classes),
        flip_pairs=tuple((ids[a], ids[b]) for a, b in flip_pairs),
        groups={key: tuple(ids[c] for c in members) for key, members in groups.items()},
        small_classes=tuple(range(1, len(classes))) or (0,),
        primary_metric="mean_iou",
        about=f"Your own images, from {folder.name}.",
        look="that each outline sits on its object, and that void (white) is only what nobody could name.",
        hard="what is rare, small or half hidden",
        table=table if in_colors else (),
        levels=tuple(levels.items()),
        folder=str(folder),
    )


# Classes and colours --------------------------------------------------------------------------------------------


def has_colors(folder: Path) -> bool:
    """Whether masks are in colours: class_dict.csv says so."""
    return (folder / "class_dict.csv").is_file()


def read_table(folder: Path) -> tuple[catalog.Row, ...]:
    """class_dict.csv (name,r,g,b) or classes.txt (a name a line, in the order of the ids); NOTHING's names are void."""
    path = folder / ("class_dict.csv" if has_colors(folder) else "classes.txt")
    if not path.is_file():
        known = "classes.txt (a class name a line, in the order of the ids) nor class_dict.csv (name,r,g,b)"
        raise DataError(f"{folder.name} has neither {known}: write one of them")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: is not UTF-8; save it again as UTF-8 (in Excel: CSV UTF-8)") from error
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


def is_own(root: Path) -> bool:
    """images/ beside masks/, or both in each of train/, val/ and test/."""
    return any(all((root / part / kind).is_dir() for kind in ("images", "masks")) for part in (".", *SPLITS))


def check_layout(root: Path) -> None:
    """DataError if the folder is not there or has no images/ beside masks/; it names what is there instead."""
    if not root.is_dir():
        raise DataError(f"{root.name}: is no folder; give the path of the one that holds images/ and masks/")
    if not is_own(root):
        there = ", ".join([f"{path.name}/" for path in layouts.files_in(root) if path.is_dir()][:6])
        remedy = "name yours so, a mask as its image, or give the folder that holds both"
        raise DataError(f"{root.name}: has no images/ beside masks/ (folders there: {there or 'none'}); {remedy}")


def list_own(root: Path) -> Listing:
    """As the folders say (train/images or images/train), else 8 in 10 train, 1 val, 1 test by a hash of the name."""
    check_layout(root)
    listing = Listing()
    for split in SPLITS:
        for images, labels in (
            (root / split / "images", root / split / "masks"),
            (root / "images" / split, root / "masks" / split),
        ):
            if images.is_dir() and labels.is_dir():
                pair_own(split, images, labels, listing)
    samples = listing.samples
    if not samples and (root / "images").is_dir() and (root / "masks").is_dir():
        pair_own("all", root / "images", root / "masks", listing)
        splits = draw_splits([sample.id for sample in samples])
        samples = [dataclasses.replace(sample, split=splits[sample.id]) for sample in samples]
    elif not any(sample.split == "test" for sample in samples):  # val is scored; restructure takes another from train
        samples = [dataclasses.replace(s, split="test") if s.split == "val" else s for s in samples]
    if len({sample.id for sample in samples}) < len(samples):  # each split counts from 1: equal names are no leak
        samples = [dataclasses.replace(sample, id=f"{sample.split}_{sample.id}") for sample in samples]
    return Listing(samples, listing.findings)


def draw_splits(names: list[str]) -> dict[str, str]:
    """A split for each name by its hash; of three and more names none is empty."""
    hashes = {name: layouts.stable_hash(f"own {name}") for name in names}
    splits = {name: {0: "test", 1: "val"}.get(hashes[name] % 10, "train") for name in names}
    for split, name in zip(("test", "val", "train"), sorted(names, key=hashes.__getitem__), strict=False):
        if len(names) > 2 and split not in splits.values():
            splits[name] = split
    return splits


def pair_own(split: str, images: Path, labels: Path, listing: Listing) -> None:
    """Images with the mask of the same stem; one without a partner is an error that says how to help it."""
    photos = layouts.photos_in(images, split, listing)
    drawn = masks_in(labels, photos, split, listing)
    both = photos.keys() & drawn.keys()
    layouts.pair(split, {stem: photos[stem] for stem in both}, {stem: drawn[stem] for stem in both}, listing)
    lone = {stem.casefold(): path for stem, path in photos.items() if stem not in both}
    for path in lone.values():
        reason = f"no mask of this name; put {path.stem}.png into masks/, or take the image away"
        listing.findings.append(Finding(split, path.name, reason))
    for path in (path for stem, path in drawn.items() if stem not in both):
        image = likely_image(path.stem, lone)
        remedy = "add the image, or remove it"
        if image:
            remedy = f"if it is the mask of {image.name}, call it {image.stem}.png"
        listing.findings.append(Finding(split, path.name, f"no image of this name; {remedy}"))


def likely_image(stem: str, lone: dict[str, Path]) -> Path | None:
    """Of images without a mask, the one whose name begins a mask's name, or differs from it in capitals only."""
    stem = stem.casefold()
    cuts = [n for n in range(len(stem), 0, -1) if n == len(stem) or not stem[n].isalnum()]
    return next((lone[stem[:n]] for n in cuts if stem[:n] in lone), None)


def masks_in(folder: Path, stems: Container[str], split: str, listing: Listing) -> dict[str, Path]:
    """Masks of a folder by their image's stem, one of `stems`; warns of JPEGs, second masks and what is no picture."""
    paths: dict[str, Path] = {}
    found = sorted((p for p in folder.iterdir() if not is_noise(p.name) and p.is_file()), reverse=True)
    for path in sorted(found, key=lambda p: p.suffix.lower() in JPEG):  # a JPEG is used if there is no other
        first = paths.get(stem := image_stem(path.stem, stems))
        if path.suffix.lower() not in layouts.PHOTOS:
            listing.warn(split, path.name, "is no picture and is not read; save masks as PNG")
        elif first:
            listing.warn(split, path.name, f"a second mask beside {first.name}, which is used; remove one of them")
        else:
            paths[stem] = path
            if path.suffix.lower() in JPEG:
                reason = "a mask saved as JPEG has colours that nobody chose; export it again as PNG"
                listing.warn(split, path.name, reason)
    return paths


def image_stem(stem: str, stems: Container[str]) -> str:
    """A mask's stem -> its image's: the same if there is such an image (a_L.jpg and a_L.png), else less its ending."""
    if stem in stems:
        return stem
    ending = next(e for e in ENDINGS if stem.lower().endswith(e.lower()))
    return stem[: len(stem) - len(ending)]


# Masks -> ids ---------------------------------------------------------------------------------------------------


def read_own(sample: Sample, row: catalog.Dataset) -> np.ndarray:
    """Colours by the table, levels by the mapping, else ids; DataError explains what else was found."""
    name = sample.label.name
    if row.table:
        picture = files.read_photo(sample.label)
        try:
            return layouts.from_colors(picture, row, name)
        except DataError:
            raise DataError(f"{name}: {explain_colors(sample.label, picture, row)}") from None
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


def from_levels(ids: np.ndarray, row: catalog.Dataset, name: str) -> np.ndarray:
    """Grey levels -> ids by the dataset's mapping; DataError lists levels that it lacks."""
    to = {int(level): row.id(c) if c else masks.VOID for level, c in row.levels}
    if lacking := sorted(set(np.unique(ids).tolist()) - set(to)):
        known = ", ".join(map(str, sorted(to)[:12]))
        fault = f"grey levels {first_six(lacking)} are not in `levels` ({known})"
        raise DataError(f"{name}: {fault}: register with them, or repaint them")
    table = np.zeros(max(to) + 1, np.uint8)
    for level, number in to.items():
        table[level] = number
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
    with Image.open(path) as image:
        clear = (np.asarray(image)[..., -1] == 0).sum() if image.mode in ("RGBA", "LA") else 0
    if path.suffix.lower() in JPEG:
        remedy = BLURRED
    elif clear:
        fill = "fill them with the colour of a class, and save without transparency"
        remedy = f"{clear} pixels are transparent; {fill}"
    else:
        with contextlib.suppress(DataError):  # of colours, as they should be
            if set(np.unique(masks.read_ids(path)).tolist()) <= {*range(len(row.table)), masks.VOID}:
                remedy = "they look like ids; replace class_dict.csv by classes.txt, a class name a line"
    return f"{layouts.describe_unknown(unknown, total, shown=2 if many else 4)}: {remedy}"


OWN = layouts.Layout("images/ and masks/, or train/images and train/masks", (), list_own, read_own, is_own)
