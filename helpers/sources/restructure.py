"""A release as downloaded -> splitted_data/<name>/{train,val,test}/{images,labels}; the doctor's report.

`python -m helpers.restructure --dataset camvid` does what notebook 01 does.
"""

import argparse
import functools
import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..core import choice, env, files, masks
from ..core.errors import DataError, UNetError
from ..core.files import thread_map
from ..core.registry import load_dataset
from ..settings import SAMPLES, SCALES
from ..synthetic import releases
from . import custom, layouts
from .archives import is_noise, list_archive, printable, suffix_of, unpack
from .layouts import draw

SPLITS = ("train", "val", "test")
RELEASE_SPLITS = ("train", "test")  # val only where it is given
NAMING = re.compile(r"(.*)_(image(?=\.(?:jpe?g|png)$)|label(?=\.png$)|viz(?=\.jpe?g$))\.\w+", re.I | re.S)  # id, kind
PHOTO = re.compile(r"(.*/)?(train|test)/[^/]+_image\.jpe?g", re.I | re.S)  # in an archive's listing
LEFTOVER = re.compile(r"\.\d+\.tmp$")  # what files.atomic leaves behind when it is killed
OURS = {
    "samples",
    "converted",
    "unpacked",
    "downloads",
    "splitted_data",
    "arrays",
}  # folders in data/ that are no releases
WORDS = {"pets": ("pet",), "camvid": ("camvid", "segnet"), "camvid32": ("camvid",), "cityscapes": ("cityscapes",)}
WORST = 20  # one bad sample in so many is the most that is tolerated


@dataclass(frozen=True)
class Release:
    """Where the data comes from; `where` is one line to print."""

    root: Path  # holds train/ and test/
    source: str  # "release" or "synthetic"
    where: str
    remarks: tuple[layouts.Remark, ...] = ()  # what was odd about its files when they were converted


@dataclass(frozen=True)
class Pair:
    """One sample of the release: split is the release's own, train, test, or val where there is one."""

    split: str
    id: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Problem:
    """One finding of the doctor; what is `bad` leaves its sample out, the rest is only told."""

    split: str
    file: str
    reason: str
    bad: bool = True


@dataclass(frozen=True)
class Scan:
    """Sound pairs, findings, and how many samples the release names (one or both files there)."""

    pairs: list[Pair]
    problems: list[Problem]
    total: int
    stamps: dict[Path, dict] = field(repr=False)  # file -> name, size, time and SHA-256 as checked


@dataclass(frozen=True)
class Result:
    """What restructure did: samples a split, findings, and files copied, kept as they were, and removed."""

    folder: Path
    counts: dict[str, int]
    problems: list[Problem]
    copied: int
    kept: int
    removed: int


# Find the release -------------------------------------------------------------------------------------------


def find_release(dataset: str, sizes: tuple[int, int]) -> Release:
    """What RELEASE names, else a folder or archive in data/, else a drawn sample, `sizes` = (train, test)."""
    load_dataset(dataset)
    if named := os.environ.get("RELEASE"):
        return named_release(Path(named).expanduser(), dataset)
    if own_folder := load_dataset(dataset).folder:
        where = f"Your own images: {Path(own_folder).name}"
        return converted(dataset, custom.OWN, Path(own_folder), "release", where)
    if dataset != "helen":
        return find_other(dataset, sizes)
    folder = env.data_dir() / "helenstar_release"
    if folder.is_dir() and any(not is_noise(path.name) for path in folder.iterdir()):
        root = layout_or_error(folder, env.shown(folder))
        return Release(root, "release", f"Release found: {env.shown(folder)}")
    for archive in archives():
        if holds_release(archive):
            return Release(unpack_release(archive), "release", f"Release found: {env.shown(archive)}, unpacked")
    return draw_sample(dataset, *sizes)


def find_other(dataset: str, sizes: tuple[int, int]) -> Release:
    """A release of pets, CamVid or Cityscapes in data/: a folder, else an archive by its name, else a sample."""
    data = env.data_dir()
    folders = [data, *sorted(data.glob("*/"))] if data.is_dir() else []
    for folder in folders:
        if folder.name not in OURS and (found := layouts.find(dataset, folder, 1 if folder == data else 3)):
            return converted(dataset, *found, "release", f"Release found: {env.shown(found[1])}")
    for archive in archives():
        if any(word in archive.name.lower() for word in WORDS[dataset]):
            layout, root = unpack_other(archive, dataset)
            return converted(dataset, layout, root, "release", f"Release found: {env.shown(archive)}, unpacked")
    return draw_sample(dataset, *sizes)


def unpack_other(archive: Path, dataset: str) -> tuple[layouts.Layout, Path]:
    """Unpack an archive and find the dataset's layout in it; DataError says what it should hold."""
    root = unpack(archive, lambda folder: found_or_error(dataset, folder, archive.name)[1])
    return found_or_error(dataset, root, archive.name)


def found_or_error(dataset: str, folder: Path, title: str) -> tuple[layouts.Layout, Path]:
    """As layouts.find; DataError with what a release holds."""
    found = layouts.find(dataset, folder)
    if found is None:
        raise DataError(f"{title} holds no release of {dataset}: there should be {layouts.hints(dataset)}")
    return found


def converted(dataset: str, layout: layouts.Layout, root: Path, source: str, where: str) -> Release:
    """The release in the plain layout, under data/converted/."""
    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
    target = env.data_dir() / "converted" / f"{dataset}-{name}"
    remarks = layouts.convert(dataset, layout, root, target)
    return Release(target, source, where, tuple(remarks))


def named_release(path: Path, dataset: str) -> Release:
    """The folder or archive that the environment variable RELEASE names; DataError if it is not a release."""
    if not path.exists():
        raise DataError(f"{path.name}: RELEASE names it, but it is not there; correct it or unset RELEASE")
    where = f"Release named by RELEASE: {env.shown(path)}"
    if dataset != "helen":
        found = found_or_error(dataset, path, env.shown(path)) if path.is_dir() else unpack_other(path, dataset)
        return converted(dataset, *found, "release", where)
    root = layout_or_error(path, env.shown(path)) if path.is_dir() else unpack_release(path)
    return Release(root, "release", where)


def draw_sample(dataset: str, train: int, test: int) -> Release:
    """A drawn sample, kept apart from the places of releases so that it is never taken for one."""
    folder = env.data_dir() / "samples" / f"{dataset}-{train}-{test}"
    drawn = f"using a drawn sample ({train} train, {test} test)"
    where = f"No release found in {env.shown(env.data_dir())}/: {drawn}"
    root = releases.WRITERS[dataset](folder, train, test)
    if dataset == "helen":
        return Release(root, "synthetic", where)
    return converted(dataset, *found_or_error(dataset, root, env.shown(root)), "synthetic", where)


def has_photos(folder: Path) -> bool:
    """Is there an <id>_image.jpg in the folder?"""
    return any(PHOTO.fullmatch(f"train/{p.name}") and not is_noise(p.name) for p in folder.glob("*"))


def find_layout(root: Path) -> Path | None:
    """The folder with photos in train/: root itself, or one or two levels below it (archives wrap)."""
    for folder in (root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/"))):
        if has_photos(folder / "train"):
            return folder
    empty = all((root / split).is_dir() for split in RELEASE_SPLITS)
    return root if empty else None  # named right but empty: restructure says so better


def layout_or_error(root: Path, title: str) -> Path:
    """As find_layout; DataError where there is none, or only one of its two folders."""
    found = find_layout(root)
    if found is None:
        remedy = "put helenstar_release there whole (train/ and test/), or move it away to use drawn samples"
        raise DataError(f"{title} holds no train/ with <id>_image.jpg files; {remedy}")
    if not (found / "test").is_dir():
        raise DataError(f"{title} has train/ but no test/; unpack or download the release again, whole")
    return found


# Archives -------------------------------------------------------------------------------------------------


def archives() -> list[Path]:
    """Archives in data/, those with 'helen' in their name first: looking through a .tar.gz takes its time."""
    found = [p for p in env.data_dir().glob("*") if suffix_of(p) and p.is_file() and not is_noise(p.name)]
    return sorted(found, key=lambda path: ("helen" not in path.name.lower(), path.name))


def holds_release(path: Path) -> bool:
    """Does the archive's listing have photos in train/ or test/?"""
    return any(PHOTO.fullmatch(m.name.replace("\\", "/")) for m in list_archive(path))


def unpack_release(path: Path) -> Path:
    """Archive -> the release's folder in data/unpacked/."""
    return unpack(path, functools.partial(layout_or_error, title=path.name))


# Show -------------------------------------------------------------------------------------------------------


def tree(root: Path, limit: int = 3) -> str:
    """Folders and the first `limit` files of each, as text."""
    return "\n".join([printable(Path(root).resolve().name), *branches(Path(root), limit)])


def branches(folder: Path, limit: int) -> Iterator[str]:
    """The lines below a folder's name: folders first, then files, then how many files there are."""
    entries = sorted((p for p in folder.iterdir() if not is_noise(p.name)), key=lambda p: p.name)
    folders = [p for p in entries if p.is_dir() and not p.is_symlink()]
    names = [printable(p.name) for p in entries if not p.is_dir() or p.is_symlink()]
    shown = names[:limit] + ([f"... ({len(names)} files)"] if len(names) > limit else [])
    for number, item in enumerate([*folders, *shown], 1):
        last = number == len(folders) + len(shown)
        yield ("└── " if last else "├── ") + (item if isinstance(item, str) else printable(item.name))
        if isinstance(item, Path):
            yield from (("    " if last else "│   ") + line for line in branches(item, limit))


def table(problems: list[Problem]) -> str:
    """The findings, one line a file; what is only told, not left out, says so."""
    if not problems:
        return "nothing left out"
    notes = ("(left in, only a note) ", "")
    rows = [(p.split, printable(p.file), notes[p.bad] + p.reason) for p in problems]
    rows = [("split", "file", "reason"), *rows]
    split, file = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{row[0]:{split}}  {row[1]:{file}}  {row[2]}" for row in rows)


# The doctor -------------------------------------------------------------------------------------------------


def list_split(root: Path, split: str) -> tuple[dict[str, dict[str, Path]], list[Problem]]:
    """One folder of the release -> id -> kind -> file, and what does not belong there."""
    if not (root / split).is_dir():
        raise DataError(f"{env.shown(root)} has no {split}/; unpack or download the release again, whole")
    ids, problems = {}, []
    for path in sorted(p for p in (root / split).iterdir() if not is_noise(p.name)):
        named = None if path.is_dir() else NAMING.fullmatch(path.name)
        if not named:
            problems.append(Problem(split, path.name, "not part of the release's naming", bad=False))
            continue
        name = unicodedata.normalize("NFC", named[1])  # macOS spells é in two characters
        kind = named[2].lower()
        first = ids.setdefault(name, {}).setdefault(kind, path)
        if first is not path:
            reason = f"same id and kind as {printable(first.name)}, which is used"
            problems.append(Problem(split, path.name, reason, bad=False))
    return ids, problems


def pair_up(split: str, ids: dict[str, dict[str, Path]]) -> tuple[list[Pair], list[Problem]]:
    """Images and labels of one id each; what lacks its partner or its id becomes a problem."""
    pairs, problems = [], []
    for name, kinds in ids.items():
        first = min(kinds.values())
        missing = [kind for kind in ("image", "label") if kind not in kinds]
        if missing:
            there = next(kind for kind in ("image", "label", "viz") if kind in kinds)
            problems.append(Problem(split, kinds[there].name, f"{there} without {' and '.join(missing)}"))
        elif not name:
            problems.append(Problem(split, first.name, "no id before the _"))
        else:
            pairs.append(Pair(split, name, kinds["image"], kinds["label"]))
    return pairs, problems


def find_faults(pair: Pair, classes: int) -> list[Problem]:
    """Decode both files to their last byte: a truncated JPEG has a sound header."""
    sizes, problems = [], []
    readers = {pair.image: files.read_photo, pair.label: functools.partial(masks.read_label, classes=classes)}
    for path, read in readers.items():
        try:
            sizes.append(read(path).shape[1::-1])
        except DataError as error:  # PIL's messages quote the whole path; a table has the file's name already
            text = str(error).replace(repr(str(path)), "it").removeprefix(f"{path.name}: ")
            problems.append(Problem(pair.split, path.name, text))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        photo, label = (f"{width} x {height}" for width, height in sizes)
        problems.append(Problem(pair.split, pair.image.name, f"sizes differ: photo {photo}, label {label}"))
    return problems


def make_stamp(path: Path) -> dict:
    """What identifies a file of the release, and its content."""
    status = path.stat()
    times = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return {"file": path.name} | times | {"sha256": files.sha256(path)}


def is_same(path: Path, stamp: dict | None) -> bool:
    """Is the file as it was when it was stamped? By size and time: reading it again is what this saves."""
    if stamp is None or not path.exists():
        return False
    status = path.stat()
    return (status.st_size, status.st_mtime_ns) == (stamp["size"], stamp["mtime_ns"])


def check(pair: Pair, classes: int, known: dict) -> tuple[list[dict], list[Problem]]:
    """Stamps of the pair's two files, and its faults; files checked before are not decoded again."""
    paths = (pair.image, pair.label)
    stamps = [known.get((pair.split, path.name)) for path in paths]
    if all(map(is_same, paths, stamps)):
        return stamps, []
    problems = find_faults(pair, classes)
    return ([] if problems else [make_stamp(path) for path in paths]), problems


def checked_before(dataset: str, release: Release) -> dict[tuple[str, str], dict]:
    """(release's split, file) -> stamp, of the files that the last run found sound in this same release."""
    manifest = read_manifest(env.split_dir(dataset))
    if any(manifest.get(key) != value for key, value in describe(dataset, release).items()):
        return {}
    return {(release_split(s, e), e[k]["file"]): e[k] for s, e in entries(manifest) for k in ("image", "label")}


def leaks(pairs: list[Pair], stamps: dict[Path, dict]) -> dict[Pair, Problem]:
    """Pairs of train (and val) that are in test (or val) too, by id or by the photo's bytes: scoring would flatter."""
    found, ids, photos = {}, {}, {}
    for split in ("test", "val", "train"):
        own = [pair for pair in pairs if pair.split == split]
        for pair in own:
            twin, same = ids.get(pair.id), photos.get(stamps[pair.image]["sha256"])
            if twin:
                reason = f"same id in {split} and {twin.split}; kept in {twin.split} alone"
                found[pair] = Problem(split, pair.image.name, reason)
            elif same:
                reason = f"same photo as {printable(same.image.name)} in {same.split}; kept in {same.split} alone"
                found[pair] = Problem(split, pair.image.name, reason)
        for pair in own:
            ids.setdefault(pair.id, pair)
            photos.setdefault(stamps[pair.image]["sha256"], pair)
    return found


def scan(release: Release, dataset: str) -> Scan:
    """Pair and decode every file of a release, and find what is wrong with it; writes nothing."""
    pairs, problems = [], [Problem(r.split, r.file, r.reason, r.bad) for r in release.remarks]
    total = sum(problem.bad for problem in problems)  # samples that could not even be converted
    given = ["val"] if (release.root / "val").is_dir() and dataset != "helen" else []
    for split in (*RELEASE_SPLITS, *given):
        ids, strange = list_split(release.root, split)
        paired, alone = pair_up(split, ids)
        pairs, problems, total = pairs + paired, problems + strange + alone, total + len(ids)
    classes, known = len(load_dataset(dataset).classes), checked_before(dataset, release)
    checked = thread_map(functools.partial(check, classes=classes, known=known), pairs, "checking")
    stamps = {}
    for pair, (stamped, faults) in zip(pairs, checked, strict=True):
        stamps |= dict(zip((pair.image, pair.label), stamped, strict=False))
        problems += faults
    twins = leaks([pair for pair in pairs if pair.image in stamps], stamps)
    problems += twins.values()
    sound = [pair for pair in pairs if pair.image in stamps and pair not in twins]
    if not any(pair.split == "test" for pair in sound):
        problems.append(Problem("test", "test/", "no sound pair: nothing to score in notebook 06", bad=False))
    return Scan(sound, sorted(problems, key=lambda p: (not p.bad, p.split, p.file)), total, stamps)


def stop_if_bad(found: Scan, release: Release, dataset: str) -> None:
    """DataError if more than 1 sample in 20 is bad, or train is empty: training on the rest would mislead."""
    bad, name = found.total - len(found.pairs), env.shown(release.root)
    if bad * WORST > found.total:
        rows = [problem for problem in found.problems if problem.bad]
        more = f"\n... and {len(rows) - 30} more files" if len(rows) > 30 else ""
        mine = bool(load_dataset(dataset).folder)
        again = f'own.examine("{dataset}") tells what to do about each' if mine else "download the release again"
        remedy = f"repair or remove these files, or {again}"
        fault = f"{name}: {bad} of {found.total} samples are bad, more than 1 in {WORST}"
        raise DataError(f"{fault}; {remedy}:\n{table(rows[:30])}{more}")
    if not any(pair.split == "train" for pair in found.pairs):
        remedy = "put the release's train/ there, whole, and run again"
        raise DataError(f"{name}/train holds no pair of <id>_image.jpg and <id>_label.png; {remedy}")


# Split and copy ---------------------------------------------------------------------------------------------


def choose_val(ids: list[str]) -> set[str]:
    """1 in 10 of train's ids; of two or more ids at least one is chosen and one is not."""
    chosen = {name for name in ids if draw(name) % 10 == 0}
    if len(ids) > 1 and len(chosen) in (0, len(ids)):
        chosen = {min(ids, key=draw)}
    return chosen if len(ids) > 1 else set()


def release_split(split: str, entry: dict) -> str:
    """The folder of the release that a sample of `split` is taken from."""
    return entry.get("from") or ("test" if split == "test" else "train")


def describe(dataset: str, release: Release) -> dict[str, str]:
    """What a manifest says of its source: files checked in one release are not trusted in another."""
    return {"dataset": dataset, "source": release.source, "release": env.shown(release.root)}


def make_manifest(dataset: str, release: Release, found: Scan) -> dict:
    """Which sample goes where, with the stamps of its files."""
    given = any(pair.split == "val" for pair in found.pairs)
    val = set() if given else choose_val([pair.id for pair in found.pairs if pair.split == "train"])
    splits = {split: [] for split in SPLITS}
    for pair in sorted(found.pairs, key=lambda pair: pair.id):
        split = "val" if pair.split == "train" and pair.id in val else pair.split
        image, label = found.stamps[pair.image], found.stamps[pair.label]
        splits[split].append({"id": pair.id, "from": pair.split, "image": image, "label": label})
    return describe(dataset, release) | {"splits": splits}


def read_manifest(folder: Path) -> dict:
    """What the last run put here; an empty dict if there was none."""
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text())
        targets(manifest)
        return manifest
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "delete it and run notebook 01 again"
        raise DataError(f"{env.shown(path)}: not a manifest of notebook 01; {remedy}") from error


def write_manifest(folder: Path, manifest: dict, complete: bool) -> None:
    """Written before the first copy as a plan (complete: false), so that no file of ours is ever unlisted."""
    text = json.dumps(manifest | {"complete": complete}, indent=1)
    files.write_atomic(folder / "manifest.json", text.encode())


def entries(manifest: dict) -> list[tuple[str, dict]]:
    """(split, sample) of all that a manifest lists."""
    return [(split, entry) for split, listed in manifest.get("splits", {}).items() for entry in listed]


def targets(manifest: dict) -> dict[str, tuple[str, dict]]:
    """File below splitted_data/<name>/ -> its source below the release, and that one's stamp."""
    found = {}
    for split, entry in entries(manifest):
        for kind in ("image", "label"):
            name = entry[kind]["file"]
            suffix = "png" if name.lower().endswith(".png") else "jpg"
            found[f"{split}/{kind}s/{entry['id']}.{suffix}"] = (f"{release_split(split, entry)}/{name}", entry[kind])
    return found


def list_files(folder: Path) -> list[str]:
    """All files below a folder, as relative names, without systems' leftovers."""
    paths = [Path(top, name) for top, _, names in os.walk(folder) for name in names]
    names = [path.relative_to(folder) for path in paths]
    own = [name.as_posix() for name in names if not any(map(is_noise, name.parts))]
    return sorted(name for name in own if name != "manifest.json")


def find_stale(folder: Path, old: dict, new: dict) -> list[str]:
    """Files of an earlier run that are wanted no more; DataError if one is nobody's: 02 would train on it."""
    listed, wanted = targets(old), targets(new)
    there = [name for name in list_files(folder) if name not in wanted]
    strange = [printable(n) for n in there if n not in listed and not LEFTOVER.search(n)]
    if strange:
        names = ", ".join(strange[:3]) + (f" and {len(strange) - 3} more" if len(strange) > 3 else "")
        remedy = "move what is yours elsewhere, or delete this folder, and run again"
        raise DataError(f"{env.shown(folder)}: {names} did not come from this release; {remedy}")
    return there


def is_in_place(name: str, folder: Path, wanted: dict) -> bool:
    """Is the copy there, byte for byte? By its hash, which costs little beside decoding: size and time would
    miss a damaged sector or an edited label."""
    path, stamp = folder / name, wanted[name][1]
    return path.is_file() and path.stat().st_size == stamp["size"] and files.sha256(path) == stamp["sha256"]


def copy_file(name: str, root: Path, folder: Path, wanted: dict) -> None:
    """Copy one file's bytes as they are, whole or not at all; DataError if they are not what was checked."""
    source, stamp = wanted[name]
    content = (root / source).read_bytes()
    if hashlib.sha256(content).hexdigest() != stamp["sha256"]:
        remedy = f"delete {env.shown(folder / 'manifest.json')} and run again"
        raise DataError(f"{printable(source)}: changed since it was checked; {remedy}")
    files.write_atomic(folder / name, content)


def restructure(dataset: str, release: Release, found: Scan | None = None) -> Result:
    """Copy a release's sound pairs into splitted_data/<name>/; once more, it only repairs what differs."""
    found = found or scan(release, dataset)
    stop_if_bad(found, release, dataset)
    folder = env.split_dir(dataset)
    old, new = read_manifest(folder), make_manifest(dataset, release, found)
    wanted, stale = targets(new), find_stale(folder, old, new)
    there = thread_map(functools.partial(is_in_place, folder=folder, wanted=wanted), wanted, "comparing")
    missing = [name for name, kept in zip(wanted, there, strict=True) if not kept]
    if missing or stale or old != new | {"complete": True}:
        carry_out(release.root, folder, old, new, stale, missing)
    choice.write_choice(dataset, release.source)
    counts = {split: len(new["splits"][split]) for split in SPLITS}
    return Result(folder, counts, found.problems, len(missing), len(wanted) - len(missing), len(stale))


def carry_out(root: Path, folder: Path, old: dict, new: dict, stale: list[str], missing: list[str]) -> None:
    """Remove, plan, copy, seal: wherever this is cut off, every file is listed and `complete` is false."""
    if stale:
        write_manifest(folder, old, complete=False)
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    write_manifest(folder, new, complete=False)
    for split in SPLITS:
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
    thread_map(functools.partial(copy_file, root=root, folder=folder, wanted=targets(new)), missing, "copying")
    write_manifest(folder, new, complete=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line, notebook 01 without a notebook; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.restructure", description=__doc__)
    parser.add_argument("--dataset", help="if not given, the one that was prepared last; helen at first")
    parser.add_argument("--scale", choices=list(SCALES), help="of 02 to 06; of the samples if any are drawn")
    options = parser.parse_args(arguments)
    try:
        dataset = options.dataset or choice.chosen_dataset()
        release = find_release(dataset, SAMPLES[options.scale or choice.default_scale("synthetic")])
        print(release.where)
        result = restructure(dataset, release)
        choice.write_choice(dataset, release.source, options.scale or choice.default_scale(release.source))
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(result.problems))
    print(", ".join(f"{count} {split}" for split, count in result.counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
