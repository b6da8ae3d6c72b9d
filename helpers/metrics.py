"""Scores from counts: one confusion matrix, pooled over all pixels, divided last.

`python -m helpers.metrics GT_DIR PRED_DIR` prints the table for two folders of label PNGs,
`python -m helpers.metrics --dataset camvid --run NAME --split test` that of a trained run.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import catalog
from .core import choice, env, masks
from .core.errors import DataError, UNetError
from .core.registry import load_dataset


def confusion(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Count pixels: two integer tensors of equal shape -> int64[C,C], rows = truth; void in the truth is left out."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {list(prediction.shape)} and truth {list(truth.shape)} differ in shape")
    seen = truth != masks.VOID
    pairs = truth[seen].long() * classes + prediction[seen].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def merge(matrix: np.ndarray, ids: tuple[int, ...]) -> tuple[int, int, int]:
    """Pixels of a merged group in int64[...,C,C] -> both, in the truth, in the prediction (each [...])."""
    ids = list(ids)
    both = matrix[..., ids, :][..., :, ids].sum((-2, -1))
    return both, matrix[..., ids, :].sum((-2, -1)), matrix[..., :, ids].sum((-2, -1))


def f1(matrix: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """F1 in [0,1] of a merged group, float64[...] for int64[...,C,C]; absent from truth and prediction: NaN."""
    both, truth, predicted = merge(np.asarray(matrix), ids)
    total = np.asarray(truth + predicted, np.float64)
    return np.divide(2.0 * both, total, out=np.full(total.shape, np.nan), where=total > 0)


def scores(matrix: np.ndarray, dataset: catalog.Dataset) -> dict[str, float]:
    """The score table of one pooled matrix int64[C,C]: F1 of each class, then of each group merged before counting."""
    return {name: float(f1(matrix, ids)) for name, ids in dataset.rows.items()}


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, float64[...,C] for int64[...,C,C]; absent from both: NaN."""
    matrix = np.asarray(matrix)
    both = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = matrix.sum(-1) + matrix.sum(-2) - both
    return np.divide(both, union, out=np.full(union.shape, np.nan), where=union > 0)


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Mean of iou() over the classes that are there, float64[...]; NaN where none is."""
    values = iou(matrix)
    there = ~np.isnan(values)
    total, count = np.where(there, values, 0).sum(-1), there.sum(-1)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of the pixels with the right class, float64[...] for int64[...,C,C]; NaN where there are none."""
    right, pixels = np.trace(matrix, axis1=-2, axis2=-1), np.asarray(matrix).sum((-2, -1))
    return np.divide(right, pixels, out=np.full(pixels.shape, np.nan), where=pixels > 0)


def measures(matrix: np.ndarray, dataset: catalog.Dataset) -> dict[str, float]:
    """All scores of one pooled matrix int64[C,C]: F1 of classes and groups, mean_iou, accuracy, iou_<class>."""
    ious = {f"iou_{name}": float(value) for name, value in zip(dataset.classes, iou(matrix), strict=True)}
    return scores(matrix, dataset) | {"mean_iou": float(mean_iou(matrix)), "accuracy": float(accuracy(matrix))} | ious


def primary_metric(matrices: np.ndarray, dataset: catalog.Dataset) -> np.ndarray:
    """The score that the dataset is judged by, float64[...] for int64[...,C,C]: of each image, say."""
    if dataset.primary_metric in dataset.rows:
        return f1(matrices, dataset.rows[dataset.primary_metric])
    return {"mean_iou": mean_iou, "accuracy": accuracy}[dataset.primary_metric](matrices)


def mean_of_small_classes(matrix: np.ndarray, dataset: catalog.Dataset) -> float:
    """Mean F1 of the small parts, each for itself; parts absent from truth and prediction are left out."""
    values = [float(f1(matrix, (part,))) for part in dataset.small_classes]
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def bootstrap(
    matrices: np.ndarray, dataset: catalog.Dataset, draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % intervals of each score: images drawn again with replacement. int64[N,C,C], one matrix an image."""
    matrices = np.asarray(matrices)
    count = len(matrices)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(count, np.full(count, 1 / count), size=draws)  # how often each image is drawn
    pooled = np.tensordot(times.astype(np.float64), matrices.astype(np.float64), 1)
    return {name: interval(f1(pooled, ids)) for name, ids in dataset.rows.items()}


def interval(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of the values; NaN where every value is NaN."""
    values = values[~np.isnan(values)]
    return tuple(np.quantile(values, (0.025, 0.975)).tolist()) if len(values) else (float("nan"),) * 2


def lines(table: dict[str, float]) -> str:
    """The table as text, one `f1_<name>=0.8731` a line."""
    return "\n".join(f"f1_{name}={value:.4f}" for name, value in table.items())


def folder_matrices(
    truth_dir: Path, prediction_dir: Path, dataset: catalog.Dataset, names: list[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """Two folders of label PNGs with equal names -> stems and int64[N,C,C]; DataError names what does not fit.

    With `names` (stems) only those files are read and others may lie beside them.
    """
    truth_dir, prediction_dir = Path(truth_dir), Path(prediction_dir)
    for folder in (truth_dir, prediction_dir):
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder: give one of label PNGs")
    names = names or same_names(truth_dir, prediction_dir)
    read = [file_matrix(truth_dir / f"{n}.png", prediction_dir / f"{n}.png", dataset) for n in names]
    return names, np.stack(read)


def same_names(truth_dir: Path, prediction_dir: Path) -> list[str]:
    """Sorted stems of the PNGs of both folders; DataError if there are none, or one folder has others."""
    truth, prediction = ({path.stem for path in folder.glob("*.png")} for folder in (truth_dir, prediction_dir))
    if lone := sorted(truth ^ prediction):
        raise DataError(f"{lone[0]}.png is in one of {truth_dir.name} and {prediction_dir.name} alone "
                        f"({len(lone)} such files): give two folders with the same names")  # fmt: skip
    if not truth:
        raise DataError(f"{truth_dir.name}: no label PNGs in it; give a folder of them")
    return sorted(truth)


def file_matrix(truth: Path, prediction: Path, dataset: catalog.Dataset) -> np.ndarray:
    """One pair of label PNGs -> int64[C,C]."""
    classes = len(dataset.classes)
    maps = [torch.from_numpy(masks.read_label(path, classes)) for path in (prediction, truth)]
    if maps[0].shape != maps[1].shape:
        sizes = " and ".join(f"{m.shape[1]} x {m.shape[0]}" for m in maps)
        raise DataError(f"{truth.name}: prediction and truth have sizes {sizes}; predict at the photo's own size")
    if (maps[0][maps[1] != masks.VOID] == masks.VOID).any():
        raise DataError(f"{prediction.name}: the prediction holds 255 (void) where the truth has a class")
    return confusion(*maps, classes).numpy()


def run_matrices(dataset: catalog.Dataset, run: str, split: str) -> np.ndarray:
    """Predict a split's photos with a run's best weights into its folder -> int64[N,C,C]; DataError names a fault."""
    from . import predict, preprocess  # upper floors: only the command needs them

    folder, pairs = env.run_dir(dataset.name, run), preprocess.pairs(dataset.name, split)
    if not (folder / "best.pt").exists():
        raise DataError(f"{env.shown(folder)} has no best.pt: train it first, or correct --run")
    out = folder / "predictions" / split
    faults = predict.predict_files(predict.load(folder / "best.pt"), {name: photo for name, photo, _ in pairs}, out)
    if faults:
        raise DataError(f"{len(faults)} photos cannot be predicted, first {next(iter(faults.values()))}")
    return folder_matrices(pairs[0][2].parent, out, dataset, [name for name, *_ in pairs])[1]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.metrics", description=__doc__)
    parser.add_argument("truth", type=Path, nargs="?", metavar="GT_DIR", help="true label PNGs (ids)")
    parser.add_argument(
        "prediction", type=Path, nargs="?", metavar="PRED_DIR", help="predicted ones, same names, sizes"
    )
    parser.add_argument("--run", help="in place of two folders: score this run's best weights")
    parser.add_argument("--split", default="test", choices=("train", "val", "test"))
    parser.add_argument("--dataset", help="if not given, the one that was prepared last")
    options = parser.parse_args(arguments)
    if (options.run is None) == (options.prediction is None):
        parser.error("give GT_DIR and PRED_DIR, or --run NAME")
    try:
        dataset = load_dataset(options.dataset or choice.chosen_dataset())
        if options.run:
            matrices = run_matrices(dataset, options.run, options.split)
        else:
            _, matrices = folder_matrices(options.truth, options.prediction, dataset)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    what = f"run {options.run}, {options.split}" if options.run else f"{options.prediction.name}"
    print(f"# {dataset.name}, {what}: {len(matrices)} label maps")
    pooled = matrices.sum(0)
    print(lines(scores(pooled, dataset)))
    print(f"mean_of_small_classes={mean_of_small_classes(pooled, dataset):.4f}")
    print(f"mean_iou={float(mean_iou(pooled)):.4f}\naccuracy={float(accuracy(pooled)):.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
