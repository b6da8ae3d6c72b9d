"""A downloaded archive -> a folder, safely: of a bounded size, within its folder, unpacked whole or not at all."""

import contextlib
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..core import env, files
from ..core.errors import DataError

NOISE = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".ipynb_checkpoints"}
SUFFIXES = (".zip", ".tar.gz", ".tgz", ".7z")
RATIO, LARGEST = 200, 20 * 2**30  # the decompression limit: times the archive's size (photos hardly grow), and bytes
REMEDY = "remove this archive and take the release's own"
# What damaged archives raise; gzip raises OSError.
DAMAGE = (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)
Find = Callable[[Path], tuple[Any, Path] | None]  # layouts.find of a dataset: a folder -> a layout and where it lies


class ArchiveError(DataError):
    """An archive is damaged, hostile or not the release: another copy is needed."""


def is_noise(name: str) -> bool:
    """Files that macOS, Windows and Jupyter leave in folders."""
    return name.startswith("._") or name in NOISE


def printable(name: str) -> str:
    """A file's name as it can be printed: control characters and undecodable bytes escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def suffix_of(path: Path) -> str | None:
    """The archive's suffix as SUFFIXES has it, or None."""
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Any]:
    """A ZipFile, TarFile or SevenZipFile; ArchiveError if it turns out to be damaged or hostile while it is open."""
    opener: Any = zipfile.ZipFile if suffix_of(path) == ".zip" else tarfile.open
    damage: tuple[type[Exception], ...] = DAMAGE
    if suffix_of(path) == ".7z":
        try:
            import py7zr  # on Colab it is missing
        except ImportError as error:
            raise DataError(f"{path.name}: needs `pip install py7zr`; or unpack it by hand into data/") from error
        opener, damage = py7zr.SevenZipFile, (*DAMAGE, py7zr.exceptions.ArchiveError)
    try:
        with opener(path) as archive:
            yield archive
    except damage as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__  # strerror names no path
        text = text.splitlines()[0].replace(f"{env.home()}/", "")  # tarfile and py7zr quote whole paths
        fault = f"cannot be unpacked ({printable(text)})"
        raise ArchiveError(f"{path.name}: {fault}; download it again or remove it") from error


def sizes(archive: Any) -> Iterator[int]:
    """The bytes that an open archive unpacks to, in parts."""
    if isinstance(archive, zipfile.ZipFile):
        yield from (entry.file_size for entry in archive.infolist())
    elif isinstance(archive, tarfile.TarFile):
        while block := archive.fileobj.read(2**20):  # to its end, where gzip checks its sum; tarfile stops before
            yield len(block)
    else:
        yield archive.archiveinfo().uncompressed


def check(path: Path) -> int:
    """The bytes that an archive unpacks to; ArchiveError if it is damaged or a bomb, which is not read to its end."""
    total, limit = 0, min(LARGEST, RATIO * path.stat().st_size)
    with open_archive(path) as archive:
        for size in sizes(archive):
            total += size
            if total > limit:
                fault = f"unpacks to more than {limit:,} bytes, the decompression limit"
                raise ArchiveError(f"{path.name}: {fault}; {REMEDY}")
    return total


def is_wanted(name: str) -> bool:
    """Is this entry no leftover of a system, nor in a folder of leftovers?"""
    return not any(is_noise(part) for part in name.split("/"))


def extract(path: Path, folder: Path) -> None:
    """Write the files of an archive below `folder`, and nowhere else: each library sees to that by their names.

    Links and devices are left out: no release has any, and past faults of such checks all began with a link.
    """
    bar = {"desc": "unpacking", "unit": "file"} | files.bar_style()
    with open_archive(path) as archive:
        if isinstance(archive, zipfile.ZipFile):  # it writes a link as a plain file
            names = filter(is_wanted, archive.namelist())
            archive.extractall(folder, tqdm(names, **bar))
        elif isinstance(archive, tarfile.TarFile):
            headers = (header for header in archive if is_wanted(header.name) and (header.isreg() or header.isdir()))
            archive.extractall(folder, tqdm(headers, **bar), filter="data")
        else:
            plain = [info.filename for info in archive.list() if info.is_file or info.is_directory]
            archive.extract(folder, list(filter(is_wanted, plain)))


def unpack_together(paths: list[Path], target: Path, find: Find) -> None:
    """Archives -> the folder `target`: the root of a release that `find` finds in what they hold together.

    All are checked before a byte is written. They are unpacked under another name in data/unpacked/, then renamed.
    DataError where an archive is bad, the disk too small, or no root is found; find may raise its own.
    """
    work = env.data_dir() / "unpacked" / f"{target.name}.tmp"
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    need = sum([check(path) for path in paths])
    work.mkdir(parents=True)
    try:
        if need > (free := shutil.disk_usage(work).free):
            fault = f"needs {need:,} bytes, the disk has {free:,}"
            raise DataError(f"{paths[0].name}: {fault}; free some or set UNET_HOME to a larger disk")
        for path in paths:
            extract(path, work)
        found = find(work)
        if found is None:
            raise ArchiveError(f"{paths[0].name}: holds no folders of a known layout; {REMEDY}")
        found[1].rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack(path: Path, find: Find) -> Path:
    """Archive -> the root that `find` finds in it, kept in data/unpacked/ and made only once; DataError."""
    if suffix_of(path) is None:
        raise DataError(f"{path.name}: neither a folder nor a {', '.join(SUFFIXES)}; correct RELEASE")
    state = path.stat()
    target = env.data_dir() / "unpacked" / f"{path.name}-{state.st_size:x}-{state.st_mtime_ns:x}"
    if not target.is_dir():
        unpack_together([path], target, find)
    return target
