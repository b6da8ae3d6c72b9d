"""Scores from counts: pool one confusion matrix over all pixels first, divide last."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .catalog import Dataset
from .core import masks
from .core.errors import DataError


def confusion(prediction: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Count pixels: two integer tensors of equal shape -> int64[C,C], rows = truth; void in the truth is left out."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {list(prediction.shape)} and truth {list(truth.shape)} differ in shape")
    valid = truth != masks.VOID
    pairs = truth[valid].long() * classes + prediction[valid].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, float64; NaN where the whole is 0."""
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def nan_mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without NaN; NaN where nothing is left."""
    return divide(np.nansum(values, -1), (~np.isnan(values)).sum(-1))


def f1(matrix: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
    """F1 of ids merged into one class, float64[...] for int64[...,C,C]; NaN: in neither truth nor prediction."""
    matrix, merged = np.asarray(matrix), list(ids)
    rows = matrix[..., merged, :]
    both = rows[..., merged].sum((-2, -1))
    return divide(2 * both, rows.sum((-2, -1)) + matrix[..., merged].sum((-2, -1)))


def scores(matrix: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """The score table of one pooled matrix int64[C,C]: F1 of each class, then of each group merged before counting."""
    return {name: float(f1(matrix, ids)) for name, ids in dataset.rows.items()}


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, float64[...,C] for int64[...,C,C]; NaN: in neither."""
    matrix = np.asarray(matrix)
    both = np.diagonal(matrix, axis1=-2, axis2=-1)
    return divide(both, matrix.sum(-1) + matrix.sum(-2) - both)


def mean_iou(matrix: np.ndarray) -> np.ndarray:
    """Mean of iou() over the classes present, float64[...]; NaN where there is none."""
    return nan_mean(iou(matrix))


def accuracy(matrix: np.ndarray) -> np.ndarray:
    """Share of the pixels with the right class, float64[...] for int64[...,C,C]; NaN where there are none."""
    return divide(np.trace(matrix, axis1=-2, axis2=-1), np.sum(matrix, (-2, -1)))


def measures(matrix: np.ndarray, dataset: Dataset) -> dict[str, float]:
    """All scores of one pooled matrix int64[C,C]: F1 of classes and groups, mean_iou, accuracy, iou_<class>."""
    ious = {f"iou_{name}": float(value) for name, value in zip(dataset.classes, iou(matrix))}
    return scores(matrix, dataset) | {"mean_iou": float(mean_iou(matrix)), "accuracy": float(accuracy(matrix))} | ious


def primary_metric(matrices: np.ndarray, dataset: Dataset) -> np.ndarray:
    """The dataset's primary metric, float64[...] for int64[...,C,C]: of each image, say."""
    if dataset.primary_metric in dataset.rows:
        return f1(matrices, dataset.rows[dataset.primary_metric])
    return {"mean_iou": mean_iou, "accuracy": accuracy}[dataset.primary_metric](matrices)


def mean_of_small_classes(matrix: np.ndarray, dataset: Dataset) -> float:
    """Mean F1 of the small classes; those absent from truth and prediction are left out."""
    return float(nan_mean(np.stack([f1(matrix, (i,)) for i in dataset.small_classes])))


def bootstrap(matrices: np.ndarray, dataset: Dataset, draws: int = 1000, seed: int = 0) -> dict[str, tuple]:
    """95 % interval (low, high) of each F1 by resampling images with replacement: int64[N,C,C], a matrix an image."""
    matrices = np.asarray(matrices, np.float64)
    count = len(matrices)
    times_drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)
    pooled = np.tensordot(times_drawn.astype(np.float64), matrices, 1)
    intervals = {}
    for name, ids in dataset.rows.items():
        values = f1(pooled, ids)
        values = values[~np.isnan(values)]
        intervals[name] = tuple(np.quantile(values, (0.025, 0.975)).tolist()) if len(values) else (np.nan, np.nan)
    return intervals


def lines(table: dict[str, float]) -> str:
    """The table as text, one `f1_<name>=0.8731` a line."""
    return "\n".join(f"f1_{name}={value:.4f}" for name, value in table.items())


def folder_matrices(
    truth_dir: Path, prediction_dir: Path, dataset: Dataset, names: list[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """Two folders of label PNGs with equal names -> stems and int64[N,C,C]; DataError names what does not fit.

    With `names` (stems) only those files are read, and others may lie beside them.
    """
    truth, predicted = ({path.stem for path in folder.glob("*.png")} for folder in (truth_dir, prediction_dir))
    if names is None and (unpaired := sorted(truth ^ predicted)):
        where = f"in only one of {truth_dir.name} and {prediction_dir.name} ({len(unpaired)} such files)"
        raise DataError(f"{unpaired[0]}.png is {where}: give two folders with the same names")
    names = names or sorted(truth)
    if not names:
        raise DataError(f"{truth_dir} holds no label PNGs: give a folder of them")
    pairs = [(truth_dir / f"{name}.png", prediction_dir / f"{name}.png") for name in names]
    return names, np.stack([file_matrix(*pair, dataset) for pair in pairs])


def file_matrix(truth_file: Path, prediction_file: Path, dataset: Dataset) -> np.ndarray:
    """One pair of label PNGs -> int64[C,C]."""
    classes = len(dataset.classes)
    truth, prediction = (masks.read_label(file, classes) for file in (truth_file, prediction_file))
    if truth.shape != prediction.shape:
        sizes = " and ".join(f"{label.shape[1]} x {label.shape[0]}" for label in (truth, prediction))
        raise DataError(f"{truth_file.name}: truth and prediction have sizes {sizes}; predict at the photo's own size")
    if (prediction[truth != masks.VOID] == masks.VOID).any():
        raise DataError(f"{prediction_file.name}: the prediction holds 255 (void) where the truth has a class")
    return confusion(torch.from_numpy(prediction), torch.from_numpy(truth), classes).numpy()
