"""A release as downloaded -> splitted_data/<dataset>/{train,val,test}/{images,labels}, checked file by file.

find_release says where the data is, scan decodes every file and finds what is wrong, restructure writes what is sound.
"""

import functools
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from ..catalog import SPLITS, Dataset
from ..core import choice, env, files, masks, registry
from ..core.errors import DataError
from ..core.files import thread_map
from ..core.registry import load_dataset
from ..synthetic import releases
from . import custom, layouts
from .archives import is_noise, printable, suffix_of, unpack
from .layouts import Finding, Layout, Sample, stable_hash

ORIENTATION = Base.Orientation.value  # EXIF's tag
FORMAT = 3  # raised when the same release would be written otherwise, so that earlier output is checked anew
LEFTOVER = re.compile(r"\.\d+\.tmp$")  # what files.atomic leaves behind when it is killed
OURS = {"synthetic", "unpacked", "downloads", "splitted_data", "arrays", "datasets"}  # in data/, and no releases
OURS |= {"samples", "converted"}  # the same, of earlier versions
ARCHIVES = {"pets": "pet", "camvid": "camvid|segnet", "camvid32": "camvid"}  # in a name, where not the dataset's own
WORST = 20  # one bad sample in so many is the most that is tolerated
SUFFIXES = {"JPEG": (".jpg", ".jpeg"), "PNG": (".png",)}  # formats whose files are copied as they are
Entry = dict[str, Any]  # of the manifest, as JSON has it


@dataclass(frozen=True)
class Release:
    """Where the data comes from; `where` is one line to print."""

    root: Path  # as one of the dataset's layouts
    source: str  # "release" or "synthetic"
    where: str
    layout: Layout = layouts.HELEN


@dataclass(frozen=True)
class Encoded:
    """One file as it is to be written."""

    data: bytes
    suffix: str
    copied: bool  # byte for byte from the release
    shape: tuple[int, ...]  # rows and columns
    note: str = ""  # what is odd about it
    void: int = 0  # pixels, of a label
    held: tuple[int, ...] = ()  # ids in a label
    palette: tuple[str, ...] = ()  # the file's own colour of each of them, where it has a palette


@dataclass(frozen=True)
class Scan:
    """Sound samples, findings, and how many samples the release names (one or both files there)."""

    samples: list[Sample]
    findings: list[Finding]
    total: int
    entries: dict[Sample, Entry] = field(repr=False)  # of the manifest


@dataclass(frozen=True)
class Result:
    """What restructure did: samples a split, findings, and files written, kept as they were, and removed."""

    folder: Path
    counts: dict[str, int]
    findings: list[Finding]
    written: int
    kept: int
    removed: int


# Find the release -----------------------------------------------------------------------------------------------


def find_release(dataset: str, sizes: tuple[int, int]) -> Release:
    """What RELEASE names, else a folder or archive in data/, else a synthetic sample, `sizes` = (train, test)."""
    row, data = custom.refresh(dataset), env.data_dir()
    if named := os.environ.get("RELEASE"):
        path = Path(named).expanduser()
        if not path.exists():
            raise DataError(f"{path.name}: RELEASE names it, but it is not there; correct it or unset RELEASE")
        return open_release(dataset, path, f"Release named by RELEASE: {env.shown(path)}")
    if row.folder:
        return Release(Path(row.folder), "release", f"Your own images: {Path(row.folder).name}", custom.OWN)
    for folder in [data, *sorted(data.glob("*/"))]:
        levels = 0 if folder == data else 2
        if folder.name not in OURS and (found := layouts.find(layouts.LAYOUTS[dataset], folder, levels)):
            return Release(found[1], "release", f"Release found: {env.shown(found[1])}", found[0])
    meant = data / "helenstar_release"
    if dataset == "helen" and meant.is_dir() and layouts.files_in(meant):
        return open_release(dataset, meant, "")  # raises: a synthetic sample in its place would surprise
    for path in sorted(data.glob("*")):
        known = suffix_of(path) and path.is_file() and not is_noise(path.name)
        if known and re.search(ARCHIVES.get(dataset, dataset), path.name.lower()):
            return open_release(dataset, path, f"Release found: {env.shown(path)}, unpacked")
    return synthetic_sample(dataset, *sizes)


def open_release(dataset: str, path: Path, where: str) -> Release:
    """A folder, or an archive which is unpacked, as a release; DataError with what it should hold if it is none."""
    choices = layouts.LAYOUTS.get(dataset, (custom.OWN,))

    def find(folder: Path) -> tuple[Layout, Path]:
        if found := layouts.find(choices, folder):
            return found
        hints = "; or ".join(layout.hint for layout in choices)
        fault = f"{env.shown(path)} holds no release of {dataset}: there should be {hints}"
        raise DataError(f"{fault}; put it there whole, or move it away")

    layout, root = find(path if path.is_dir() else unpack(path, find))
    return Release(root, "release", where, layout)


def strange_folders() -> str:
    """Folders in data/ that hold pictures and are a release of no dataset, as text; "" if there is none."""
    known = tuple(layout for choices in layouts.LAYOUTS.values() for layout in choices)
    others = [path for path in sorted(env.data_dir().glob("*/")) if path.name not in OURS]
    others = [path for path in others if any(p.suffix.lower() in layouts.PHOTOS for p in path.rglob("*"))]
    return ", ".join(env.shown(path) for path in others if not layouts.find(known, path))


def synthetic_sample(dataset: str, train: int, test: int) -> Release:
    """A synthetic sample, kept apart from the places of releases so that it is never taken for one."""
    folder = env.data_dir() / "synthetic" / f"{dataset}-{train}-{test}"
    where = f"No release found in {env.shown(env.data_dir())}/: using a synthetic sample ({train} train, {test} test)"
    if strange := strange_folders():
        hints = "; or ".join(layout.hint for layout in layouts.LAYOUTS[dataset])
        where += f". {strange} holds pictures, but there should be {hints}; or register it as your own"
    release = open_release(dataset, releases.WRITERS[dataset](folder, train, test), where)
    return replace(release, source="synthetic")


# Show -----------------------------------------------------------------------------------------------------------


def tree(root: Path, limit: int = 3) -> str:
    """Folders and the first `limit` files of each, as text."""
    entries = sorted((path for path in Path(root).iterdir() if not is_noise(path.name)), key=lambda path: path.name)
    folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
    names = [printable(path.name) for path in entries if path not in folders]
    more = [f"... ({len(names)} files)"] if len(names) > limit else []
    blocks = [*(tree(folder, limit) for folder in folders), *names[:limit], *more]
    lines = [printable(Path(root).resolve().name)]
    for number, block in enumerate(blocks, 1):
        first, *below = block.splitlines()
        last = number == len(blocks)
        lines.append(("└── " if last else "├── ") + first)
        lines += [("    " if last else "│   ") + line for line in below]
    return "\n".join(lines)


def table(findings: list[Finding]) -> str:
    """The findings, one line a file; a warning says that its sample is left in."""
    if not findings:
        return "nothing left out"
    rows = [("split", "file", "reason")]
    for finding in findings:
        note = "(left in, only a warning) " if finding.severity == "warning" else ""
        rows.append((finding.split, printable(finding.file), note + finding.reason))
    split, file = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{row[0]:{split}}  {row[1]:{file}}  {row[2]}" for row in rows)


# Check one sample -----------------------------------------------------------------------------------------------


def encode_photo(sample: Sample, layout: Layout, row: Dataset) -> Encoded:
    """The file's own bytes where it is an RGB or grey JPEG or PNG, else a PNG of its pixels; decoded to its end."""
    pixels, note = layout.photo(sample.photo) if layout.photo else files.read_photo(sample.photo, row.white), ""
    if not layout.photo:
        with Image.open(sample.photo) as image:
            form, mode = image.format or "", image.mode
        if form in SUFFIXES and mode in ("RGB", "L"):
            note = "" if sample.photo.suffix.lower() in SUFFIXES[form] else f"a {form} in spite of its name"
            return Encoded(sample.photo.read_bytes(), SUFFIXES[form][0], True, pixels.shape[:2], note)
        scaled = f" ({row.white} is white)" if row.white and mode[0] in "IF" else ""
        left = ", its fourth channel (transparency) left out" if mode in ("RGBA", "RGBX") else ""
        note = f"{form} of mode {mode}: kept as an RGB PNG{scaled}{left}"
    return Encoded(png(pixels), ".png", False, pixels.shape[:2], note)


def encode_label(sample: Sample, layout: Layout, row: Dataset, shape: tuple[int, ...] | None) -> Encoded:
    """A one-channel PNG of ids that fits a photo of `shape`, if that is known; the file's own bytes, if it is one."""
    ids, note = layout.read(sample, row), layout.note(sample, row) if layout.note else ""
    if shape and ids.shape != shape:
        ids, note = turn_as_shown(ids, sample, shape), "turned as the photo's EXIF says"
    copied = layout.keeps_labels and not note
    data = sample.label.read_bytes() if copied else png(ids)
    held = tuple(np.unique(ids[ids != masks.VOID]).tolist())
    palette = custom.palette_of(sample, row, held) if row.folder else ()
    return Encoded(data, ".png", copied, ids.shape, note, int((ids == masks.VOID).sum()), held, palette)


def turn_as_shown(ids: np.ndarray, sample: Sample, shape: tuple[int, ...]) -> np.ndarray:
    """A label drawn on a photo as it is stored -> turned as EXIF turns the photo; DataError if it does not fit."""
    label = Image.fromarray(ids)
    with Image.open(sample.photo) as photo:
        label.getexif()[ORIENTATION] = photo.getexif().get(ORIENTATION, 1)
    shown = np.asarray(ImageOps.exif_transpose(label))
    if shown.shape == shape:
        return shown
    remedy = "draw the label on the photo's own pixels, or export it at their size"
    if ids.shape == shape[::-1]:
        remedy = "turned by 90 degrees; turn it back, or save the photo without EXIF and draw again"
    fault = f"label {label.width} x {label.height}, photo {shape[1]} x {shape[0]}"
    raise DataError(f"{sample.label.name}: {fault}: {remedy}")


def png(pixels: np.ndarray) -> bytes:
    """uint8[H,W] or [H,W,3] -> the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1 if pixels.ndim == 3 else 6)
    return buffer.getvalue()


def stamp(path: Path, root: Path) -> Entry:
    """What identifies a file of the release without reading it; of a link to nowhere, which encode names, no size."""
    size, time = (path.stat().st_size, path.stat().st_mtime_ns) if path.exists() else (None, None)
    return {"file": path.relative_to(root).as_posix(), "size": size, "mtime_ns": time}


def check(
    sample: Sample, row: Dataset, release: Release, known: Mapping[Sample, Entry]
) -> tuple[Entry | None, list[Finding]]:
    """A sample's entry in the manifest, None if it is bad, and its findings; what was checked before is not decoded."""
    paths = {"image": sample.photo, "label": sample.label}
    stamps = {kind: stamp(path, release.root) for kind, path in paths.items()}
    if sample.parts:
        stamps["label"]["parts"] = [[name, stamp(path, release.root)] for name, path in sample.parts]
    entry = known.get(sample)
    if not entry or any(entry[kind] | stamps[kind] != entry[kind] for kind in paths):
        encoded, errors = encode(sample, row, release.layout)
        if errors:
            return None, errors
        entry = {"id": sample.id, "from": sample.split, "shape": list(encoded["image"].shape)}
        for kind, file in encoded.items():
            made = {"suffix": file.suffix, "copied": file.copied, "note": file.note, "void": file.void}
            made |= {"held": list(file.held), "palette": list(file.palette)}
            entry[kind] = stamps[kind] | made | {"sha256": hashlib.sha256(file.data).hexdigest()}
    noted = [kind for kind in paths if entry[kind]["note"]]
    return entry, [Finding(sample.split, paths[kind].name, entry[kind]["note"], "warning") for kind in noted]


def encode_file(kind: str, sample: Sample, row: Dataset, layout: Layout, shape: tuple[int, ...] | None) -> Encoded:
    """A sample's "image", or its "label", which has to fit `shape` if that is known; DataError if it is bad."""
    return encode_photo(sample, layout, row) if kind == "image" else encode_label(sample, layout, row, shape)


def encode(sample: Sample, row: Dataset, layout: Layout) -> tuple[dict[str, Encoded], list[Finding]]:
    """A sample's "image" and "label", and what is wrong with either; photo and label may be one file."""
    encoded: dict[str, Encoded] = {}
    errors: list[Finding] = []
    for kind, path in (("image", sample.photo), ("label", sample.label)):
        try:
            shape = encoded["image"].shape if encoded else None
            encoded[kind] = encode_file(kind, sample, row, layout, shape)
        except DataError as error:  # a table has the file's name already
            errors.append(Finding(sample.split, path.name, str(error).removeprefix(f"{path.name}: ")))
    return encoded, list(dict.fromkeys(errors))


# Check a release ------------------------------------------------------------------------------------------------


def scan(release: Release, dataset: str) -> Scan:
    """List a release, decode every file of it, and find what is wrong; writes nothing."""
    row, listing = load_dataset(dataset), release.layout.list(release.root)
    total = len(listing.samples) + sum(finding.severity == "error" for finding in listing.findings)
    work = functools.partial(check, row=row, release=release, known=checked_before(row, release))
    checked = thread_map(work, listing.samples, "checking")
    findings = [*listing.findings, *(finding for _, found in checked for finding in found)]
    entries = {sample: entry for sample, (entry, _) in zip(listing.samples, checked, strict=True) if entry}
    leaks = layouts.find_leaks(list(entries), {sample: entry["image"]["sha256"] for sample, entry in entries.items()})
    leaks = find_unlike(row, entries) | leaks
    findings += [*leaks.values(), *of_all_labels(row, list(entries.values()))]
    sound = [sample for sample in entries if sample not in leaks]
    if not any(sample.split == "test" for sample in sound):
        findings.append(Finding("test", "test/", "no sound pair: nothing to score in notebook 06", "warning"))
    return Scan(sound, sorted(findings, key=lambda f: (f.severity, f.split, f.file)), total, entries)


def of_all_labels(row: Dataset, entries: list[Entry]) -> list[Finding]:
    """What all labels together show: much void, which makes a score that lies; classes that none holds."""
    pixels = sum(math.prod(entry["shape"]) for entry in entries)
    share = sum(entry["label"]["void"] for entry in entries) / max(1, pixels)
    said = []
    if pixels and ((row.table and not row.folder) or 3 * share > 1):
        how = f", nearest colour within {row.tolerance}" if row.tolerance else ""
        said.append(f"{share:.2%} of their pixels are void{how}")
    held = {number for entry in entries for number in entry["label"]["held"]}
    lacking = [f"{name} ({number})" for number, name in enumerate(row.classes) if number not in held]
    if row.folder and pixels and lacking:
        remedy = "correct classes.txt if its names are shifted against the ids (a heading, a line too many)"
        if len(held) == 1 and share and not row.levels:
            remedy = "255 is void; if it is a class, register with levels={0: class, 255: class}"
        said.append(f"no mask holds {', '.join(lacking)}: {remedy}")
    return [Finding("all", "labels", reason, "warning") for reason in said]


def find_unlike(row: Dataset, entries: dict[Sample, Entry]) -> dict[Sample, Finding]:
    """Samples whose mask of ids means something else by a value than most, as far as that can be told."""
    labels = {sample: entry["label"] for sample, entry in entries.items()}
    painted = {sample: list(zip(label["held"], label["palette"], strict=False)) for sample, label in labels.items()}
    counts = Counter(pair for pairs in painted.values() for pair in pairs)
    usual = {number: color for (number, color), _ in sorted(counts.items(), key=lambda item: item[1])}
    several = [label for label in labels.values() if len(label["held"]) > 1]
    no_void = row.holds_ids and several and not any(label["void"] for label in several)
    found = {}
    for sample, label in labels.items():
        reason = ""
        if odd := [(number, color) for number, color in painted[sample] if color != usual[number]]:
            reason = f"its palette has {odd[0][1]} for id {odd[0][0]}: save all with one, or register levels="
        if row.folder and no_void and label["void"] and len(label["held"]) == 1:
            reason = "holds 255 (void) and one class, others several classes and no 255: save all masks alike"
        if reason:
            found[sample] = Finding(sample.split, sample.label.name, reason)
    return found


def stop_if_bad(found: Scan, release: Release, dataset: str) -> None:
    """DataError if more than 1 sample in 20 is bad, or train is empty: training on the rest would mislead."""
    bad, name = found.total - len(found.samples), env.shown(release.root)
    if bad * WORST > found.total:
        errors = [finding for finding in found.findings if finding.severity == "error"]
        again = "download the release again"
        if load_dataset(dataset).folder:
            again = f'validation.examine("{dataset}") says what to do about each'
        fault = f"{name}: {bad} of {found.total} samples are bad, more than 1 in {WORST}"
        raise DataError(f"{fault}; repair or remove these files, or {again}:\n{table(errors[:30])}")
    if not any(sample.split == "train" for sample in found.samples):
        hint = f"there should be {release.layout.hint}; put it there whole, and run again"
        raise DataError(f"{name} holds no sound sample for train: {hint}")
    if len(found.samples) == 1 and load_dataset(dataset).folder:
        raise DataError(f"{name} holds one sound sample: give two or more, one for train and one for val")


# The manifest: which sample goes where, and the stamps of its files -----------------------------------------------


def describe(row: Dataset, release: Release) -> Entry:
    """What decides the result beside the files: files checked in another release or by other rules are not trusted."""
    place = str(release.root.resolve())
    digest = hashlib.sha256(json.dumps([FORMAT, place, release.layout.hint]).encode()).hexdigest()[:16]
    about = {"dataset": row.name, "source": release.source, "release": env.shown(release.root), "rules": digest}
    return about | {"meaning": registry.rules(row)}


def checked_before(row: Dataset, release: Release) -> dict[Sample, Entry]:
    """The entries of samples that the last run found sound in this same release, by the same rules."""
    manifest = read_manifest(env.split_dir(row.name))
    if any(manifest.get(key) != value for key, value in describe(row, release).items()):
        return {}
    return {sample_of(entry, release.root): entry for entry in manifest["samples"]}


def sample_of(entry: Entry, root: Path) -> Sample:
    """The sample that an entry of the manifest was made of."""
    parts = tuple((name, root / part["file"]) for name, part in entry["label"].get("parts", ()))
    return Sample(entry["from"], entry["id"], root / entry["image"]["file"], root / entry["label"]["file"], parts)


def choose_val(ids: list[str]) -> set[str]:
    """1 in 10 of train's ids; of two or more ids at least one is chosen and one is not."""
    chosen = {name for name in ids if stable_hash(name) % 10 == 0}
    if len(ids) > 1 and len(chosen) in (0, len(ids)):
        chosen = {min(ids, key=stable_hash)}
    return chosen if len(ids) > 1 else set()


def make_manifest(row: Dataset, release: Release, found: Scan) -> Entry:
    """Which sample goes where; val is a part of train where the release has none."""
    train = [sample.id for sample in found.samples if sample.split == "train"]
    given = any(sample.split == "val" for sample in found.samples)
    val = set() if given else choose_val(train)
    entries = []
    for sample in sorted(found.samples, key=lambda sample: sample.id):
        split = "val" if sample.split == "train" and sample.id in val else sample.split
        entries.append(found.entries[sample] | {"split": split})
    return describe(row, release) | {"samples": entries}


def read_manifest(folder: Path) -> Entry:
    """What the last run put here; one without samples if there was none."""
    path = folder / "manifest.json"
    if not path.exists():
        return {"samples": []}
    try:
        manifest = json.loads(path.read_text())
        targets(manifest)
        return manifest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "delete this folder and run notebook 01 again"
        raise DataError(f"{env.shown(path)}: not a manifest of notebook 01; {remedy}") from error


def write_manifest(folder: Path, manifest: Entry, complete: bool) -> None:
    """Written before the first file as a plan (complete: false), so that no file of ours is ever unlisted."""
    text = json.dumps(manifest | {"complete": complete}, indent=1)
    files.write_atomic(folder / "manifest.json", text.encode())


def targets(manifest: Entry) -> dict[str, tuple[Entry, str]]:
    """File below splitted_data/<dataset>/ -> the entry of its sample, and which of the two files it is."""
    return {
        f"{entry['split']}/{kind}s/{entry['id']}{entry[kind]['suffix']}": (entry, kind)
        for entry in manifest["samples"]
        for kind in ("image", "label")
    }


# Write ----------------------------------------------------------------------------------------------------------


def restructure(dataset: str, release: Release, scale: str | None = None) -> Result:
    """Write a release's sound samples into splitted_data/<dataset>/; once more, it only repairs what differs.

    The other notebooks and commands then use this dataset, at `scale` if that is given.
    """
    found = scan(release, dataset)
    stop_if_bad(found, release, dataset)
    row, folder = load_dataset(dataset), env.split_dir(dataset)
    old, new = read_manifest(folder), make_manifest(row, release, found)
    wanted, stale = targets(new), find_stale(folder, old, new)
    in_place = thread_map(lambda name: is_in_place(folder / name, *wanted[name]), wanted, "comparing")
    missing = [name for name, there in zip(wanted, in_place, strict=True) if not there]
    if missing or stale or old != new | {"complete": True}:
        if stale:
            write_manifest(folder, old, complete=False)
        for name in stale:
            (folder / name).unlink(missing_ok=True)
        write_manifest(folder, new, complete=False)  # wherever this is cut off, every file is listed
        for split in SPLITS:
            for kind in ("images", "labels"):
                (folder / split / kind).mkdir(parents=True, exist_ok=True)
        thread_map(lambda name: write_file(folder / name, *wanted[name], row, release), missing, "writing")
        write_manifest(folder, new, complete=True)
    write_choice(dataset, release.source, scale)
    counts = {split: sum(entry["split"] == split for entry in new["samples"]) for split in SPLITS}
    return Result(folder, counts, found.findings, len(missing), len(wanted) - len(missing), len(stale))


def write_choice(dataset: str, source: str, scale: str | None = None) -> None:
    """Keep what 01 prepared for the other notebooks: source is 'synthetic' or 'release'; without a scale it stays.

    What was prepared of other datasets before is kept beside it.
    """
    chosen = choice.read_choice()
    prepared = chosen.get("prepared", {})
    prepared[dataset] = prepared.get(dataset, {}) | {"source": source} | ({"scale": scale} if scale else {})
    text = json.dumps({"dataset": dataset, "prepared": prepared}, indent=1)
    files.write_atomic(env.data_dir() / "choice.json", text.encode())


def find_stale(folder: Path, old: Entry, new: Entry) -> list[str]:
    """Files of an earlier run that are wanted no more; DataError if one is nobody's: 02 would train on it."""
    listed, wanted = targets(old), targets(new)
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    names = [path.as_posix() for path in paths if not any(map(is_noise, path.parts))]
    there = [name for name in names if name not in wanted and name != "manifest.json"]
    strange = [printable(name) for name in there if name not in listed and not LEFTOVER.search(name)]
    if strange:
        remedy = "move what is yours elsewhere, or delete this folder, and run again"
        raise DataError(f"{env.shown(folder)}: {', '.join(strange[:3])} did not come from this release; {remedy}")
    return there


def is_in_place(path: Path, entry: Entry, kind: str) -> bool:
    """Whether a file is there, byte for byte. By its hash, which costs little beside decoding: size and time would
    miss a damaged sector or an edited label."""
    return path.is_file() and files.sha256(path) == entry[kind]["sha256"]


def write_file(path: Path, entry: Entry, kind: str, row: Dataset, release: Release) -> None:
    """Write one file, whole or not at all; DataError if the release's file is not what was checked."""
    sample = sample_of(entry, release.root)
    if entry[kind]["copied"]:
        data = (release.root / entry[kind]["file"]).read_bytes()
    else:
        data = encode_file(kind, sample, row, release.layout, tuple(entry["shape"])).data
    if hashlib.sha256(data).hexdigest() != entry[kind]["sha256"]:
        remedy = f"delete {env.shown(env.split_dir(row.name) / 'manifest.json')} and run again"
        raise DataError(f"{printable(entry[kind]['file'])}: changed since it was checked; {remedy}")
    files.write_atomic(path, data)
