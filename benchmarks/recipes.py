"""The two recipes on the same data at the same size: histories, and F1 on the test photos.

    SCALE=demo python -m benchmarks.recipes

Works on what notebook 01 prepared under UNET_HOME, in runs of its own. Goes on where it was stopped. Writes
benchmarks/results/recipes.csv (the histories, which notebook 04 plots) and recipes.txt (scores, machine, versions,
date); for other data than synthetic faces recipes-<dataset>-<source>.csv and .txt.
"""

import csv
import io

from benchmarks.common import RESULTS, machine, report, score_test_photos
from helpers import predict, preprocess
from helpers.core import choice, files
from helpers.settings import make_settings
from helpers.trainer import Trainer

RECIPES = ("tuned", "original")


def trained(recipe: str) -> Trainer:
    """A finished training of the recipe at the chosen scale."""
    settings = make_settings(choice.chosen_dataset(), recipe, choice.chosen_scale())
    run = f"benchmark-{recipe}-{settings.scale}-{choice.source()}"
    trainer = Trainer(settings, preprocess.open_arrays(settings.dataset, settings.shape), run).fit(settings.epochs)
    if trainer.epoch < settings.epochs and not trainer.ended_early:
        raise SystemExit("interrupted: run it again to go on")
    return trainer


def histories(trainers: dict[str, Trainer]) -> str:
    """All rows as CSV with a column `run`."""
    text = io.StringIO()
    rows = [{"run": name} | row for name, trainer in trainers.items() for row in trainer.history]
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """Train both, score the best epoch's weights of both, write both files."""
    trainers = {recipe: trained(recipe) for recipe in RECIPES}
    scores = {
        recipe: score_test_photos(predict.load(trainer.folder / "best.pt"), trainer.folder / "predictions")
        for recipe, trainer in trainers.items()
    }
    settings, arrays = trainers["tuned"].settings, trainers["tuned"].arrays
    rows, columns = settings.shape
    counts = ", ".join(f"{len(part)} {split}" for split, part in arrays.items())
    lengths = "; ".join(f"{recipe} batch {t.settings.batch}, {t.epoch} epochs" for recipe, t in trainers.items())
    size = f"{rows} x {columns} px, width {settings.width}"
    lines = [
        machine(),
        f"{settings.dataset} ({choice.source()}): {counts}; {size}; {lengths}",
        f"{'':22}{'tuned':>8}{'original':>10}",
    ]
    lines += [f"{name:22}{value:8.4f}{scores['original'][name]:10.4f}" for name, value in scores["tuned"].items()]
    synthetic_faces = (settings.dataset, choice.source()) == ("helen", "synthetic")
    name = "recipes" if synthetic_faces else f"recipes-{settings.dataset}-{choice.source()}"
    files.write_atomic(RESULTS / f"{name}.csv", histories(trainers).encode())
    report(RESULTS / f"{name}.txt", lines)


if __name__ == "__main__":
    main()
