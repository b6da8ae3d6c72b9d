"""A release as downloaded -> splitted_data/<name>/{train,val,test}/{images,labels}; the doctor's report."""

import contextlib
import functools
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from . import catalog, env, files, masks, samples
from .errors import DataError

SPLITS = ("train", "val", "test")
RELEASE_SPLITS = ("train", "test")
NAMING = re.compile(r"(.*)_(image(?=\.jpe?g$)|label(?=\.png$)|viz(?=\.jpe?g$))\.\w+", re.I | re.S)  # id, kind
PHOTO = re.compile(r"(.*/)?(train|test)/[^/]+_image\.jpe?g", re.I | re.S)  # in an archive's listing
NOISE = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".ipynb_checkpoints"}  # systems leave them
LEFTOVER = re.compile(r"\.\d+\.tmp$")  # what files.atomic leaves behind when it is killed
WORST = 20  # one bad sample in so many is the most that is tolerated
RATIO, LARGEST = 200, 20 * 2**30  # an archive may grow so many times (photos hardly do), and to so many bytes


@dataclass(frozen=True)
class Release:
    """Where the data comes from; `where` is one line to print."""

    root: Path  # holds train/ and test/
    source: str  # "release" or "sample"
    where: str


@dataclass(frozen=True)
class Pair:
    """One sample of the release: split is the release's own, train or test."""

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
    """What RELEASE names, else a folder or archive in data/, else drawn faces, `sizes` = (train, test)."""
    catalog.dataset(dataset)
    if named := os.environ.get("RELEASE"):
        return named_release(Path(named).expanduser())
    folder = env.data_dir() / "helenstar_release"
    if folder.is_dir() and any(not is_noise(path.name) for path in folder.iterdir()):
        root = layout_or_error(folder, env.shown(folder))
        return Release(root, "release", f"Release found: {env.shown(folder)}")
    for archive in archives():
        if holds_release(archive):
            return Release(unpack(archive), "release", f"Release found: {env.shown(archive)}, unpacked")
    return draw_sample(*sizes)


def named_release(path: Path) -> Release:
    """The folder or archive that the environment variable RELEASE names; DataError if it is not a release."""
    if not path.exists():
        raise DataError(f"{path.name}: RELEASE names it, but it is not there; correct it or unset RELEASE")
    root = layout_or_error(path, env.shown(path)) if path.is_dir() else unpack(path)
    return Release(root, "release", f"Release named by RELEASE: {env.shown(path)}")


def draw_sample(train: int, test: int) -> Release:
    """Sample faces, kept apart from data/helenstar_release so that they are never taken for it."""
    root = samples.write_helen(env.data_dir() / "samples" / f"helen-{train}-{test}", train, test)
    drawn = f"using drawn sample faces ({train} train, {test} test)"
    return Release(root, "sample", f"No release found in {env.shown(env.data_dir())}/: {drawn}")


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


def is_noise(name: str) -> bool:
    """Files that macOS, Windows and Jupyter leave in folders."""
    return name.startswith("._") or name in NOISE


# Archives: looked through whole before a byte is written ----------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One entry of an archive; kind is file, folder or other (links, devices)."""

    name: str
    size: int
    kind: str


BROKEN = (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError)
BROKEN += (zipfile.BadZipFile,)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged archive raises into a DataError with the remedy."""
    try:
        yield
    except BROKEN as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__  # no path in it
        fault = text.splitlines()[0]
        remedy = "download it again or remove it"
        raise DataError(f"{path.name}: cannot be unpacked ({fault}); {remedy}") from error


def kind_of(file: bool, folder: bool) -> str:
    """Only plain files and folders are ever unpacked."""
    return "file" if file else "folder" if folder else "other"


def list_zip(path: Path) -> Iterator[Member]:
    """Entries of a .zip."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            form = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive keeps no Unix modes
            plain = form in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG)
            yield Member(info.filename, info.file_size, kind_of(plain and not info.is_dir(), plain))


def unpack_zip(path: Path, folder: Path) -> None:
    """Write the files of a .zip."""
    with zipfile.ZipFile(path) as archive:
        for info in tqdm(archive.infolist(), "unpacking", unit="file"):
            if not info.is_dir():
                with archive.open(info) as source:
                    write_member(folder, info.filename, source)


@contextlib.contextmanager
def open_tar(path: Path) -> Iterator[tarfile.TarFile]:
    """tarfile takes a damaged entry for the end; reading on to the stream's own end tests its checksum."""
    with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        yield archive
        while stream.read(2**20):
            pass


def list_tar(path: Path) -> Iterator[Member]:
    """Entries of a .tar.gz."""
    with open_tar(path) as archive:
        for info in archive:
            yield Member(info.name, info.size, kind_of(info.isreg(), info.isdir()))


def unpack_tar(path: Path, folder: Path) -> None:
    """Write the plain files of a .tar.gz, by hand: links, owners and modes have no way in on any Python."""
    with open_tar(path) as archive:
        for info in tqdm(archive, "unpacking", unit="file"):
            if info.isreg():
                write_member(folder, info.name, archive.extractfile(info))


@contextlib.contextmanager
def open_7z(path: Path) -> Iterator:
    """py7zr's archive; its errors share no base, and the package may be missing."""
    try:
        import py7zr
    except ImportError as error:
        raise DataError(f"{path.name}: needs `pip install py7zr`; or unpack it by hand into data/") from error
    try:
        with py7zr.SevenZipFile(path) as archive:
            yield archive
    except (py7zr.exceptions.ArchiveError, py7zr.exceptions.PasswordRequired) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def list_7z(path: Path) -> Iterator[Member]:
    """Entries of a .7z."""
    with open_7z(path) as archive:
        for info in archive.list():
            yield Member(info.filename, info.uncompressed or 0, kind_of(info.is_file, info.is_directory))


def unpack_7z(path: Path, folder: Path) -> None:
    """Write the files of a .7z."""
    with open_7z(path) as archive:
        plain = [info.filename for info in archive.list() if info.is_file]
        archive.extract(folder, [name for name in plain if not any(map(is_noise, safe_parts(name)))])


ARCHIVES: dict[str, tuple[Callable, Callable]] = {
    ".zip": (list_zip, unpack_zip),
    ".tar.gz": (list_tar, unpack_tar),
    ".tgz": (list_tar, unpack_tar),
    ".7z": (list_7z, unpack_7z),
}


def suffix_of(path: Path) -> str | None:
    """The archive's suffix as ARCHIVES has it, or None."""
    return next((suffix for suffix in ARCHIVES if path.name.lower().endswith(suffix)), None)


def archives() -> list[Path]:
    """Archives in data/, those with 'helen' in their name first: looking through a .tar.gz takes its time."""
    found = [p for p in env.data_dir().glob("*") if suffix_of(p) and p.is_file() and not is_noise(p.name)]
    return sorted(found, key=lambda path: ("helen" not in path.name.lower(), path.name))


def list_archive(path: Path) -> list[Member]:
    """Entries up to the first that goes beyond the size limit: a bomb is not read to its end."""
    listed, total = [], 0
    with reading(path):
        for member in ARCHIVES[suffix_of(path)][0](path):
            listed.append(member)
            total += member.size + 512  # an empty file costs too
            if total > size_limit(path):
                break
    return listed


def size_limit(path: Path) -> int:
    """Bytes that an archive may unpack to."""
    return min(LARGEST, RATIO * path.stat().st_size)


def holds_release(path: Path) -> bool:
    """Does the archive's listing have photos in train/ or test/?"""
    return any(PHOTO.fullmatch(m.name.replace("\\", "/")) for m in list_archive(path))


def safe_parts(name: str) -> tuple[str, ...]:
    """An entry's name -> its path below the folder; ValueError if it would lead out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"{printable(name)} leads out of its folder")
    return path.parts


def check_members(path: Path, members: list[Member]) -> None:
    """DataError if an archive would write outside its folder, hold links or devices, or fill the disk."""
    remedy = "remove this archive and take the release's own"
    for member in members:
        try:
            safe_parts(member.name)
        except ValueError as error:
            raise DataError(f"{path.name}: {error}; {remedy}") from error
        if member.kind == "other":
            raise DataError(f"{path.name}: {printable(member.name)} is a link or a device; {remedy}")
    total, limit = sum(member.size + 512 for member in members), size_limit(path)
    if total > limit:
        raise DataError(f"{path.name}: unpacks to more than {limit:,} bytes, as no photos do; {remedy}")
    if total > (free := shutil.disk_usage(env.data_dir()).free):
        fault = f"needs {total:,} bytes, the disk has {free:,}"
        raise DataError(f"{path.name}: {fault}; free some or set UNET_HOME to a larger disk")


def write_member(folder: Path, name: str, source) -> None:
    """Copy one entry's bytes below `folder`."""
    parts = safe_parts(name)
    if any(map(is_noise, parts)):
        return
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(source, file)


def unpack(path: Path) -> Path:
    """Archive -> the release's folder in data/unpacked/, made once: whole under another name, renamed."""
    if suffix_of(path) is None:
        raise DataError(f"{path.name}: neither a folder nor a {', '.join(ARCHIVES)}; correct RELEASE")
    target = env.data_dir() / "unpacked" / f"{path.name}-{short_hash(path)}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        check_members(path, list_archive(path))
        work = target.with_name(f"{target.name}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        try:
            with reading(path):
                ARCHIVES[suffix_of(path)][1](path, work)
            layout_or_error(work, path.name)
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return layout_or_error(target, path.name)


def short_hash(path: Path) -> str:
    """Of the size and both ends of an archive (the ends hold its listing): quick on gigabytes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, size - 2**16))
        return hashlib.sha256(head + file.read() + str(size).encode()).hexdigest()[:10]


# Show -------------------------------------------------------------------------------------------------------


def printable(name: str) -> str:
    """A file's name as it can be printed: control characters and undecodable bytes escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


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


def parallel(function: Callable, items: Iterable, title: str) -> list:
    """function of each item, in order, on all cores with a bar; an interrupt drops what has not begun."""
    items = list(items)
    pool = ThreadPoolExecutor(env.cores())  # PIL, hashing and file access let go of the GIL
    try:
        return list(tqdm(pool.map(function, items), title, len(items), disable=not items))
    finally:
        pool.shutdown(cancel_futures=True)


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
    return {(release_split(s), e[k]["file"]): e[k] for s, e in entries(manifest) for k in ("image", "label")}


def leaks(pairs: list[Pair], stamps: dict[Path, dict]) -> dict[Pair, Problem]:
    """Pairs of train that are in test as well, by id or by the photo's bytes: scoring them would flatter."""
    tests = [pair for pair in pairs if pair.split == "test"]
    ids, photos = {pair.id for pair in tests}, {stamps[pair.image]["sha256"]: pair for pair in tests}
    found = {}
    for pair in (p for p in pairs if p.split == "train"):
        twin = photos.get(stamps[pair.image]["sha256"])
        if pair.id in ids:
            found[pair] = Problem("train", pair.image.name, "same id in train and test; kept in test alone")
        elif twin:
            reason = f"same photo as {printable(twin.image.name)} in test; kept in test alone"
            found[pair] = Problem("train", pair.image.name, reason)
    return found


def scan(release: Release, dataset: str) -> Scan:
    """Pair and decode every file of a release, and find what is wrong with it; writes nothing."""
    pairs, problems, total = [], [], 0
    for split in RELEASE_SPLITS:
        ids, strange = list_split(release.root, split)
        paired, alone = pair_up(split, ids)
        pairs, problems, total = pairs + paired, problems + strange + alone, total + len(ids)
    classes, known = len(catalog.dataset(dataset).classes), checked_before(dataset, release)
    checked = parallel(functools.partial(check, classes=classes, known=known), pairs, "checking")
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


def stop_if_bad(found: Scan, release: Release) -> None:
    """DataError if more than 1 sample in 20 is bad, or train is empty: training on the rest would mislead."""
    bad, name = found.total - len(found.pairs), env.shown(release.root)
    if bad * WORST > found.total:
        rows = [problem for problem in found.problems if problem.bad]
        more = f"\n... and {len(rows) - 30} more files" if len(rows) > 30 else ""
        remedy = "repair or remove these files, or download the release again"
        fault = f"{name}: {bad} of {found.total} samples are bad, more than 1 in {WORST}"
        raise DataError(f"{fault}; {remedy}:\n{table(rows[:30])}{more}")
    if not any(pair.split == "train" for pair in found.pairs):
        remedy = "put the release's train/ there, whole, and run again"
        raise DataError(f"{name}/train holds no pair of <id>_image.jpg and <id>_label.png; {remedy}")


# Split and copy ---------------------------------------------------------------------------------------------


def draw(name: str) -> int:
    """A number from an id: the same on every machine and day, whatever other ids there are."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())


def choose_val(ids: list[str]) -> set[str]:
    """1 in 10 of train's ids; of two or more ids at least one is chosen and one is not."""
    chosen = {name for name in ids if draw(name) % 10 == 0}
    if len(ids) > 1 and len(chosen) in (0, len(ids)):
        chosen = {min(ids, key=draw)}
    return chosen if len(ids) > 1 else set()


def release_split(split: str) -> str:
    """The folder of the release that a split is taken from."""
    return "test" if split == "test" else "train"


def describe(dataset: str, release: Release) -> dict[str, str]:
    """What a manifest says of its source: files checked in one release are not trusted in another."""
    return {"dataset": dataset, "source": release.source, "release": env.shown(release.root)}


def make_manifest(dataset: str, release: Release, found: Scan) -> dict:
    """Which sample goes where, with the stamps of its files."""
    val = choose_val([pair.id for pair in found.pairs if pair.split == "train"])
    splits = {split: [] for split in SPLITS}
    for pair in sorted(found.pairs, key=lambda pair: pair.id):
        split = "val" if pair.split == "train" and pair.id in val else pair.split
        image, label = found.stamps[pair.image], found.stamps[pair.label]
        splits[split].append({"id": pair.id, "image": image, "label": label})
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
        for kind, suffix in (("image", "jpg"), ("label", "png")):
            source = f"{release_split(split)}/{entry[kind]['file']}"
            found[f"{split}/{kind}s/{entry['id']}.{suffix}"] = (source, entry[kind])
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
    stop_if_bad(found, release)
    folder = env.split_dir(dataset)
    old, new = read_manifest(folder), make_manifest(dataset, release, found)
    wanted, stale = targets(new), find_stale(folder, old, new)
    there = parallel(functools.partial(is_in_place, folder=folder, wanted=wanted), wanted, "comparing")
    missing = [name for name, kept in zip(wanted, there, strict=True) if not kept]
    if missing or stale or old != new | {"complete": True}:
        carry_out(release.root, folder, old, new, stale, missing)
    env.write_choice(dataset, release.source)
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
    parallel(functools.partial(copy_file, root=root, folder=folder, wanted=targets(new)), missing, "copying")
    write_manifest(folder, new, complete=True)
