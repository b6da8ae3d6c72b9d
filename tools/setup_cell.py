"""The set-up cell and the Colab badge that all six notebooks carry, and the repository's name on GitHub."""

import re
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPO / "notebooks"

TEMPLATE = """\
# Set-up, the same in all six notebooks: finds the folder that holds helpers/. Colab clones the repository first, once.
import os
import subprocess
import sys
from pathlib import Path

if "google.colab" in sys.modules and not Path("helpers").is_dir():
    url = os.environ.get("UNET_REPO", "https://github.com/{slug}")
    clone = Path(url).name
    if not Path(clone).exists():
        subprocess.run(["git", "clone", "-q", "--depth", "1", url, clone], check=True)
    os.chdir(clone)
folders = [Path.cwd(), *Path.cwd().parents]
top = next((folder for folder in folders if (folder / "helpers").is_dir()), folders[0])
if str(top) not in sys.path:
    sys.path.insert(0, str(top))
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # torch's threads sleep sooner: fast beside another busy process
# Uncomment the next line to keep your work on Google Drive.
# from google.colab import drive; drive.mount("/gdrive"); os.environ["UNET_HOME"] = "/gdrive/MyDrive/unet"
%matplotlib inline"""
MARK = "# Set-up, the same in all six"  # by which the cell is known when its text has changed

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
