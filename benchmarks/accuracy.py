"""What a recipe learns in the seconds that the original way takes: real faces and CamVid, equal time, three seeds.

    RELEASE=faces python -m helpers prepare --dataset helen --scale demo
    RELEASE=camvid python -m helpers prepare --dataset camvid --scale demo
    python -m benchmarks.accuracy clock helen          # how long an epoch takes, each way; with nothing else running
    python -m benchmarks.accuracy run helen tuned 0    # a candidate and a random seed; or `original`
    python -m benchmarks.accuracy table                # results/accuracy.txt of all rows

Works on what notebook 01 prepared under UNET_HOME. The clock is measured once, quietly; a run is then so many epochs
as fit into the original way's time, so that what else runs beside it changes nothing. Every run is a row of
results/accuracy.csv; a row that is there is not run again.
"""

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import yardsticks
from benchmarks.common import RESULTS, machine, report, score_test_photos
from helpers import batches, predict, preprocess
from helpers.augment import Augment, halve, to_float, to_ids
from helpers.core import env, files
from helpers.core.registry import load_dataset
from helpers.settings import Settings, make_settings
from helpers.trainer import Trainer

ORIGINAL_EPOCHS = {"helen": 12, "camvid": 20}  # of the original way: its time is everyone's
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
    if name == "original":
        return make_settings(dataset, "original", "demo", seed=seed)
    return make_settings(dataset, "tuned", "demo", seed=seed, **CANDIDATES[name])


# --- the clock ------------------------------------------------------------------------------------------------------


def clock(dataset: str) -> dict:
    """Seconds of an epoch of the original way, of ours at full and half size by batch, of building the arrays; kept.

    A step has a part of its own beside that of each image, so that small batches take longer.
    """
    settings = settings_of(dataset, "tuned", 0)
    began = time.perf_counter()
    for split in ("train", "val"):
        preprocess.build(dataset, split, settings.shape)
    build = time.perf_counter() - began
    taken: dict[str, list[float]] = {}
    ways = epochs_of_each_way(dataset, settings)
    for turn in range(2):  # A B C A B C
        for name, epoch in ways.items():
            began = time.perf_counter()
            epoch(turn)
            taken.setdefault(name, []).append(time.perf_counter() - began)
    seconds: dict = {"build": build} | {name: float(np.median(times)) for name, times in taken.items()}
    seconds |= {changing(half): seconds_changing(settings, half) for half in (False, True)}
    known = read_clock() | {dataset: seconds | {"machine": machine()}}
    files.write_atomic(CLOCK, json.dumps(known, indent=1).encode())
    return seconds


def epochs_of_each_way(dataset: str, settings: Settings) -> dict[str, Callable[[int], object]]:
    """Name in the clock -> a function that trains the epoch of that number (from 0)."""
    original, classes = settings_of(dataset, "original", 0), len(load_dataset(dataset).classes)
    loop = yardsticks.original_way(yardsticks.network(original, classes), 4, torch.device("cpu"))
    feed = yardsticks.loader(preprocess.pairs(dataset, "train"), original, classes)
    ways: dict[str, Callable[[int], object]] = {"original": lambda turn: loop.epoch(feed)}
    for optimizer, batch in (("adamw", 4), ("adamw", 2), ("muon", 4)):
        for half in (False, True):
            chosen = settings.replace(optimizer=optimizer, batch=batch, half_size_fraction=0.9 * half, augment=0.0)
            name = kind(chosen, half)
            ways[name] = epoch_of(trainer_of(chosen, f"clock-{name}"))
    return ways


def epoch_of(trainer: Trainer) -> Callable[[int], object]:
    """A function that trains the epoch of a number."""
    return lambda turn: trainer.fit(turn + 1)


def kind(settings: Settings, half: bool) -> str:
    """Under which name the clock keeps an epoch of ours."""
    return f"{settings.optimizer}, batch {settings.batch}, {'half' if half else 'full'} size"


def changing(half: bool) -> str:
    """Under which name the clock keeps what random changes take of an epoch, in batches of 4."""
    return f"random changes, {'half' if half else 'full'} size"


def seconds_changing(settings: Settings, half: bool) -> float:
    """What an epoch of random changes takes longer than one without: the median of its batches times their number."""
    arrays = preprocess.open_arrays(settings.dataset, settings.shape)["train"]
    flip_pairs = load_dataset(settings.dataset).flip_pairs
    augment, taken = Augment(flip_pairs, settings.mean, settings.std, settings.seed, settings.augment), []
    for *batch, numbers in batches.loader(arrays, 4):
        images, labels = halve(*batch) if half else batch
        began = time.perf_counter()
        augment(images, labels, numbers, 0)
        middle = time.perf_counter()
        to_float(images, settings.mean, settings.std)
        to_ids(labels)
        taken.append(2 * middle - began - time.perf_counter())
    return float(np.median(taken)) * len(taken)


def read_clock() -> dict:
    """Dataset -> seconds, as `clock` kept them."""
    return json.loads(CLOCK.read_text()) if CLOCK.exists() else {}


def epochs_for(dataset: str, settings: Settings, share: float) -> int:
    """How many epochs fit into `share` of the original way's time, arrays and validation counted."""
    seconds = read_clock()[dataset]
    half, full = (seconds[kind(settings, h)] + seconds[changing(h)] * (settings.augment > 0) for h in (True, False))
    epoch = settings.half_size_fraction * half + (1 - settings.half_size_fraction) * full
    return int((share * ORIGINAL_EPOCHS[dataset] * seconds["original"] - seconds["build"]) / epoch)


# --- a run ----------------------------------------------------------------------------------------------------------


def trainer_of(settings: Settings, run: str) -> Trainer:
    """Ours on the arrays of 02."""
    return Trainer(settings, preprocess.open_arrays(settings.dataset, settings.shape), run)


def train(dataset: str, name: str, seed: int, share: float) -> tuple[predict.Segmenter, int]:
    """A candidate's trained network, and its epochs."""
    settings = settings_of(dataset, name, seed)
    epochs = round(share * ORIGINAL_EPOCHS[dataset]) if name == "original" else epochs_for(dataset, settings, share)
    if name == "original" and dataset == "helen":
        return original_way(settings, epochs), epochs
    # of the other datasets, loss and optimizer of `original` are in our trainer alone; both reports keep the best epoch
    trainer = trainer_of(settings.replace(epochs=epochs), f"accuracy-{name}-{seed}-{share}").fit(epochs)
    if trainer.epoch < epochs:
        sys.exit("interrupted: run it again to go on")
    return predict.load(trainer.folder / "best.pt"), epochs


def original_way(settings: Settings, epochs: int) -> predict.Segmenter:
    """The yardstick's training on faces, as their original report has it."""
    classes = len(load_dataset(settings.dataset).classes)
    model = yardsticks.network(settings, classes)
    loop = yardsticks.original_way(model, epochs, torch.device("cpu"))
    feed = yardsticks.loader(preprocess.pairs(settings.dataset, "train"), settings, classes)
    for epoch in range(epochs):
        print(f"original way, epoch {epoch + 1}: loss {loop.epoch(feed):.3f}", flush=True)
    return predict.Segmenter(model, settings)


def read_rows(path: Path) -> list[dict[str, str]]:
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
    """Whether a row of this key is kept already; printed, if so."""
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
    scores = score_test_photos(segmenter, folder)
    twice = score_test_photos(predict.Segmenter(segmenter.model, segmenter.settings, flip=True), folder)
    scores |= {f"flip {name}": twice[name] for name in (primary_metric, "small classes")}
    add_row(ROWS, key | {"epochs": epochs, "machine": machine()} | {k: f"{v:.4f}" for k, v in scores.items()})
    shown = (f"{name} {scores[name]:.4f}" for name in (primary_metric, "small classes", f"flip {primary_metric}"))
    print(*key.values(), f"{epochs} epochs:", *shown, flush=True)


# --- the table ------------------------------------------------------------------------------------------------------

Rows = list[dict[str, str]]


def table() -> list[str]:
    """For each dataset a line a candidate: mean and spread over the seeds; of whole runs each class's F1 as well."""
    groups: dict[str, dict[tuple[float, str], Rows]] = {}
    for row in read_rows(ROWS):
        of_dataset = groups.setdefault(row["dataset"], {})
        of_dataset.setdefault((float(row["share"]), row["candidate"]), []).append(row)
    lines = []
    for name, of_dataset in groups.items():
        lines += ["", *table_of(name, of_dataset)]
    return lines


def table_of(dataset_name: str, groups: dict[tuple[float, str], Rows]) -> list[str]:
    """One dataset's lines, from the worst candidate of each share to the best."""
    dataset, clocked = load_dataset(dataset_name), read_clock()[dataset_name]
    metric = dataset.primary_metric
    seconds = ", ".join(f"{k} {v:.1f} s" for k, v in clocked.items() if k != "machine")
    whole = ORIGINAL_EPOCHS[dataset_name] * clocked["original"]
    lines = [
        f"{dataset_name}: share 1 is {whole:.0f} s; an epoch takes: {seconds}",
        f"{'candidate':22}{'share':>6}{'epochs':>7}{'seeds':>6}  {metric:18}small classes     flip",
    ]
    for (share, name), rows in sorted(groups.items(), key=lambda item: (item[0][0], mean(item[1], metric))):
        cells = [f"{mean(rows, s):.4f}{spread(rows, s)}" for s in (metric, "small classes")]
        flip = f"{mean(rows, f'flip {metric}'):.4f}"
        lines.append(f"{name:22}{share:6.2f}{rows[0]['epochs']:>7}{len(rows):6}  {cells[0]:18}{cells[1]:18}{flip}")
        if share == 1:
            lines.append("    F1: " + " ".join(f"{score} {mean(rows, score):.3f}" for score in dataset.classes))
    return lines


def values(rows: Rows, score: str) -> np.ndarray:
    """A score of several rows, NaN where one has none."""
    return np.array([float(row.get(score) or "nan") for row in rows])


def mean(rows: Rows, score: str) -> float:
    """Over the rows that have it."""
    known = values(rows, score)
    return float(known[~np.isnan(known)].mean()) if not np.isnan(known).all() else float("nan")


def spread(rows: Rows, score: str) -> str:
    """Standard deviation over the seeds, as text; of a single seed nothing is known."""
    return f" +- {values(rows, score).std():.4f}" if len(rows) > 1 else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("what", choices=["clock", "run", "table"])
    parser.add_argument("dataset", nargs="?", choices=list(ORIGINAL_EPOCHS))
    parser.add_argument("candidate", nargs="?", choices=["original", *CANDIDATES])
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the original way's time")
    options = parser.parse_args()
    if options.what == "clock":
        print(clock(options.dataset))
    elif options.what == "run":
        run(options.dataset, options.candidate, options.seed, options.share)
    else:
        report(RESULTS / "accuracy.txt", [machine(), *table()])


if __name__ == "__main__":
    main()
