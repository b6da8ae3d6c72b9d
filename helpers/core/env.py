"""Where things lie, which dataset and scale are chosen, and what machine this is."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def home() -> Path:
    """The root under which every run writes: UNET_HOME if set, else the repository."""
    return Path(os.environ.get("UNET_HOME") or REPO).expanduser().resolve()


def data_dir() -> Path:
    """Where releases are put and prepared data lies."""
    return home() / "data"


def split_dir(dataset: str) -> Path:
    """Made by 01: {train,val,test}/{images,labels}."""
    return data_dir() / "splitted_data" / dataset


def array_dir(dataset: str, shape: tuple[int, int]) -> Path:
    """Made by 02: one folder of memory-mapped uint8 arrays for each split; shape is rows and columns."""
    rows, columns = shape
    return data_dir() / "arrays" / dataset / (str(rows) if rows == columns else f"{rows}x{columns}")


def run_dir(dataset: str, run: str) -> Path:
    """Made by 04: checkpoints, history.csv and figures/ of one training run."""
    return home() / "runs" / dataset / run


def shown(path: Path | str) -> str:
    """A path as it is printed: relative to home() or the repository where it lies in one of them, else its name."""
    path = Path(path).resolve()
    for root in (home(), REPO):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name
