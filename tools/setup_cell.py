"""The set-up cell and the Colab badge that all six notebooks carry, and the repository's name on GitHub."""

import re
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
NOTEBOOKS = REPO / "notebooks"

TEMPLATE = """\
# Set-up, the same in all six notebooks: finds the folder that holds helpers/.
import importlib
import os
import sys
from pathlib import Path

DRIVE = False  # @param {{type: "boolean"}}
places = [Path.cwd(), *Path.cwd().parents]
if "google.colab" in sys.modules:
    if DRIVE:  # your data and runs stay there
        importlib.import_module("google.colab.drive").mount("/content/drive")
        os.environ["UNET_HOME"] = "/content/drive/MyDrive/unet"
    os.system("git clone -q --depth 1 https://github.com/{slug} /content/unet 2>/dev/null")
    os.system("find /content -maxdepth 3 -name 'colab*.zip' -exec unzip -qn {{}} -d /content ';'")
    places += [*Path("/content").glob("*"), *Path("/content").glob("drive/MyDrive/*")]
missing = "helpers/ is missing: upload colab.zip (see README), or have it on Drive and tick DRIVE"
top = next((place for place in places if (place / "helpers").is_dir()), None) or sys.exit(missing)
sys.path.insert(0, str(top))
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # torch's idle threads sleep sooner
%matplotlib inline"""
NOBODY = "OWNER/REPO"  # until `make badges`: nothing is cloned, for it may be somebody's
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
    lines = TEMPLATE.format(slug=slug).splitlines()
    return "\n".join(line for line in lines if slug != NOBODY or "git clone" not in line)


def badge(slug: str, name: str) -> str:
    """Markdown of the badge that opens notebooks/`name` in Colab."""
    return f"[![Open in Colab]({BADGE_IMAGE})]({COLAB.format(slug=slug, name=name)})"
