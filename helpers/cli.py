"""The command line: what the notebooks do, without a notebook. `python -m helpers VERB -h` explains each verb."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from . import metrics, predict, preprocess
from .catalog import CATALOG, Dataset
from .core import choice, distributed, env, files, masks
from .core.errors import DataError, UNetError
from .core.registry import load_dataset
from .settings import SAMPLES, SCALES, Settings, make_settings
from .sources import download, restructure
from .trainer import Trainer
from .training import export

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
INTERRUPTED = 130  # the exit status that a shell gives to what Ctrl-C ended


def prepare(options: argparse.Namespace) -> int:
    """Do what notebook 01 does: find a release, check it, and copy its sound samples to data/splitted_data/.

    The release lies in data/, or where the environment variable RELEASE points; without one, synthetic samples are
    made. The same command once more repairs what is missing.
    """
    dataset = options.dataset or choice.chosen_dataset()
    release = restructure.find_release(dataset, SAMPLES[options.scale or choice.default_scale("synthetic")])
    print(release.where)
    result = restructure.restructure(dataset, release)
    choice.write_choice(dataset, release.source, options.scale or choice.default_scale(release.source))
    print(restructure.table(result.problems))
    print(", ".join(f"{count} {split}" for split, count in result.counts.items()))
    return 0


def train(options: argparse.Namespace) -> int:
    """Train on the data that `prepare` or notebook 01 prepared. The same command goes on where it stopped.

    Ctrl-C saves and stops. On several GPUs, or in several processes: torchrun --nproc-per-node 2 -m helpers train ...
    The batch is the whole batch, of which each rank takes its share.
    """
    dataset = options.dataset or choice.chosen_dataset()
    scale = options.scale or choice.chosen_scale(dataset)
    settings = make_settings(dataset, options.recipe, scale, **parse_changes(options.set))
    with distributed.process_group():
        finished = fit(settings, options.run)
    # torchrun would take any other status for a fault, and start all ranks anew
    return 0 if finished or distributed.is_launched() else INTERRUPTED


def fit(settings: Settings, run: str | None) -> bool:
    """Train to the end, alone or as one of several ranks -> whether it got there. No Trainer outlives this call."""
    arrays = distributed.local_first(lambda: preprocess.open_arrays(settings.dataset, settings.shape))
    trainer = Trainer(settings, arrays, run)
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
    check_out(options.out, options.photos, options.recursive)
    found = [photo for given in options.photos for photo in find_photos(given, options.recursive)]
    photos = name_photos(found, options.out)
    if options.colors and any(name.startswith("colors/") for name in photos):
        raise DataError("a folder of photos is called colors, as the one that --colors writes: rename it")
    segmenter, start = predict.load(options.weights, flip=options.flip), time.perf_counter()
    faults = predict.predict_files(segmenter, photos, options.out)
    for fault in faults.values():
        print(f"left out: {fault}", file=sys.stderr)
    written = [name for name in photos if name not in faults]
    for name in written if options.colors else []:
        write_colors(options.out / f"{name}.png", options.out / "colors" / f"{name}.png", segmenter.dataset)
    print(f"{len(written)} label maps in {options.out}, {len(written) / (time.perf_counter() - start):.1f} images/s")
    return 1 if faults else 0


def check_out(out: Path, photos: list[Path], recursive: bool) -> None:
    """DataError if OUT_DIR is a file, or label maps would lie among the photos."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, but OUT_DIR must be a folder: give another name")
    for given in photos:
        folder = (given.parent if given.is_file() else given).resolve()
        if out.resolve() == folder or (recursive and given.is_dir() and out.resolve().is_relative_to(folder)):
            raise DataError(f"OUT_DIR lies in the photos' folder {given}: give another folder")


class Photo(NamedTuple):
    """A photo's file, and the folder that it was found in."""

    path: Path
    folder: Path


def find_photos(given: Path, recursive: bool) -> list[Photo]:
    """A photo's file alone, or the photos in a folder, sorted; reports other files there; DataError if it has none."""
    if given.is_file():
        return [Photo(given, given.parent)]
    if not given.is_dir():
        raise DataError(f"{given} does not exist: correct the path")
    inside = sorted(path for path in given.glob("**/*" if recursive else "*") if path.is_file())
    visible = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(given).parts)]
    found = [path for path in visible if path.suffix.lower() in PHOTO_SUFFIXES]
    kinds = ", ".join(sorted(PHOTO_SUFFIXES))
    if not found:
        raise DataError(f"no photos in {given}: give a folder of {kinds}" + ("" if recursive else ", or --recursive"))
    if others := [path.name for path in visible if path not in found]:
        listed = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        print(f"ignored in {given}: {len(others)} files that are none of {kinds} ({listed})", file=sys.stderr)
    return [Photo(path, given) for path in found]


def name_photos(found: list[Photo], out: Path) -> dict[str, Path]:
    """Name of the label map below OUT_DIR, without .png -> photo.

    The photo's path in its folder, without the suffix; with it where two would have the same name (a.jpg and a.png);
    with the folder's name before it where that is not enough. DataError if a label map would replace a photo.
    """
    found = list({photo.path.resolve(): photo for photo in found}.values())
    relative = [path.relative_to(folder) for path, folder in found]
    in_folder = [folder.resolve().name / path for path, (_, folder) in zip(relative, found)]
    for names in ([path.with_suffix("") for path in relative], relative, in_folder):
        photos = {name.as_posix(): photo.path for name, photo in zip(names, found)}
        if len({name.casefold() for name in photos}) == len(found):
            break
    else:
        raise DataError("some photos have the same name, and so have their folders: predict one folder at a time")
    if {(out / f"{name}.png").resolve() for name in photos} & {photo.path.resolve() for photo in found}:
        raise DataError("a label map in OUT_DIR would replace a photo: give another folder")
    return photos


def write_colors(label_map: Path, picture: Path, dataset: Dataset) -> None:
    """Write a label map in the classes' colours: class ids themselves look black."""
    colors = masks.colorize(masks.read_label(label_map, len(dataset.classes)), dataset)
    with predict.writing(picture), files.atomic(picture) as file:
        Image.fromarray(colors).save(file, format="PNG")


def score(options: argparse.Namespace) -> int:
    """Print the scores of a run's best weights on a split, or of a folder of label maps against the true ones."""
    if (options.run is None) == (options.prediction is None):
        options.parser.error("give TRUTH_DIR and PREDICTION_DIR, or --run NAME")
    dataset = load_dataset(options.dataset or choice.chosen_dataset())
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
    faults = predict.predict_files(predict.load(weights), {name: photo for name, photo, _ in pairs}, out)
    if faults:
        raise DataError(f"{len(faults)} photos cannot be predicted, first {next(iter(faults.values()))}")
    return metrics.folder_matrices(pairs[0][2].parent, out, dataset, [name for name, *_ in pairs])[1]


def run_weights(dataset: str, run: str) -> Path:
    """The export of a run's best epoch; DataError if it has none."""
    folder = env.run_dir(dataset, run)
    if not (folder / "best.pt").exists():
        raise DataError(f"{env.shown(folder)} has no best.pt: train it first, or correct --run")
    return folder / "best.pt"


def fetch(options: argparse.Namespace) -> int:
    """Download a dataset's release, where it may be had without an account, and print its folder."""
    print(env.shown(download.fetch(options.dataset)))
    return 0


def write_network(options: argparse.Namespace) -> int:
    """Write a trained network to one file: .pt to load here, or .onnx for other runtimes (uint8 photos in, logits out)."""
    if options.out.suffix not in (".pt", ".onnx"):
        options.parser.error("--out must end in .pt or .onnx")
    weights = options.weights
    if options.run:
        weights = run_weights(options.dataset or choice.chosen_dataset(), options.run)
    if options.out.suffix == ".onnx":
        predict.to_onnx(predict.load(weights, "cpu", options.flip), options.out)
    elif options.run and not options.flip:
        export.read_export(weights)  # a damaged file is named here, not by whoever gets it
        with predict.writing(options.out):
            files.write_atomic(options.out, weights.read_bytes())
    else:
        options.parser.error("a .pt file takes --run, and no --flip")
    print(f"network in {options.out}")
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The verbs with their options."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description="U-Net segmentation without a notebook.")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], example: str) -> argparse.ArgumentParser:
        about = run.__doc__ or ""
        summary, *rest = about.split("\n\n")
        verb = verbs.add_parser(name, help=summary, description=about, epilog=f"example: python -m helpers {example}")
        verb.set_defaults(run_verb=run, parser=verb)
        return verb

    def add_dataset(verb: argparse.ArgumentParser) -> None:
        verb.add_argument("--dataset", help="name of a dataset; by default the one that was prepared last")

    verb = add("prepare", prepare, "prepare --dataset camvid")
    add_dataset(verb)
    verb.add_argument("--scale", choices=SCALES, help="kept as the default of the other verbs and notebooks")

    verb = add("train", train, "train --scale demo --set lr=1e-3")
    add_dataset(verb)
    verb.add_argument("--recipe", default="tuned", help="tuned (default) or original")
    verb.add_argument("--scale", help="full, demo or smoke; by default as it was prepared")
    # two names: torchrun takes --run for its own --run-path
    verb.add_argument("--run", "--run-name", metavar="NAME", help="name of the run: a new one starts afresh")
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
    verb.add_argument("--out", type=Path, required=True, metavar="FILE", help="ends in .pt or .onnx")
    verb.add_argument("--flip", action="store_true", help="average with the mirror image inside the .onnx network")
    add_dataset(verb)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: 0, 1 after an error, 130 after Ctrl-C (argparse exits with 2)."""
    options = build_parser().parse_args(arguments)
    try:
        return options.run_verb(options)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from what is there", file=sys.stderr)
        return INTERRUPTED
