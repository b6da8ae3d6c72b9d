"""A run's whole state and a network's export: written whole or not at all, read without running any code."""

import io
import os
import pickle
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import torch

from . import catalog, env, files, unet
from .errors import CheckpointError, UNetError

EXPORT = "unet-export-1"  # what `kind` says in an export
# What torch.load raises on files cut or altered anywhere, as found by altering some thousand of them
DAMAGED = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, zipfile.BadZipFile)
LIMIT = 1 << 30  # bytes that are taken from an address at most


def save(path: Path, state: dict) -> None:
    """Write `state` (tensors and plain values) to `path`; the file that was there before is kept as previous.pt."""
    with files.atomic(path.with_suffix(".new")) as file:
        torch.save(state, file)
    if path.exists():
        os.replace(path, path.with_name("previous.pt"))
    os.replace(path.with_suffix(".new"), path)


def read(source: Path | io.BytesIO, name: str) -> dict:
    """Read tensors and plain values, on the CPU; CheckpointError if damaged or if it holds anything else (code)."""
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{name}: refused, it holds more than weights and plain values, or is damaged; "
                              "take it from its author again") from error  # fmt: skip
    except DAMAGED as error:
        reason = files.why(error, source) if isinstance(source, Path) else error
        raise CheckpointError(f"{name}: cannot be read ({reason}); delete it or take a fresh copy") from error


def latest(folder: Path) -> tuple[dict, str] | None:
    """State of last.pt, or of previous.pt if that one is damaged, with a line that says which; None if neither exists.

    CheckpointError if there are files but none can be read: a run is never started over silently.
    """
    faults = []
    for name in ("last.new", "last.pt", "previous.pt"):  # the first is whole, but a kill came before its renaming
        if not (folder / name).exists():
            continue
        try:
            state = read(folder / name, name)
        except CheckpointError as error:
            faults.append(str(error))
            continue
        return state, "; ".join([*faults, f"going on from {name}"])
    if faults:
        raise CheckpointError(f"{env.shown(folder)}: {'; '.join(faults)}; or give the run another name")
    return None


def write_export(
    path: Path, weights: dict, settings: catalog.Settings, scores: dict[str, float], trained_on: str
) -> None:
    """Write what a stranger needs to use the network: weights (fp16; norms' statistics fp32), classes, settings."""
    half = {k: v.half() if v.ndim > 1 else v for k, v in weights.items()}  # a variance may not fit into fp16
    dataset = catalog.dataset(settings.dataset)
    state = {
        "kind": EXPORT,
        "weights": {k: v.cpu().contiguous() for k, v in half.items()},
        "classes": list(dataset.classes),
        "colors": [list(color) for color in dataset.colors],
        "settings": settings.asdict(),
        "scores": scores,
        "trained_on": trained_on,
        "versions": env.versions(),
    }
    with files.atomic(path) as file:
        torch.save(state, file)


def fetch(address: str) -> io.BytesIO:
    """Download an export into memory; CheckpointError if there is no network or it is too large."""
    try:
        with urllib.request.urlopen(address, timeout=30) as response:
            data = response.read(LIMIT + 1)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise CheckpointError(
            f"{address}: cannot be downloaded ({error}); download it by hand and give its path"
        ) from (error)
    if len(data) > LIMIT:
        raise CheckpointError(f"{address}: larger than {LIMIT >> 20} MiB, so not an export of this project")
    return io.BytesIO(data)


def read_export(where: Path | str) -> tuple[unet.UNet, catalog.Settings, dict]:
    """Path or http(s) address of an export -> network in evaluation mode, its settings, and all that the file holds."""
    where = str(where)
    name = where.rsplit("/", 1)[-1]
    remote = where.startswith(("http://", "https://", "file://"))
    state = read(fetch(where) if remote else Path(where), name)
    if not isinstance(state, dict) or state.get("kind") != EXPORT:
        raise CheckpointError(f"{name}: not an export of this project; write one with trainer.export(path)")
    try:
        settings = catalog.Settings(**state["settings"])
        model = unet.build(settings, len(state["classes"]))
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state["weights"].items()})
    except (RuntimeError, TypeError, LookupError, AttributeError, UNetError) as error:
        raise CheckpointError(f"{name}: weights do not fit the network it describes; take a fresh copy") from error
    return model.eval(), settings, state
