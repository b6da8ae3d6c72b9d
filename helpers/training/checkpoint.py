"""A run's whole state: written whole or not at all, read without running any code."""

import contextlib
import io
import lzma
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch

from ..core import env, files
from ..core.errors import CheckpointError

# What torch.load raises on files cut or altered anywhere, as found by altering some thousand of them
OF_PICKLE = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, struct.error)
DAMAGED = (*OF_PICKLE, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """An error of writing `path` as a CheckpointError with its remedy; torch says RuntimeError where a disk is full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        fault = f"{env.shown(path)} cannot be written ({getattr(error, 'strerror', None) or 'only a part was written'})"
        remedy = "earlier checkpoints are intact and training can go on; make room and run fit again"
        raise CheckpointError(f"{fault}: {remedy}") from error


def save(path: Path, state: dict, best: bool = False, rotate: bool = True) -> None:
    """Write `state` (tensors and plain values) to `path`, fsynced; the file before it is kept as previous.pt.

    best: best_state.pt becomes the same file. rotate=False: previous.pt stays as it is. A CheckpointError, or a kill
    at any moment, leaves the files that were there.
    """
    new = path.with_suffix(".new")
    with explained(path):
        with files.atomic(new) as file:
            torch.save(state, file)
        if best:
            files.link(new, path.with_name("best_state.pt"))
        if rotate and path.exists():
            os.replace(path, path.with_name("previous.pt"))
        os.replace(new, path)


def check_sums(source: Path | io.BytesIO, name: str) -> None:
    """CheckpointError if a member of torch's zip is not what was written.

    torch.load itself takes a weight whose bits have changed for what it is, and a member whose attributes have
    changed into a folder's for uninitialised memory.
    """
    with zipfile.ZipFile(source) as archive:
        odd = [info.filename for info in archive.infolist() if info.external_attr or info.compress_type]
        if bad := archive.testzip() or next(iter(odd), None):
            raise CheckpointError(f"{name}: damaged ({bad} is not as written); delete it or take a fresh copy")


def read(source: Path | io.BytesIO, name: str) -> dict:
    """Read tensors and plain values, on the CPU; CheckpointError if damaged or if it holds anything else (code)."""
    if isinstance(source, Path) and not source.is_file():
        raise CheckpointError(f"{source}: no such file; correct the path, or train first")
    try:
        if zipfile.is_zipfile(source):
            check_sums(source, name)
        if isinstance(source, io.BytesIO):
            source.seek(0)
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        fault = "refused, it holds more than weights and plain values, or is damaged"
        raise CheckpointError(f"{name}: {fault}; take it from its author again") from error
    except DAMAGED as error:
        reason = files.why(error, source) if isinstance(source, Path) else error
        raise CheckpointError(f"{name}: cannot be read ({reason}); delete it or take a fresh copy") from error


def candidates(folder: Path, names: tuple[str, ...], faults: list[str]) -> Iterator[tuple[str, dict]]:
    """The readable ones of the files, with their names; what is wrong with the others goes into `faults`."""
    for name in names:
        if not (folder / name).exists():
            continue
        try:
            yield name, read(folder / name, name)
        except CheckpointError as error:
            faults.append(str(error))


# The first is whole, but a kill came before it was renamed to last.pt.
NEWEST_FIRST = ("last.new", "last.pt", "previous.pt")


def latest(folder: Path) -> tuple[dict, str] | None:
    """State of last.pt, or of previous.pt if that one is damaged, with a line that says which; None if neither exists.

    CheckpointError if there are files but none can be read: a run is never started over silently.
    """
    faults: list[str] = []
    for name, state in candidates(folder, NEWEST_FIRST, faults):
        if name == "previous.pt" and not faults and (folder / "last.pt").exists():
            return latest(folder)  # looked at between the two renames of another process
        return state, "; ".join([*faults, f"going on from {name}"])
    if faults:
        raise CheckpointError(f"{env.shown(folder)}: {'; '.join(faults)}; or give the run another name")
    return None


def before(folder: Path, step: int) -> dict | None:
    """The newest readable state of an earlier step than `step`; None if there is none."""
    found = [state for _, state in candidates(folder, NEWEST_FIRST, []) if state.get("step", step) < step]
    return max(found, key=lambda state: state["step"], default=None)


def best(folder: Path) -> dict | None:
    """The state at the end of the best epoch; None if no epoch was finished. CheckpointError if it is damaged."""
    path = folder / "best_state.pt"
    return read(path, path.name) if path.exists() else None
