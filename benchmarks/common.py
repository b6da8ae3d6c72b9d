"""What the benchmarks share: results and their machine, scores on the test photos, our step without its Trainer."""

import datetime
import itertools
import platform
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from helpers import metrics, predict, preprocess
from helpers.augment import Augment, halve, to_float, to_ids
from helpers.batches import Batch, Feed
from helpers.core import env, files, hardware
from helpers.core.registry import load_dataset
from helpers.preprocess import Arrays
from helpers.settings import Settings
from helpers.trainer import train_step
from helpers.training.stepper import Stepper

RESULTS = env.REPO / "benchmarks" / "results"


def machine() -> str:
    """One line: date, processor, cores, versions."""
    versions = ", ".join(f"{k} {v}" for k, v in hardware.versions().items())
    cores, device = hardware.cores(), hardware.pick_device()
    return f"{datetime.date.today()}, {platform.machine()}, {cores} cores, {device}, {versions}"


def report(path: Path, lines: list[str]) -> None:
    """Write a result and print it."""
    text = "\n".join(lines) + "\n"
    files.write_atomic(path, text.encode())
    print(text)


def score_test_photos(segmenter: predict.Segmenter, folder: Path) -> dict[str, float]:
    """Every score on the test photos at their labels' own sizes; the predictions stay in `folder`."""
    dataset = segmenter.dataset
    test = preprocess.pairs(dataset.name, "test")
    faults = predict.predict_files(segmenter, {name: photo for name, photo, _ in test}, folder)
    assert not faults, faults
    _, matrices = metrics.folder_matrices(test[0][2].parent, folder, dataset, [name for name, *_ in test])
    pooled = matrices.sum(0)
    return metrics.measures(pooled, dataset) | {"small classes": metrics.mean_of_small_classes(pooled, dataset)}


class Steps:
    """Our training without its Trainer: batches, random changes, step. It keeps no history and saves nothing."""

    def __init__(self, settings: Settings, arrays: dict[str, Arrays], device: torch.device):
        dataset = load_dataset(settings.dataset)
        self.settings, self.arrays = settings, arrays
        self.feeds = {split: Feed(arrays[split], settings.batch, device) for split in ("train", "val")}
        self.augment = Augment(dataset.flip_pairs, settings.mean, settings.std, settings.seed, settings.augment)
        self.stepper = Stepper(settings, len(dataset.classes), device)

    def batches(self, split: str) -> Iterator[Batch]:
        """Images, labels and numbers on the device, epoch after epoch."""
        for epoch in itertools.count():
            yield from self.feeds[split](self.settings.seed, epoch)

    def step(self, batch: Batch, half: bool = False) -> Tensor:
        """One training step, on photos of half the size if asked -> its loss, on the device."""
        images, labels, numbers = batch
        if half:
            images, labels = halve(images, labels)
        if self.settings.augment:
            x, target = self.augment(images, labels, numbers, 0)
        else:
            x, target = to_float(images, self.settings.mean, self.settings.std), to_ids(labels)
        return train_step(self.stepper, x, target, 1e-4)[0]
