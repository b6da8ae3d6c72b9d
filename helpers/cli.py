"""The command line: what the notebooks do, without a notebook. `python -m helpers VERB -h` explains each verb."""

import argparse
import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from . import metrics, predict, preprocess
from .catalog import CATALOG, Dataset
from .core import choice, distributed, env, files, masks, photo_files
from .core.errors import DataError, UNetError
from .core.registry import load_dataset
from .settings import SCALES, Settings, make_settings
from .sources import custom, download, restructure
from .sources.prepare import prepare as prepare_data
from .trainer import Trainer

INTERRUPTED = 130  # the exit status that a shell gives to what Ctrl-C ended


def prepare(options: argparse.Namespace) -> int:
    """Do what notebook 01 does: find a release, check it, and copy its sound samples to data/splitted_data/.

    The release lies in data/, or where the environment variable RELEASE points; without one, synthetic samples are
    made. The same command once more repairs what is missing.
    """
    dataset = custom.register(options.own).name if options.own else options.dataset
    result = prepare_data(dataset, options.scale)
    print(restructure.table(result.findings))
    print(", ".join(f"{count} {split}" for split, count in result.counts.items()))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train on the data that `prepare` or notebook 01 prepared. The same command goes on where it stopped.

    Ctrl-C saves and stops. On several GPUs, or in several processes: torchrun --nproc-per-node 2 -m helpers train ...
    The batch is the whole batch, of which each rank takes its share.
    """
    scale = options.scale or choice.chosen_scale(options.dataset)
    settings = make_settings(options.dataset, options.recipe, scale, **parse_changes(options.set))
    with distributed.process_group():
        finished = fit(settings, options.run, options.start)
    # torchrun would take any other status for a fault, and start all ranks anew
    return 0 if finished or distributed.is_launched() else INTERRUPTED


def fit(settings: Settings, run: str | None, start: str | None) -> bool:
    """Train to the end, alone or as one of several ranks -> whether it got there. No Trainer outlives this call."""
    arrays = distributed.local_first(lambda: preprocess.open_arrays(settings.dataset, settings.shape))
    trainer = Trainer(settings, arrays, run, start=start)
    trainer.fit(settings.epochs)
    return trainer.epoch >= settings.epochs or trainer.ended_early


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """['lr=5e-4', 'epochs=3'] -> {'lr': 0.0005, 'epochs': 3}, each in its field's type; UNetError names the fields."""
    defaults = Settings().asdict()
    changes = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in defaults or not text:
            raise UNetError(f"--set {pair}: give NAME=VALUE with NAME one of {', '.join(defaults)}")
        kind = type(defaults[name])
        try:
            changes[name] = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError) as error:
            raise UNetError(f"--set {pair}: the value is not of the field's type ({kind.__name__})") from error
    return changes


def predict_photos(options: argparse.Namespace) -> int:
    """Write a label map for each photo, given as a file or in a folder: a PNG of class ids at the photo's own size.

    A photo that cannot be read is named and left out, and the exit status is 1.
    """
    photos = photo_files.name_photos(options.photos, options.out, options.recursive)
    if options.colors and any(name.startswith("colors/") for name in photos):
        raise DataError("a folder of photos is called colors, like the one that --colors writes: rename it")
    segmenter, start = predict.load(options.weights, flip=options.flip), time.perf_counter()
    faults = predict.predict_files(segmenter, photos, options.out)
    for fault in faults.values():
        print(f"left out: {fault}", file=sys.stderr)
    written = [name for name in photos if name not in faults]
    if options.colors:  # class ids themselves look black
        for name in written:
            label = masks.read_label(options.out / f"{name}.png", len(segmenter.dataset.classes))
            path = options.out / "colors" / f"{name}.png"
            with predict.writing(path), files.atomic(path) as file:
                Image.fromarray(masks.colorize(label, segmenter.dataset)).save(file, format="PNG")
    print(f"{len(written)} label maps in {options.out}, {len(written) / (time.perf_counter() - start):.1f} images/s")
    return 1 if faults else 0


def score(options: argparse.Namespace) -> int:
    """Print the scores of a run's best weights on a split, or of a folder of label maps against the true ones."""
    if (options.run is None) == (options.prediction is None):
        options.parser.error("give TRUTH_DIR and PREDICTION_DIR, or --run NAME")
    dataset = load_dataset(options.dataset)
    if options.run:
        matrices, scored = run_matrices(dataset, options.run, options.split), f"run {options.run}, {options.split}"
    else:
        _, matrices = metrics.folder_matrices(options.truth, options.prediction, dataset)
        scored = options.prediction.name
    pooled = matrices.sum(0)
    print(f"# {dataset.name}, {scored}: {len(matrices)} label maps")
    print(metrics.lines(metrics.scores(pooled, dataset)))
    print(f"mean_of_small_classes={metrics.mean_of_small_classes(pooled, dataset):.4f}")
    print(f"mean_iou={float(metrics.mean_iou(pooled)):.4f}\naccuracy={float(metrics.accuracy(pooled)):.4f}")
    return 0


def run_matrices(dataset: Dataset, run: str, split: str) -> np.ndarray:
    """Predict a split's photos with a run's best weights into its folder -> int64[N,C,C]; DataError names a fault."""
    weights, pairs = run_weights(dataset.name, run), preprocess.pairs(dataset.name, split)
    out = weights.parent / "predictions" / split
    segmenter = predict.load(weights)
    if segmenter.dataset.classes != dataset.classes:  # registered anew since
        known = ", ".join(segmenter.dataset.classes)
        raise DataError(f"{env.shown(weights)} was trained on other classes ({known}): train again, as another --run")
    faults = predict.predict_files(segmenter, {name: photo for name, photo, _ in pairs}, out)
    if faults:
        raise DataError(f"{len(faults)} photos cannot be predicted, first {next(iter(faults.values()))}")
    return metrics.folder_matrices(pairs[0][2].parent, out, dataset, [name for name, *_ in pairs])[1]


def run_weights(dataset: str, run: str) -> Path:
    """The export of a run's best epoch; DataError if it has none."""
    weights = env.run_dir(dataset, run) / "best.pt"
    if not weights.exists():
        raise DataError(f"{env.shown(weights.parent)} has no best.pt: train it first, or correct --run")
    return weights


def fetch(options: argparse.Namespace) -> int:
    """Download a dataset's release, where it may be had without an account, and print its folder."""
    print(env.shown(download.fetch(options.dataset)))
    return 0


def write_network(options: argparse.Namespace) -> int:
    """Write a trained network as ONNX for other runtimes: uint8 photos in, logits out."""
    if options.out.suffix != ".onnx":
        options.parser.error("--out must end in .onnx")
    weights = run_weights(options.dataset, options.run) if options.run else options.weights
    predict.to_onnx(predict.load(weights, "cpu", options.flip), options.out)
    print(f"network in {options.out}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The verbs with their options."""
    prog, chosen = "python -m helpers", choice.chosen_dataset()
    parser = argparse.ArgumentParser(prog=prog, description="U-Net segmentation without a notebook.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], example: str) -> argparse.ArgumentParser:
        about = inspect.getdoc(run) or ""
        verb = verbs.add_parser(
            name, help=about.splitlines()[0], description=about, epilog=f"example: {prog} {example}"
        )
        verb.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps paragraphs
        verb.set_defaults(run_verb=run, parser=verb)
        return verb

    def add_dataset(verb: argparse.ArgumentParser) -> None:
        verb.add_argument("--dataset", default=chosen, help=f"by default what was prepared last: {chosen}")

    verb = add("prepare", prepare, "prepare --dataset camvid")
    add_dataset(verb)
    verb.add_argument("--own", metavar="FOLDER", help="your images and masks, as a dataset of the folder's name")
    verb.add_argument("--scale", choices=SCALES, help="kept as the default of the other verbs and notebooks")

    verb = add("train", train, "train --scale demo --set lr=1e-3")
    add_dataset(verb)
    verb.add_argument("--recipe", default="tuned", help="tuned (default) or original")
    verb.add_argument("--scale", help="full, demo or smoke; by default as it was prepared")
    # two names: torchrun takes --run for its own --run-path
    verb.add_argument("--run", "--run-name", metavar="NAME", help="name of the run: a new one starts afresh")
    verb.add_argument("--start", metavar="EXPORT", help="begin a new run with these weights: a path or an address")
    verb.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting; repeatable")

    verb = add("predict", predict_photos, "predict holiday/ me.jpg labels/ --colors")
    verb.add_argument("photos", type=Path, nargs="+", metavar="PHOTO_OR_FOLDER")
    verb.add_argument("out", type=Path, metavar="OUT_DIR")
    verb.add_argument("--weights", default=str(predict.PRETRAINED), help="an export: its path or address")
    verb.add_argument("--flip", action="store_true", help="average with the mirror image: twice the time")
    verb.add_argument("--colors", action="store_true", help="also OUT_DIR/colors: the label maps to look at")
    verb.add_argument("--recursive", action="store_true", help="walk folders; OUT_DIR mirrors their tree")

    verb = add("score", score, "score --run tuned-demo --split test")
    verb.add_argument("truth", type=Path, nargs="?", metavar="TRUTH_DIR", help="true label maps: PNGs of class ids")
    verb.add_argument("prediction", type=Path, nargs="?", metavar="PREDICTION_DIR", help="same names, same sizes")
    verb.add_argument("--run", metavar="NAME", help="instead of two folders: score this run's best weights")
    verb.add_argument("--split", default="test", choices=preprocess.SPLITS, help="of --run; test by default")
    add_dataset(verb)

    verb = add("download", fetch, "download pets")
    verb.add_argument("dataset", choices=CATALOG, metavar="DATASET", help=", ".join(CATALOG))

    verb = add("export", write_network, "export --run tuned-demo --out face.onnx")
    source = verb.add_mutually_exclusive_group()
    source.add_argument("--run", metavar="NAME", help="the best weights of this run")
    source.add_argument("--weights", default=str(predict.PRETRAINED), help="an export: its path or address")
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .onnx")
    verb.add_argument("--flip", action="store_true", help="average with the mirror image inside the .onnx network")
    add_dataset(verb)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 after an error, 130 after Ctrl-C (argparse exits with 2)."""
    try:
        options = build_parser().parse_args(arguments)
        return options.run_verb(options)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again", file=sys.stderr)
        return INTERRUPTED
