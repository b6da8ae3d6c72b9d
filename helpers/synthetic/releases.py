"""The writers of synthetic releases, by dataset."""

from collections.abc import Callable
from pathlib import Path

from . import faces, streets

WRITERS: dict[str, Callable[[Path, int, int], Path]] = {"helen": faces.write_helen, **streets.WRITERS}
