"""A network's export, what others need to use it or to start from it: weights, classes, settings. It holds no code."""

import io
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .. import unet
from ..core import files, hardware
from ..core.errors import CheckpointError, TrainingError, UNetError
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
        "flip_pairs": [list(pair) for pair in dataset.flip_pairs],
        "groups": {name: list(ids) for name, ids in dataset.groups.items()},
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


@torch.no_grad()
def take_over(model: unet.UNet, settings: Settings, classes: Sequence[str], where: Path | str) -> str:
    """Copy into `model` what fits of an export (path or address) -> a line that names what was taken and what is new.

    A tensor fits by name and shape, whatever the input size; the last layer goes class by class, by name.
    TrainingError if nothing fits, CheckpointError if it is no export.
    """
    donor, theirs, about = read_export(where)
    given, mine = donor.state_dict(), model.state_dict()
    body = [key for key in mine if mine[key].is_floating_point() and not key.startswith("out.")]
    fits = [key for key in body if key in given and given[key].shape == mine[key].shape]
    if not fits:
        raise TrainingError(
            f"nothing in {where} fits: its network has width {theirs.width} and depth {theirs.depth}, this one width "
            f"{settings.width} and depth {settings.depth}; train one of the same, or start from other weights"
        )
    for key in fits:
        mine[key].copy_(given[key])
    shared = [name for name in classes if name in about["classes"]]
    if given["out.weight"].shape[1:] != mine["out.weight"].shape[1:]:
        shared = []
    for name in shared:
        for key in ("out.weight", "out.bias"):
            mine[key][classes.index(name)] = given[key][about["classes"].index(name)]
    new = [key for key in body if key not in fits] + [f"class {name}" for name in classes if name not in shared]
    line = f"starts from {where} ({about['trained_on']}): takes over {len(fits)} of {len(body)} tensors"
    line += f" and the classes {', '.join(shared)}" if shared else ""
    if (theirs.mean, theirs.std) != (settings.mean, settings.std):
        line += f"; its photos were normalised with mean {theirs.mean:g} and deviation {theirs.std:g}"
    return f"{line}; new: {', '.join(new) or 'nothing'}"
