"""Which dataset, source and scale notebook 01 prepared; the other notebooks follow it."""

import json
import os

from . import env, hardware
from .errors import DataError


def read_choice() -> dict:
    """What 01 prepared: the dataset, and of each its source and scale; an empty dict when 01 has not run yet."""
    path = env.data_dir() / "choice.json"
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DataError(f"{env.shown(path)} is not JSON ({error}): delete it and run notebook 01 again") from error


def prepared(dataset: str) -> dict:
    """What 01 noted of a dataset: source and scale; an empty dict if it has not prepared it."""
    return read_choice().get("prepared", {}).get(dataset, {})


def chosen_dataset() -> str:
    """The dataset in use: the environment variable DATASET, else what 01 prepared, else helen."""
    return os.environ.get("DATASET") or read_choice().get("dataset", "helen")


def source(dataset: str | None = None) -> str:
    """Where the prepared data comes from: 'synthetic' or 'release'."""
    kept = prepared(dataset or chosen_dataset()).get("source", "synthetic")
    return "synthetic" if kept == "sample" else kept  # its name in version 0.1.0


def default_scale(source: str) -> str:
    """The environment variable SCALE, else full for a release on a GPU, else demo."""
    full = source == "release" and hardware.pick_device().type == "cuda"
    return os.environ.get("SCALE") or ("full" if full else "demo")


def chosen_scale(dataset: str | None = None) -> str:
    """The scale in use: the environment variable SCALE, else what 01 chose, else the default."""
    dataset = dataset or chosen_dataset()
    return os.environ.get("SCALE") or prepared(dataset).get("scale") or default_scale(source(dataset))
