"""A dataset by its name: of the catalogue, or registered by the reader."""

import hashlib
import json
import re

from .. import catalog
from . import env
from .errors import DataError, UNetError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def load_dataset(name: str) -> catalog.Dataset:
    """The row of the catalogue, or a dataset of the reader's own (custom.register); UNetError names the choices."""
    if name in catalog.CATALOG:
        return catalog.CATALOG[name]
    if row := load_registered(name):
        return row
    raise UNetError(f"no dataset called {name!r}: choose one of {', '.join(catalog.CATALOG)}, or register your own")


def rules(row: catalog.Dataset) -> str:
    """A digest of all that decides what a pixel of a photo or mask means: labels made by other rules are not used."""
    table = [(r.color, r.maps_to) for r in row.table]
    text = json.dumps([row.classes, table, row.levels, row.tolerance, row.threshold, row.white])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_registered(name: str) -> catalog.Dataset | None:
    """A registered dataset; None if there is none of this name."""
    path = env.data_dir() / "datasets" / f"{name}.json"
    if not NAME.fullmatch(name) or not path.exists():
        return None
    try:
        kept = json.loads(path.read_text())
        kept.pop("given", None)  # what the reader said beside the folder, for custom.refresh
        for key in ("classes", "small_classes"):
            kept[key] = tuple(kept[key])
        for key in ("colors", "flip_pairs", "levels"):
            kept[key] = tuple(tuple(item) for item in kept[key])
        kept["groups"] = {group: tuple(ids) for group, ids in kept["groups"].items()}
        kept["table"] = tuple(catalog.Row(r["name"], tuple(r["color"]), r["maps_to"]) for r in kept["table"])
        return catalog.Dataset(**kept)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{env.shown(path)} is damaged ({error}): register the dataset again") from error
