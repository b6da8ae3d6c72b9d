"""A network's export, what others need to use it: weights, classes, settings. Read without running any code."""

import io
import urllib.request
from pathlib import Path

import torch
from torch import Tensor

from .. import unet
from ..core import files, hardware
from ..core.errors import CheckpointError, UNetError
from ..core.registry import load_dataset
from ..settings import Settings
from . import checkpoint

EXPORT = "unet-export-2"  # what `kind` says in an export


def to_half(weights: Tensor) -> Tensor:
    """A kernel in fp16; a vector, such as a norm's variances, and what does not fit into fp16 stay as they are."""
    half = weights.half() if weights.ndim > 1 else weights
    return half if half.isfinite().all() else weights


def write_export(
    path: Path, weights: dict[str, Tensor], settings: Settings, scores: dict[str, float], trained_on: str
) -> None:
    """Write an export: weights in fp16 (a norm's parameters and statistics in fp32), classes, colours, settings."""
    dataset = load_dataset(settings.dataset)
    state = {
        "kind": EXPORT,
        "weights": {k: to_half(v).cpu().contiguous() for k, v in weights.items()},
        "classes": list(dataset.classes),
        "colors": [list(color) for color in dataset.colors],
        "settings": settings.asdict(),
        "scores": scores,
        "trained_on": trained_on,
        "versions": hardware.versions(),
    }
    with files.atomic(path) as file:
        torch.save(state, file)


def read_export(where: Path | str) -> tuple[unet.UNet, Settings, dict]:
    """Path or http(s) address of an export -> network in evaluation mode, its settings, and all that the file holds.

    CheckpointError if it is missing, damaged, or not an export.
    """
    name = str(where).rsplit("/", 1)[-1]
    remote = str(where).startswith(("http://", "https://", "file://"))
    state = checkpoint.read(fetch(str(where)) if remote else Path(where), name)
    if not isinstance(state, dict) or state.get("kind") != EXPORT:
        raise CheckpointError(f"{name}: not an export of this project; write one with trainer.export(path)")
    try:
        settings = Settings(**state["settings"])
        model = unet.build(settings, len(state["classes"]))
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state["weights"].items()})
    except (RuntimeError, TypeError, LookupError, AttributeError, UNetError) as error:
        raise CheckpointError(f"{name}: weights do not fit the network it describes; take a fresh copy") from error
    return model.eval(), settings, state


def fetch(address: str) -> io.BytesIO:
    """Download an export into memory; CheckpointError if there is no network."""
    try:
        with urllib.request.urlopen(address, timeout=30) as response:
            return io.BytesIO(response.read())
    except OSError as error:  # URLError, TimeoutError and ConnectionError are
        remedy = "download it by hand and give its path"
        raise CheckpointError(f"{address}: cannot be downloaded ({error}); {remedy}") from error
