"""A downloaded archive -> a folder, safely: checked before a byte is written, unpacked whole or not at all."""

import contextlib
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tqdm import tqdm

from ..core import env, files
from ..core.errors import DataError

NOISE = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".ipynb_checkpoints"}
SUFFIXES = (".zip", ".tar.gz", ".tgz", ".7z")
RATIO, LARGEST = 200, 20 * 2**30  # the decompression limit: times the archive's size (photos hardly grow), and bytes
REMEDY = "remove this archive and take the release's own"
# What damaged archives raise; gzip raises OSError, open_7z ValueError.
DAMAGE = (OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


class ArchiveError(DataError):
    """An archive is damaged, hostile or not the release: another copy is needed."""


class Member(NamedTuple):
    """One entry of an archive."""

    name: str
    size: int  # bytes, unpacked
    plain: bool  # a file or a folder, not a link or a device


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
def open_7z(path: Path) -> Iterator[Any]:
    """A SevenZipFile; the package may be missing (on Colab it is), and its errors have no common base."""
    try:
        import py7zr
    except ImportError as error:
        raise DataError(f"{path.name}: needs `pip install py7zr`; or unpack it by hand into data/") from error
    try:
        with py7zr.SevenZipFile(path) as archive:
            yield archive
    except (py7zr.exceptions.ArchiveError, py7zr.exceptions.PasswordRequired) as error:
        raise ValueError(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Any]:
    """A ZipFile, TarFile or SevenZipFile; ArchiveError if it turns out to be damaged while it is open."""
    suffix = suffix_of(path)
    try:
        if suffix == ".zip":
            with zipfile.ZipFile(path) as zipped:
                yield zipped
        elif suffix == ".7z":
            with open_7z(path) as archive:
                yield archive
        else:
            with tarfile.open(path, "r:gz") as tar:
                yield tar
    except DAMAGE as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__  # strerror names no path
        fault = f"cannot be unpacked ({text.splitlines()[0]})"
        raise ArchiveError(f"{path.name}: {fault}; download it again or remove it") from error


def members_of(archive: Any) -> Iterator[Member]:
    """The entries of an open archive."""
    if isinstance(archive, zipfile.ZipFile):
        for entry in archive.infolist():
            form = stat.S_IFMT(entry.external_attr >> 16)  # 0 where the archive keeps no Unix modes
            yield Member(entry.filename, entry.file_size, form in (0, stat.S_IFREG, stat.S_IFDIR))
    elif isinstance(archive, tarfile.TarFile):
        for header in archive:
            yield Member(header.name, header.size, header.isreg() or header.isdir())
        while archive.fileobj.read(2**20):  # tarfile takes a damaged entry for the end; at its own, gzip checks its sum
            pass
    else:
        for info in archive.list():
            yield Member(info.filename, info.uncompressed or 0, info.is_file or info.is_directory)


def list_archive(path: Path) -> list[Member]:
    """All entries of an archive; ArchiveError if it is damaged."""
    with open_archive(path) as archive:
        return list(members_of(archive))


def check(path: Path) -> int:
    """The bytes that an archive unpacks to; ArchiveError if it is damaged or would harm. No bomb is read to its end."""
    total, limit = 0, min(LARGEST, RATIO * path.stat().st_size)
    with open_archive(path) as archive:
        for name, size, plain in members_of(archive):
            inside = PurePosixPath(name.replace("\\", "/"))
            if inside.is_absolute() or ".." in inside.parts or "\0" in name or re.match("[A-Za-z]:", name):
                raise ArchiveError(f"{path.name}: {printable(name)} leads out of its folder; {REMEDY}")
            if not plain:
                raise ArchiveError(f"{path.name}: {printable(name)} is a link or a device; {REMEDY}")
            total += size + 512  # an empty file costs too
            if total > limit:
                fault = f"unpacks to more than {limit:,} bytes, the decompression limit"
                raise ArchiveError(f"{path.name}: {fault}; {REMEDY}")
    return total


def is_wanted(name: str) -> bool:
    """Is this entry no leftover of a system, nor in a folder of leftovers?"""
    return not any(is_noise(part) for part in name.split("/"))


def extract(path: Path, folder: Path) -> None:
    """Write the files of an archive below `folder`; what it holds has been checked."""
    with open_archive(path) as archive:
        if isinstance(archive, zipfile.ZipFile):
            for entry in tqdm(archive.infolist(), "unpacking", unit="file", **files.bar_style()):
                entry.filename = entry.filename.replace("\\", "/")  # as some programs for Windows write it
                if is_wanted(entry.filename):
                    archive.extract(entry, folder)
        elif isinstance(archive, tarfile.TarFile):
            for header in tqdm(archive, "unpacking", unit="file", **files.bar_style()):
                if is_wanted(header.name):
                    archive.extract(header, folder, filter="data")
        else:
            archive.extract(folder, [name for name in archive.getnames() if is_wanted(name)])


def unpack_together(paths: list[Path], target: Path, find_root: Callable[[Path], Path | None]) -> None:
    """Archives -> the folder `target`: the root of a release that `find_root` finds in what they hold together.

    All are checked before a byte is written. They are unpacked under another name in data/unpacked/, then renamed.
    DataError where an archive is bad, the disk too small, or no root is found; find_root may raise its own.
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
        root = find_root(work)
        if root is None:
            raise ArchiveError(f"{paths[0].name}: holds no folders of a known layout; {REMEDY}")
        root.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def unpack(path: Path, find_root: Callable[[Path], Path | None]) -> Path:
    """Archive -> the root that `find_root` finds in it, kept in data/unpacked/ and made only once; DataError."""
    if suffix_of(path) is None:
        raise DataError(f"{path.name}: neither a folder nor a {', '.join(SUFFIXES)}; correct RELEASE")
    state = path.stat()
    target = env.data_dir() / "unpacked" / f"{path.name}-{state.st_size:x}-{state.st_mtime_ns:x}"
    if not target.is_dir():
        unpack_together([path], target, find_root)
    return target
