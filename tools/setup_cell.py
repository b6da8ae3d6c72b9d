"""The set-up cell and the Colab badge that all six notebooks carry, and the repository's name on GitHub."""

import re
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPO / "notebooks"

# A second run finds helpers/ in the folder that the first one changed into, so nothing happens twice.
TEMPLATE = """\
import os  # set-up, the same in all six: makes helpers importable; Colab fetches the repository first, once
import subprocess
import sys
from pathlib import Path

url = os.environ.get("UNET_REPO", "https://github.com/{slug}")
top = next((p for p in Path("_").absolute().parents if (p / "helpers").is_dir()), Path.cwd() / Path(url).name)
if "google.colab" in sys.modules:
    top.exists() or subprocess.run(["git", "clone", "-q", "--depth", "1", url, str(top)], check=True)
    os.chdir(top)
sys.path[:0] = {{str(top)}} - set(sys.path)  # the line below, uncommented, keeps your work on Drive
# from google.colab import drive; drive.mount("/gdrive"); os.environ["UNET_HOME"] = "/gdrive/MyDrive/unet"
__import__("helpers")  # before torch, whose threads it teaches to wait
%matplotlib inline"""
MARK = TEMPLATE.splitlines()[0]  # by which the cell is known when its text has changed

BADGE_IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}"


def repository(pyproject: Path = REPO / "pyproject.toml") -> str:
    """OWNER/REPO on GitHub, from the one place where it stands."""
    return tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["unet"]["repository"]


def check_slug(slug: str) -> str:
    """The slug itself, or ValueError if it is not one owner and one repository."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_.-]+", slug):
        raise ValueError(f"{slug!r} is not OWNER/REPO: call make badges OWNER=... REPO=...")
    return slug


def source(slug: str) -> str:
    """Text of the set-up cell."""
    return TEMPLATE.format(slug=slug)


def badge(slug: str, name: str) -> str:
    """Markdown of the badge that opens notebooks/`name` in Colab."""
    return f"[![Open in Colab]({BADGE_IMAGE})]({COLAB.format(slug=slug, name=name)})"
