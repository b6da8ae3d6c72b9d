"""Where things lie, which dataset and scale are chosen, and what machine this is."""

import json
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, files
from .errors import DataError

if TYPE_CHECKING:
    import torch  # imported where it is used: processes that draw or copy start without it

REPO = Path(__file__).resolve().parent.parent


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
    """Made by 04: checkpoints, history.csv and figures/ of one training run; DataError if its name is a path."""
    if not re.fullmatch(r"[^\\/:]*[^\\/:.][^\\/:]*", run):
        raise DataError(f"run {run!r} would not lie right in runs/{dataset}/: give it a plain name, without / \\ and :")
    return home() / "runs" / dataset / run


def shown(path: Path | str) -> str:
    """A path as it is printed: relative to home() or the repository where it lies in one of them, else its name."""
    path = Path(path).resolve()
    for root in (home(), REPO):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


def read_choice() -> dict:
    """What 01 prepared: the dataset, and of each its source and scale; an empty dict when 01 has not run yet."""
    path = data_dir() / "choice.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{shown(path)} is not JSON ({error}): delete it and run notebook 01 again") from error


def write_choice(dataset: str, source: str, scale: str | None = None) -> None:
    """Keep what 01 prepared for the other notebooks: source is 'sample' or 'release'; without a scale it stays.

    What was prepared of other datasets before is kept beside it.
    """
    choice = read_choice()
    prepared = choice.get("prepared", {})
    prepared[dataset] = prepared.get(dataset, {}) | {"source": source} | ({"scale": scale} if scale else {})
    text = json.dumps({"dataset": dataset, "prepared": prepared}, indent=1)
    files.write_atomic(data_dir() / "choice.json", text.encode())


def prepared(dataset: str) -> dict:
    """What 01 noted of a dataset: source and scale; an empty dict if it has not prepared it."""
    return read_choice().get("prepared", {}).get(dataset, {})


def chosen_dataset() -> str:
    """The dataset in use: the environment variable DATASET, else what 01 prepared, else helen."""
    return os.environ.get("DATASET") or read_choice().get("dataset", "helen")


def source(dataset: str | None = None) -> str:
    """Where the prepared data comes from: 'sample' (drawn) or 'release'."""
    return prepared(dataset or chosen_dataset()).get("source", "sample")


def default_scale(source: str) -> str:
    """The environment variable SCALE, else full for a release on a GPU, else demo."""
    full = source == "release" and pick_device().type == "cuda"
    return os.environ.get("SCALE") or ("full" if full else "demo")


def chosen_scale(dataset: str | None = None) -> str:
    """The scale in use: the environment variable SCALE, else what 01 chose, else the default."""
    dataset = dataset or chosen_dataset()
    return os.environ.get("SCALE") or prepared(dataset).get("scale") or default_scale(source(dataset))


def pick_device() -> "torch.device":
    """CUDA where there is a card, Apple's MPS where there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def cores() -> int:
    """Cores that this process may use (a container's or taskset's limit counts, not the machine's)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions that a result depends on, as plain strings."""
    import torch

    return {"helpers": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
