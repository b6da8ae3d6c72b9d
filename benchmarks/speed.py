"""Feeding, stepping and whole epochs on the CPU, ours beside the original way and the plain loop, in turns.

    python -m benchmarks.speed            # about ten minutes on two cores, with nothing else running

Draws 96 photographs of 1000 x 800 px. Both sides of a pair end at the same point, run in turns A B A B in one process
and are compared by medians. Writes results/speed.txt.
"""

import contextlib
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks import yardsticks
from benchmarks.common import RESULTS, machine, report
from helpers import batches, catalog, predict, preprocess
from helpers.augment import Augment, to_float, to_ids
from helpers.core import env, files, hardware, masks
from helpers.core.errors import UNetError
from helpers.settings import Settings, make_settings
from helpers.synthetic import faces, releases
from helpers.trainer import Trainer, train_step
from helpers.training.stepper import Stepper

PHOTOS, CLASSES = 96, 11
CPU = torch.device("cpu")
# as the yardsticks: their batch, whole photos, steps like theirs
LIKE: dict = dict(batch=4, half_size_fraction=0.0, optimizer="adamw", augment=0.0)
Ways = Mapping[str, Callable[[], object]]


def prepare() -> None:
    """Photographs of 1000 x 800 px as 01 leaves them: train, and a few for val and test."""
    root = env.split_dir("helen")
    for split, count in (("train", PHOTOS), ("val", 4), ("test", 24)):
        for i in range(count):
            photo, label = faces.draw_face(releases.face_seed(split, 1_400_000 + i), (1000, 800))
            masks.write_label(root / split / "labels" / f"{i:03}.png", label)
            (root / split / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(root / split / "images" / f"{i:03}.jpg", quality=90)
    files.write_atomic(root / "manifest.json", b'{"complete": true}')


def seconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turns(ways: Ways, turns: int = 3) -> dict[str, float]:
    """Median seconds of each way, A B A B; one round before that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, work in ways.items():
            took = seconds(work)
            if turn:
                taken[name].append(took)
    return {name: statistics.median(times) for name, times in taken.items()}


def feeding() -> list[str]:
    """Photographs -> f32[B,3,256,256] and the loss's targets; a cold build against an epoch of the original feeding."""
    settings, cores = make_settings("helen", "original", "full"), hardware.cores()
    pairs = preprocess.pairs("helen", "train")

    def original(workers: int) -> None:
        for _ in yardsticks.loader(pairs, settings, CLASSES, workers):
            pass

    builds = [seconds(lambda: preprocess.build("helen", "train", 256)) for _ in range(3)]
    arrays = preprocess.open_arrays("helen", 256)["train"]

    def ours() -> None:
        for _ in range(10):  # ten epochs: one is too short to time
            for images, labels, _ in batches.loader(arrays, settings.batch, 0):
                to_float(images, 0, 1)
                to_ids(labels)

    torch.set_num_threads(1)  # on one core, as the original way has it
    one_core = in_turns({"original": lambda: original(0), "ours": ours})
    torch.set_num_threads(cores)
    theirs, mine = one_core["original"] / PHOTOS * 1e3, one_core["ours"] / PHOTOS / 10 * 1e3
    worked = statistics.median(seconds(lambda: original(cores)) for _ in range(3)) / PHOTOS * 1e3
    built = statistics.median(builds) / PHOTOS * 1e3
    return [
        f"feeding, 1000 x 800 -> 256 px, one core, warm: original way {theirs:.2f} ms an image and epoch, ours "
        f"{mine:.3f} ms: {theirs / mine:.0f} times as fast",
        f"cold build of the arrays, {cores} cores: {built:.2f} ms an image; an epoch of the original feeding in "
        f"{cores} worker processes {worked:.2f} ms an image (processes started)",
    ]


def stepping_alone() -> list[str]:
    """The bare step on ready tensors at 128 px, width 16, batch 4: ours, the plain loop's, the original way's."""
    settings = make_settings("helen", "tuned", "demo", **LIKE)
    x = torch.randn(settings.batch, 3, *settings.shape)
    ids = torch.randint(0, CLASSES, (settings.batch, *settings.shape))
    one_hot = torch.stack([yardsticks.one_hot(label, CLASSES) for label in ids])
    plain = yardsticks.plain_loop(yardsticks.network(settings, CLASSES), CPU)
    original = yardsticks.original_way(yardsticks.network(settings, CLASSES), 4, CPU)
    ours, muon = (Stepper(settings.replace(optimizer=name), CLASSES, CPU) for name in ("adamw", "muon"))

    def many(step: Callable[[], object]) -> Callable[[], object]:
        return lambda: [step() for _ in range(20)]

    def step_of(one: Stepper) -> Callable[[], object]:
        return lambda: train_step(one, x, ids, 1e-3)

    ways = {
        "ours": many(step_of(ours)),
        "ours with Muon": many(step_of(muon)),
        "plain loop": many(lambda: plain.step(x, ids)),
        "original way": many(lambda: original.step(x, one_hot)),
    }
    found = in_turns(ways)
    times = ", ".join(f"{name} {t / 20 * 1e3:.1f} ms" for name, t in found.items())
    augment = Augment(catalog.HELEN.flip_pairs, 0.5, 0.25, 0)
    images = torch.randint(0, 256, (settings.batch, *settings.shape, 3), dtype=torch.uint8)
    labels = ids.to(torch.uint8)
    changing = in_turns({"augment": many(lambda: augment(images, labels, np.arange(4), 0))})["augment"]
    return [
        f"bare step, 128 px, width 16, batch 4, {torch.get_num_threads()} threads: {times}; ours is "
        f"{found['plain loop'] / found['ours']:.2f} times as fast as the plain loop's (with Dice, clipping and "
        "averaged weights, which that has not)",
        f"augmentation of such a batch: {changing / 20 * 1e3:.1f} ms",
    ]


class Bare(Trainer):
    """Our training without what no yardstick does: it neither validates nor saves."""

    def validate(self, network: torch.nn.Module | None = None) -> dict[str, float]:
        return dict.fromkeys(("loss", *self.dataset.rows, "mean_iou", "accuracy"), 0.0)

    def save(self, best: bool = False) -> None:
        pass


def epoch_of(settings: Settings, run: str) -> Callable[[], object]:
    """An epoch of our training as a call."""
    trainer = Bare(settings, preprocess.open_arrays("helen", settings.shape), run, "cpu")
    return lambda: trainer.fit(trainer.epoch + 1)


def epochs() -> list[str]:
    """A whole training epoch from the photographs, feeding and step: the original way, the plain loop, ours."""
    settings = make_settings("helen", "tuned", "demo", **LIKE).replace(epochs=1000)
    original_settings, pairs = make_settings("helen", "original", "demo"), preprocess.pairs("helen", "train")
    original = yardsticks.original_way(yardsticks.network(original_settings, CLASSES), 100, CPU)
    plain = yardsticks.plain_loop(yardsticks.network(settings, CLASSES), CPU)
    original_feed = yardsticks.loader(pairs, original_settings, CLASSES)
    plain_feed = yardsticks.loader(pairs, settings)
    ways = {
        "original way": lambda: original.epoch(original_feed),
        "plain loop": lambda: plain.epoch(plain_feed),
        "ours": epoch_of(settings, "ours"),
        "at half size": epoch_of(settings.replace(half_size_fraction=0.9), "half"),
        "with Muon": epoch_of(settings.replace(optimizer="muon"), "muon"),
        "with random changes": epoch_of(settings.replace(augment=0.25), "changes"),
    }
    found = in_turns(ways)
    rates = ", ".join(f"{name} {PHOTOS / t:.1f}" for name, t in found.items())
    return [
        f"training from 1000 x 800 px photographs at 128 px, width 16, batch 4, images/s: {rates}; ours is "
        f"{found['original way'] / found['ours']:.2f} times the original way's, "
        f"{found['plain loop'] / found['ours']:.2f} times the plain loop's"
    ]


def predicting() -> list[str]:
    """Photographs of 1000 x 800 px to label maps of their size, by the network in weights/."""
    segmenter = predict.load(predict.PRETRAINED, "cpu")
    photos = {name: photo for name, photo, _ in preprocess.pairs("helen", "test")}

    def folder() -> None:
        predict.predict_files(segmenter, photos, env.home() / "out")

    def one_by_one() -> None:
        for name, path in photos.items():
            masks.write_label(env.home() / "out" / f"{name}.png", segmenter.predict([files.read_photo(path)])[0])

    found = in_turns({"folder": folder, "one by one": one_by_one})
    rates = ", ".join(f"{name} {len(photos) / t:.1f}" for name, t in found.items())
    return [f"predict, 1000 x 800 px, demo network, images/s from files to files: {rates}"]


def networks() -> list[str]:
    """Parameters and multiply-adds of the networks compared, the package's where it is installed."""
    models: dict[str, torch.nn.Module] = {
        "ours, full": yardsticks.network(make_settings("helen", "tuned", "full"), CLASSES)
    }
    with contextlib.suppress(UNetError):
        models["segmentation_models_pytorch Unet(resnet34)"] = yardsticks.smp_unet(CLASSES)
    lines = []
    for name, model in models.items():
        parameters, operations = yardsticks.describe(model, (256, 256))
        lines.append(f"{name}: {parameters / 1e6:.2f} M parameters, {operations / 1e9:.1f} G multiply-adds, 256 px")
    return lines


def main() -> None:
    """All of it, in a home of its own."""
    tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
    with tempfile.TemporaryDirectory(prefix="speed") as home:
        os.environ["UNET_HOME"] = home
        prepare()
        lines = [machine()]
        for part in (feeding, stepping_alone, epochs, predicting, networks):
            lines += part()
            print(lines[-1], flush=True)
    report(RESULTS / "speed.txt", lines)


if __name__ == "__main__":
    main()
