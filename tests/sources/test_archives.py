"""archives: nothing is written outside, no bomb is unpacked; what is there is there whole."""

import io
import itertools
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import py7zr
import pytest

from helpers.core.errors import DataError
from helpers.sources import archives

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def release(tmp_path) -> Path:
    """A small folder to pack; its bytes do not compress, as photos do not."""
    root = tmp_path / "outside" / "release"
    for name in ("train/a_image.jpg", "train/a_label.png", "train/b_image.jpg", "test/c_image.jpg", "test/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.urandom(700))
    return root


def accept(folder: Path) -> tuple[None, Path] | None:
    """The folder with train/ in it, as layouts.find gives it: the unpacked one itself or one below it."""
    return next(((None, root) for root in (folder, *folder.glob("*/")) if (root / "train").is_dir()), None)


def names_in(root: Path) -> set[str]:
    """Relative names of every file below root."""
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def pack(kind: str, path: Path, entries: dict[str, bytes]) -> Path:
    """Archive `path` + `kind` of these names and bytes, names unchecked."""
    path = path.with_name(path.name + kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
    elif kind == ".7z":
        with py7zr.SevenZipFile(path, "w") as archive:
            for name, data in entries.items():
                archive.writef(io.BytesIO(data), name)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in entries.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def contents(root: Path, prefix: str = "") -> dict[str, bytes]:
    return {prefix + p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_other_content_under_the_same_name_is_unpacked_anew(home, release):
    path = pack(".zip", home / "data/helen", contents(release))
    first = archives.unpack(path, accept)
    (release / "train/new_image.jpg").write_bytes(b"new")
    path = pack(".zip", home / "data/helen", contents(release))
    second = archives.unpack(path, accept)
    assert second != first and (second / "train/new_image.jpg").exists()


def assert_refused(home: Path, fault: str) -> None:
    """An error that names archive and remedy, and nothing written anywhere."""
    root, path = home.parent, next((home / "data").glob("helen.*"))
    before = names_in(root)
    with pytest.raises(DataError, match=fault) as caught:
        archives.unpack(path, accept)
    message = str(caught.value)
    assert message.startswith("helen.") and str(root) not in message
    assert "remove" in message or "download it again" in message
    assert names_in(root) == before
    assert not list((home / "data").glob("unpacked/*"))


HOSTILE = ["../evil.txt", "train/../../evil.txt", "/tmp/unet_evil.txt", "..\\evil.txt", "C:\\evil.txt"]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_nothing_is_written_outside(home, release, kind, name):
    """Some names make tarfile refuse the archive; the others lose what leads out."""
    pack(kind, home / "data/helen", contents(release) | {name: b"evil"})
    before = names_in(home.parent)
    if kind == ".tar.gz" and name.startswith(("..", "train")) and "/" in name:
        assert_refused(home, "outside the destination")
    else:
        root = archives.unpack(next((home / "data").glob("helen.*")), accept)
        assert contents(root).items() >= contents(release).items()
        assert all((home.parent / name).is_relative_to(root) for name in names_in(home.parent) - before)
    assert not Path("/tmp/unet_evil.txt").exists()


def test_name_that_leads_out_of_a_7z_is_refused(home, release):
    """py7zr writes no such name, so the bytes of an archive are changed, and its two checksums with them."""
    path = home / "data/helen.7z"
    with py7zr.SevenZipFile(path, "w") as archive:
        archive.set_encoded_header_mode(False)
        archive.writef(io.BytesIO(b"evil"), "aa/evil.txt")
    content = bytearray(path.read_bytes().replace("aa/evil".encode("utf-16le"), "../evil".encode("utf-16le")))
    offset, size = struct.unpack("<QQ", content[12:28])
    header = content[32 + offset : 32 + offset + size]
    content[28:32] = struct.pack("<I", zlib.crc32(header))
    content[8:12] = struct.pack("<I", zlib.crc32(content[12:32]))
    path.write_bytes(content)
    assert_refused(home, r"Specified path is bad: .*evil\.txt")


@pytest.mark.parametrize("form", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_left_out(home, release, form):
    path = home / "data/helen.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(release, "h")
        info = tarfile.TarInfo("h/train/link_image.jpg")
        info.type, info.linkname = form, "/etc/passwd"
        archive.addfile(info)
    root = archives.unpack(path, accept)
    assert contents(root) == contents(release) and not os.path.lexists(root / "train/link_image.jpg")


def test_link_in_a_zip_becomes_a_plain_file(home, release):
    path = pack(".zip", home / "data/helen", contents(release))
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("train/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    link = archives.unpack(path, accept) / "train/link"
    assert link.read_bytes() == b"/etc" and not link.is_symlink()


def test_link_in_a_7z_is_left_out(home, release):
    before = contents(release)
    (release / "train/link").symlink_to("/etc/passwd")
    with py7zr.SevenZipFile(home / "data/helen.7z", "w") as archive:
        archive.writeall(release, "h")
    root = archives.unpack(home / "data/helen.7z", accept)
    assert contents(root) == before and not (root / "train/link").is_symlink()


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".7z"])
def test_bomb_is_refused(home, kind):
    entries = {"train/1_image.jpg": os.urandom(800), "zeros": bytes(3_000_000)}
    path = pack(kind, home / "data/helen", entries)
    assert path.stat().st_size * archives.RATIO < 3_000_000
    assert_refused(home, "unpacks to more than")


def test_bomb_is_not_read_to_its_end(home, monkeypatch):
    def endless(archive):
        for number in range(10**6):
            assert number < 10, "read on beyond the limit"
            yield 10**9

    pack(".zip", home / "data/helen", {"train/1_image.jpg": b""})
    monkeypatch.setattr(archives, "sizes", endless)
    assert_refused(home, "unpacks to more than")


def test_archive_larger_than_the_disk_is_refused(home, release, monkeypatch):
    path = pack(".zip", home / "data/helen", contents(release))
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 10))
    with pytest.raises(DataError, match=r"^helen.zip: needs .* the disk has 10; free some or set UNET_HOME"):
        archives.unpack(path, accept)


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".7z"])
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "flipped"])
def test_broken_archive_is_named(home, release, kind, damage):
    path = pack(kind, home / "data/helen", contents(release))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(value ^ 255 for value in data[middle : middle + 40])
    broken = {"cut": data[:middle], "text": b"<html>not found</html>", "empty": b"", "flipped": data}[damage]
    path.write_bytes(broken)
    assert_refused(home, "cannot be unpacked")


def test_gzip_checksum_is_read(home, release, tmp_path):
    """The standard library alone stops at the last entry and takes the archive in silence."""
    path = pack(".tar.gz", home / "data/helen", contents(release))
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    shutil.unpack_archive(path, tmp_path / "silence", filter="data")
    assert_refused(home, "cannot be unpacked .CRC check failed")


def test_interrupted_unpacking_leaves_nothing_and_what_a_killed_run_left_is_not_trusted(home, release, monkeypatch):
    path = pack(".zip", home / "data/helen", contents(release))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at_third(patch)
        archives.unpack(path, accept)
    assert list((home / "data/unpacked").iterdir()) == []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at_third(patch)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a killed process cleans nothing up
        archives.unpack(path, accept)
    (dead,) = (home / "data/unpacked").iterdir()
    (dead / "stale_image.jpg").write_bytes(b"stale")
    assert contents(archives.unpack(path, accept)) == contents(release) and not dead.exists()


def stop_at_third(patch: pytest.MonkeyPatch) -> None:
    """The third file of a .zip is where Ctrl-C comes."""

    def interrupt(names, *_, **__):
        yield from itertools.islice(names, 2)
        raise KeyboardInterrupt

    patch.setattr(archives, "tqdm", interrupt)


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(DataError, match="^notes.txt: neither a folder nor a .zip"):
        archives.unpack(tmp_path / "notes.txt", accept)
