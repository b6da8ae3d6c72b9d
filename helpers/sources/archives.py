"""A downloaded archive -> a folder, safely: looked through whole before a byte is written."""

import contextlib
import gzip
import hashlib
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from ..core import env
from ..core.errors import DataError

NOISE = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", ".ipynb_checkpoints"}  # systems leave them
RATIO, LARGEST = 200, 20 * 2**30  # an archive may grow so many times (photos hardly do), and to so many bytes


def is_noise(name: str) -> bool:
    """Files that macOS, Windows and Jupyter leave in folders."""
    return name.startswith("._") or name in NOISE


def printable(name: str) -> str:
    """A file's name as it can be printed: control characters and undecodable bytes escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


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


def safe_parts(name: str) -> tuple[str, ...]:
    """An entry's name -> its path below the folder; ValueError if it would lead out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in name or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"{printable(name)} leads out of its folder")
    return path.parts


def check_members(path: Path, members: list[Member]) -> None:
    """DataError if an archive would write outside its folder, hold links or devices, or fill the disk."""
    check_harmless(path, members)
    check_space(path, members)


def check_harmless(path: Path, members: list[Member]) -> None:
    """DataError if an archive would write outside its folder, holds links or devices, or grows as no photos do."""
    remedy = "remove this archive and take the release's own"
    for member in members:
        try:
            safe_parts(member.name)
        except ValueError as error:
            raise DataError(f"{path.name}: {error}; {remedy}") from error
        if member.kind == "other":
            raise DataError(f"{path.name}: {printable(member.name)} is a link or a device; {remedy}")
    if unpacked_size(members) > (limit := size_limit(path)):
        raise DataError(f"{path.name}: unpacks to more than {limit:,} bytes, as no photos do; {remedy}")


def check_space(path: Path, members: list[Member]) -> None:
    """DataError if the disk cannot hold what an archive unpacks to."""
    total, free = unpacked_size(members), shutil.disk_usage(env.data_dir()).free
    if total > free:
        fault = f"needs {total:,} bytes, the disk has {free:,}"
        raise DataError(f"{path.name}: {fault}; free some or set UNET_HOME to a larger disk")


def unpacked_size(members: list[Member]) -> int:
    """Bytes on the disk; an empty file costs too."""
    return sum(member.size + 512 for member in members)


def write_member(folder: Path, name: str, source) -> None:
    """Copy one entry's bytes below `folder`."""
    parts = safe_parts(name)
    if any(map(is_noise, parts)):
        return
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(source, file)


def unpack(path: Path, accept: Callable[[Path], Path | None]) -> Path:
    """Archive -> the root that `accept` finds, in data/unpacked/, made once: whole under another name, renamed."""
    if suffix_of(path) is None:
        raise DataError(f"{path.name}: neither a folder nor a {', '.join(ARCHIVES)}; correct RELEASE")
    target = env.data_dir() / "unpacked" / f"{path.name}-{short_hash(path)}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        check_members(path, list_archive(path))
        work = target.with_name(f"{target.name}.tmp")
        shutil.rmtree(work, ignore_errors=True)
        try:
            write_files(path, work)
            accepted(path, work, accept)
            work.rename(target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return accepted(path, target, accept)


def write_files(path: Path, folder: Path) -> None:
    """Unpack an archive, checked before, below `folder`; DataError where it is damaged."""
    with reading(path):
        ARCHIVES[suffix_of(path)][1](path, folder)


def accepted(path: Path, folder: Path, accept: Callable[[Path], Path | None]) -> Path:
    """The root that `accept` finds in the unpacked folder; DataError where it finds none."""
    root = accept(folder)
    if root is None:
        remedy = "remove this archive and take the release's own"
        raise DataError(f"{path.name}: holds no folders of a known layout; {remedy}")
    return root


def short_hash(path: Path) -> str:
    """Of the size and both ends of an archive (the ends hold its listing): quick on gigabytes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(2**16)
        file.seek(max(0, size - 2**16))
        return hashlib.sha256(head + file.read() + str(size).encode()).hexdigest()[:10]
