"""What notebook 01 does in one call, and how notebooks 02 to 06 begin: it is done first where it is missing."""

from .. import preprocess
from ..core import choice
from ..settings import SAMPLES, Settings, chosen
from . import restructure


def prepare(dataset: str, scale: str | None = None, why: str = "") -> restructure.Result:
    """Find a release, or make a synthetic sample, say which, and write its sound samples."""
    release = restructure.find_release(dataset, SAMPLES[scale or choice.default_scale("synthetic")])
    print(why + release.where)
    return restructure.restructure(dataset, release, scale=scale or choice.default_scale(release.source))


def begin() -> Settings:
    """Settings for what 01 prepared; where it has not run, its work is done first, and a line says so."""
    dataset = choice.chosen_dataset()
    if preprocess.read_manifest(dataset).get("complete") is not True:
        prepare(dataset, why="01_restructure_data has not run, so we do its work first. ")
    return chosen()
