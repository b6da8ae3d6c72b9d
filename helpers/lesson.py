"""How notebooks 02 to 06 begin: with the data of 01 and the weights of 04, made here where they are missing."""

from . import predict, preprocess
from .core import choice, env
from .core.errors import DataError
from .settings import SAMPLES, Settings, chosen
from .sources import restructure
from .trainer import Trainer, run_name


def prepare(dataset: str, scale: str | None = None, why: str = "") -> restructure.Result:
    """Do what notebook 01 does: find a release, or make a synthetic sample, say which, and write its sound samples."""
    release = restructure.find_release(dataset, SAMPLES[scale or choice.default_scale("synthetic")])
    print(why + release.where)
    return restructure.restructure(dataset, release, scale=scale or choice.default_scale(release.source))


def begin(trained: bool = False) -> Settings:
    """Settings for what 01 prepared; where it has not run, its work is done first, and a line says so.

    trained: see that there are weights, too: those of 04, those that come with the project, or one epoch's.
    """
    dataset = choice.chosen_dataset()
    if not preprocess.is_whole(env.split_dir(dataset)):
        prepare(dataset, why="01_restructure_data has not run, so we do its work first. ")
    settings = chosen()
    try:
        if trained:
            predict.find_weights(dataset, run_name(settings))
    except DataError:
        print(
            "04_dice_train has finished no epoch, so we train one first: expect rough results. 04 goes on from there."
        )
        Trainer(settings, preprocess.open_arrays(dataset, settings.shape)).fit(1)
    return settings
