"""The two recipes on the same data at the same size: histories, and F1 on the test photos.

    SCALE=demo python -m benchmarks.recipes

Works on what notebook 01 prepared under UNET_HOME, in runs of its own. Goes on where it was stopped. Writes
benchmarks/results/recipes.csv (the histories, which notebook 04 draws) and recipes.txt (scores, machine, versions,
date); for other data than drawn faces recipes-<dataset>-<source>.csv and .txt.
"""

import csv
import datetime
import io
import os
import platform

from helpers import metrics, predict, preprocess
from helpers.core import choice, env, files, hardware
from helpers.settings import make_settings
from helpers.trainer import Trainer

RESULTS = env.REPO / "benchmarks" / "results"


def trained(recipe: str) -> Trainer:
    """A finished training of the recipe at the chosen scale."""
    settings = make_settings(choice.chosen_dataset(), recipe, choice.chosen_scale())
    run = f"benchmark-{recipe}-{settings.scale}-{choice.source()}"
    trainer = Trainer(settings, preprocess.open_arrays(settings.dataset, settings.shape), run).fit(settings.epochs)
    if trainer.epoch < settings.epochs and not trainer.ended_early:
        raise SystemExit("interrupted: run it again to go on")
    return trainer


def test_scores(trainer: Trainer) -> dict[str, float]:
    """Scores of the best epoch's weights on the test photos at their own sizes."""
    test = preprocess.pairs(trainer.dataset.name, "test")
    out = trainer.folder / "predictions"
    faults = predict.predict_files(predict.load(trainer.folder / "best.pt"), {i: photo for i, photo, _ in test}, out)
    assert not faults, faults
    _, matrices = metrics.folder_matrices(test[0][2].parent, out, trainer.dataset, [i for i, *_ in test])
    pooled = matrices.sum(0)
    table, parts = metrics.measures(pooled, trainer.dataset), metrics.mean_of_small_classes(pooled, trainer.dataset)
    return table | {"mean F1 of parts": parts}


def machine() -> str:
    """One line: date, processor, cores, versions."""
    versions = ", ".join(f"{k} {v}" for k, v in hardware.versions().items())
    return (
        f"{datetime.date.today()}, {platform.machine()}, {hardware.cores()} cores, {hardware.pick_device()}, {versions}"
    )


def histories(trainers: dict[str, Trainer]) -> str:
    """All rows as CSV with a column `run`."""
    text = io.StringIO()
    rows = [{"run": name} | row for name, trainer in trainers.items() for row in trainer.history]
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    """Train both, score both, write both files."""
    trainers = {recipe: trained(recipe) for recipe in ("tuned", "seed")}
    scores = {recipe: test_scores(trainer) for recipe, trainer in trainers.items()}
    settings = trainers["tuned"].settings
    rows, columns = settings.shape
    told = (f"{recipe} batch {t.settings.batch}, {t.epoch} epochs" for recipe, t in trainers.items())
    sizes = f"{rows} x {columns} px, width {settings.width}; {'; '.join(told)}"
    counts = ", ".join(f"{len(part)} {split}" for split, part in trainers["tuned"].arrays.items())
    lines = [machine(), f"{settings.dataset} ({choice.source()}): {counts}; {sizes}", f"{'':22}{'tuned':>8}{'seed':>8}"]
    lines += [f"{name:22}{scores['tuned'][name]:8.4f}{scores['seed'][name]:8.4f}" for name in scores["tuned"]]
    drawn_faces = (settings.dataset, choice.source()) == ("helen", "synthetic")
    name = "recipes" if drawn_faces else f"recipes-{settings.dataset}-{choice.source()}"
    files.write_atomic(RESULTS / f"{name}.txt", ("\n".join(lines) + "\n").encode())
    files.write_atomic(RESULTS / f"{name}.csv", histories(trainers).encode())
    print(*lines, sep=os.linesep)


if __name__ == "__main__":
    main()
