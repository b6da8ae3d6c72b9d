"""What a recipe learns in the seconds that the seed's way takes: real faces and CamVid, equal time, three seeds.

    RELEASE=faces python -m helpers prepare --dataset helen --scale demo
    RELEASE=camvid python -m helpers prepare --dataset camvid --scale demo
    python -m benchmarks.accuracy clock helen          # how long an epoch takes, each way; with nothing else running
    python -m benchmarks.accuracy run helen tuned 0    # a candidate and a seed; `seed` is the seed's way
    python -m benchmarks.accuracy table                # results/accuracy.txt of all rows

Works on what notebook 01 prepared under UNET_HOME. The clock is measured once, quietly; a run is then so many epochs
as fit into the seed's time, so that what else runs beside it changes nothing. Every run is a row of
results/accuracy.csv; a row that is there is not run again.
"""

import argparse
import csv
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import yardsticks
from benchmarks.recipes import RESULTS, machine
from helpers import metrics, predict, preprocess
from helpers.augment import halve, to_float, to_ids
from helpers.core import env, files
from helpers.core.registry import load_dataset
from helpers.settings import Settings, make_settings
from helpers.trainer import Trainer

SEED_EPOCHS = {"helen": 12, "camvid": 20}  # of the seed's way: its time is everyone's
ROWS, CLOCK = RESULTS / "accuracy.csv", RESULTS / "accuracy-clock.json"
# What `tuned` was before the sieve: AdamW, whole photos, batch 4, turned, zoomed, shifted and recoloured.
FIRST = dict(optimizer="adamw", batch=4, half_size_fraction=0.0, augment=1.0)
# Rows called `tuned-sheared`: `tuned` while a turn of photos that are not square was a shear as well.
# name -> changes of `tuned`: the sieve, at half the time and one seed. flip: mirrored, and next to nothing else
CANDIDATES: dict[str, dict] = {
    "tuned": {},
    "first": FIRST,
    "a0": FIRST | dict(augment=0.0),
    "early-half": FIRST | dict(half_size_fraction=0.5),
    "early-0.7": FIRST | dict(half_size_fraction=0.7),
    "early-half-lr4e-3": FIRST | dict(half_size_fraction=0.5, lr=4e-3),
    "early-half-a0": FIRST | dict(half_size_fraction=0.5, augment=0.0),
    "early-half-a0-lr1e-3": FIRST | dict(half_size_fraction=0.5, augment=0.0, lr=1e-3),
    "early-0.3-a0": FIRST | dict(half_size_fraction=0.3, augment=0.0),
    "early-half-flip": FIRST | dict(half_size_fraction=0.5, augment=1e-6),
    "early-half-flip-b2": FIRST | dict(half_size_fraction=0.5, augment=1e-6, batch=2),
    "early-0.25-a0-b2": FIRST | dict(half_size_fraction=0.25, augment=0.0, batch=2),
    "early-half-b2": FIRST | dict(half_size_fraction=0.5, batch=2),
    "early-half-a0-b2": FIRST | dict(half_size_fraction=0.5, augment=0.0, batch=2),
    "muon-a0": dict(augment=0.0),
    "muon-flip": dict(augment=1e-6),
}


def settings_of(dataset: str, name: str, seed: int) -> Settings:
    """A candidate's settings at demo size, its epochs not yet known."""
    recipe, changes = ("seed", {}) if name == "seed" else ("tuned", CANDIDATES[name])
    return make_settings(dataset, recipe, "demo", seed=seed, **changes)


# --- the clock ------------------------------------------------------------------------------------------------------


def clock(dataset: str) -> dict[str, float]:
    """Seconds an epoch of the seed's way, of ours at full and at half size by batch, and of building the arrays; kept.

    A step has a part of its own beside that of each image, so that small batches take longer.
    """
    settings = settings_of(dataset, "tuned", 0)
    pairs, classes = preprocess.pairs(dataset, "train"), len(load_dataset(dataset).classes)
    began = time.perf_counter()
    for split in ("train", "val"):
        preprocess.build(dataset, split, settings.shape)
    seconds = {"build": time.perf_counter() - began}
    seed = settings_of(dataset, "seed", 0)
    loop = yardsticks.seed_way(yardsticks.network(seed, classes), 4, torch.device("cpu"))
    batches = yardsticks.loader(pairs, seed, classes)
    steps = [dict(optimizer=optimizer, batch=batch) for optimizer, batch in (("adamw", 4), ("adamw", 2), ("muon", 4))]
    kinds = [
        settings.replace(**step, half_size_fraction=0.9 * half, augment=0.0) for step in steps for half in (False, True)
    ]
    ours = {kind(each, each.early > 0): trainer_of(each, f"clock-{kind(each, each.early > 0)}") for each in kinds}
    taken: dict[str, list[float]] = {"seed": []} | {name: [] for name in ours}
    for turn in range(2):  # A B C A B C
        for name, times in taken.items():
            began = time.perf_counter()
            loop.epoch(batches) if name == "seed" else ours[name].fit(turn + 1)
            times.append(time.perf_counter() - began)
    seconds |= {name: float(np.median(times)) for name, times in taken.items()}
    seconds |= {changing(half): seconds_changing(settings, half) for half in (False, True)}
    known = read_clock() | {dataset: seconds | {"machine": machine()}}
    files.write_atomic(CLOCK, json.dumps(known, indent=1).encode())
    return seconds


def kind(settings: Settings, half: bool) -> str:
    """Under which name the clock keeps an epoch of ours."""
    return f"{settings.optimizer}, batch {settings.batch}, {'half' if half else 'full'} size"


def changing(half: bool) -> str:
    """Under which name the clock keeps what random changes take of an epoch, in batches of 4."""
    return f"random changes, {'half' if half else 'full'} size"


def seconds_changing(settings: Settings, half: bool) -> float:
    """What an epoch of random changes takes longer than one without: the median of its batches times their number."""
    trainer, taken = trainer_of(settings.replace(batch=4), "clock-changes"), []
    for images, labels, numbers in preprocess.loader(trainer.arrays["train"], 4):
        batch = halve(images, labels) if half else (images, labels)
        began = time.perf_counter()
        trainer.augment(*batch, numbers, 0)
        middle = time.perf_counter()
        to_float(batch[0], settings.mean, settings.std)
        to_ids(batch[1])
        taken.append(2 * middle - began - time.perf_counter())
    return float(np.median(taken)) * len(taken)


def read_clock() -> dict:
    """Dataset -> seconds, as `clock` kept them."""
    return json.loads(CLOCK.read_text()) if CLOCK.exists() else {}


def epochs_for(dataset: str, settings: Settings, share: float) -> int:
    """How many epochs fit into `share` of the seed's time, arrays and validation counted."""
    seconds = read_clock()[dataset]
    half, full = (seconds[kind(settings, h)] + seconds[changing(h)] * (settings.augment > 0) for h in (True, False))
    epoch = settings.half_size_fraction * half + (1 - settings.half_size_fraction) * full
    return int((share * SEED_EPOCHS[dataset] * seconds["seed"] - seconds["build"]) / epoch)


# --- a run ----------------------------------------------------------------------------------------------------------


def trainer_of(settings: Settings, run: str) -> Trainer:
    """Ours on the arrays of 02."""
    return Trainer(settings, preprocess.open_arrays(settings.dataset, settings.shape), run)


def train(dataset: str, name: str, seed: int, share: float) -> tuple[predict.Segmenter, int]:
    """A candidate's trained network, and its epochs."""
    settings = settings_of(dataset, name, seed)
    if name == "seed":
        return seeds_way(settings, round(share * SEED_EPOCHS[dataset]))
    settings = settings.replace(epochs=epochs_for(dataset, settings, share))
    trainer = trainer_of(settings, f"accuracy-{name}-{seed}-{share}").fit(settings.epochs)
    if trainer.epoch < settings.epochs:
        sys.exit("interrupted: run it again to go on")
    return predict.load(trainer.folder / "best.pt"), settings.epochs


def seeds_way(settings: Settings, epochs: int) -> tuple[predict.Segmenter, int]:
    """The yardstick's training by the recipe of the dataset's own write-up."""
    classes = len(load_dataset(settings.dataset).classes)
    pairs = preprocess.pairs(settings.dataset, "train")
    if settings.dataset != "helen":  # its loss and optimiser are in our trainer alone
        trainer = trainer_of(settings.replace(epochs=epochs), f"accuracy-seed-{settings.seed}-{epochs}").fit(epochs)
        return predict.load(trainer.folder / "best.pt"), epochs  # both write-ups keep the best by validation
    loop = yardsticks.seed_way(yardsticks.network(settings, classes), epochs, torch.device("cpu"))
    batches = yardsticks.loader(pairs, settings, classes)
    for epoch in range(epochs):
        print(f"seed's way, epoch {epoch + 1}: loss {loop.epoch(batches):.3f}", flush=True)
    return predict.Segmenter(loop.model, settings), epochs


def score(segmenter: predict.Segmenter, folder: Path) -> dict[str, float]:
    """Every score on the test photos at their labels' own sizes."""
    dataset = segmenter.dataset
    test = preprocess.pairs(dataset.name, "test")
    faults = predict.predict_files(segmenter, {name: photo for name, photo, _ in test}, folder)
    assert not faults, faults
    _, matrices = metrics.folder_matrices(test[0][2].parent, folder, dataset, [name for name, *_ in test])
    pooled = matrices.sum(0)
    return metrics.measures(pooled, dataset) | {"mean of parts": metrics.mean_of_small_classes(pooled, dataset)}


def read_rows(path: Path) -> list[dict]:
    """All rows so far."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def add_row(path: Path, row: dict) -> None:
    """Keep a row; datasets have other scores, so that the columns are all that any row has."""
    rows = [*read_rows(path), row]
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_atomic(path, text.getvalue().encode())


def is_there(path: Path, key: dict[str, str]) -> bool:
    """Whether a row of this key is kept already; told, if so."""
    found = any(all(row[k] == v for k, v in key.items()) for row in read_rows(path))
    if found:
        print("is there already:", *key.values())
    return found


def run(dataset: str, name: str, seed: int, share: float) -> None:
    """Train, score, keep the row; nothing if it is there."""
    key = {"dataset": dataset, "candidate": name, "seed": str(seed), "share": str(share)}
    if is_there(ROWS, key):
        return
    segmenter, epochs = train(dataset, name, seed, share)
    folder = env.home() / "accuracy" / f"{dataset}-{name}-{seed}-{share}"
    primary_metric = load_dataset(dataset).primary_metric
    scores = score(segmenter, folder)
    twice = score(predict.Segmenter(segmenter.model, segmenter.settings, flip=True), folder)
    scores |= {f"flip {name}": twice[name] for name in (primary_metric, "mean of parts")}
    add_row(ROWS, key | {"epochs": epochs, "machine": machine()} | {k: f"{v:.4f}" for k, v in scores.items()})
    told = (f"{name} {scores[name]:.4f}" for name in (primary_metric, "mean of parts", f"flip {primary_metric}"))
    print(*key.values(), f"{epochs} epochs:", *told, flush=True)


# --- the table ------------------------------------------------------------------------------------------------------


def table() -> str:
    """For each dataset a line a candidate: mean and spread over the seeds; of whole runs each class's F1 as well."""
    lines, groups = [], {}
    for row in read_rows(ROWS):
        groups.setdefault((row["dataset"], float(row["share"]), row["candidate"]), []).append(row)
    for dataset in dict.fromkeys(name for name, *_ in groups):
        row, clocked = load_dataset(dataset), read_clock()[dataset]
        seconds = ", ".join(f"{k} {v:.1f} s" for k, v in clocked.items() if k != "machine")
        lines += [
            "",
            f"{dataset}: share 1 is {SEED_EPOCHS[dataset] * clocked['seed']:.0f} s; an epoch takes: {seconds}",
        ]
        lines.append(
            f"{'candidate':22}{'share':>6}{'epochs':>7}{'seeds':>6}  {row.primary_metric:18}mean of parts     flip"
        )
        mine = {key[1:]: rows for key, rows in groups.items() if key[0] == dataset}
        for (share, name), rows in sorted(
            mine.items(), key=lambda item: (item[0][0], mean(item[1], row.primary_metric))
        ):
            cells = [f"{mean(rows, s):.4f}{spread(rows, s)}" for s in (row.primary_metric, "mean of parts")]
            flip = f"{mean(rows, f'flip {row.primary_metric}'):.4f}"
            lines.append(f"{name:22}{share:6.2f}{rows[0]['epochs']:>7}{len(rows):6}  {cells[0]:18}{cells[1]:18}{flip}")
            if share == 1:
                lines.append("    F1: " + " ".join(f"{score} {mean(rows, score):.3f}" for score in row.classes))
    return "\n".join(lines)


def values(rows: list[dict], score: str) -> np.ndarray:
    """A score of several rows, NaN where one has none."""
    return np.array([float(row.get(score) or "nan") for row in rows])


def mean(rows: list[dict], score: str) -> float:
    """Over the rows that have it."""
    known = values(rows, score)
    return float(known[~np.isnan(known)].mean()) if not np.isnan(known).all() else float("nan")


def spread(rows: list[dict], score: str) -> str:
    """Standard deviation over the seeds, in words; of a single seed nothing is known."""
    return f" +- {values(rows, score).std():.4f}" if len(rows) > 1 else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("what", choices=["clock", "run", "table"])
    parser.add_argument("dataset", nargs="?", choices=list(SEED_EPOCHS))
    parser.add_argument("candidate", nargs="?", choices=["seed", *CANDIDATES])
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the seed's time")
    options = parser.parse_args()
    if options.what == "clock":
        print(clock(options.dataset))
    elif options.what == "run":
        run(options.dataset, options.candidate, options.seed, options.share)
    else:
        text = f"{machine()}\n{table()}\n"
        files.write_atomic(RESULTS / "accuracy.txt", text.encode())
        print(text)


if __name__ == "__main__":
    main()
