"""Feeding, stepping and whole epochs on the CPU, ours beside the write-up's way and the plain loop, in turns.

    python -m benchmarks.speed            # about ten minutes on two cores, with nothing else running

Draws 96 photographs of 1000 x 800 px. Both sides of a pair end at the same point, run in turns A B A B in one process
and are compared by medians. Writes results/speed.txt.
"""

import functools
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks import yardsticks
from benchmarks.recipes import RESULTS, machine
from helpers import catalog, predict, preprocess
from helpers.augment import Augment, to_float, to_ids
from helpers.core import env, files, hardware, masks
from helpers.settings import Settings, make_settings
from helpers.synthetic import faces, releases
from helpers.trainer import Trainer
from helpers.training import stepper

PHOTOS, CLASSES = 96, 11
CPU = torch.device("cpu")
LIKE = dict(
    batch=4, half_size_fraction=0.0, optimizer="adamw", augment=0.0
)  # the yardsticks' batch, whole photos, steps like theirs


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


def in_turns(ways: dict[str, Callable[[], object]], turns: int = 3) -> dict[str, float]:
    """Median seconds of each way, A B A B; one round before that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, work in ways.items():
            took = seconds(work)
            if turn:
                taken[name].append(took)
    return {name: statistics.median(times) for name, times in taken.items()}


def feeding(lines: list[str]) -> None:
    """Photographs -> f32[B,3,256,256] and the loss's targets; a cold build against an epoch of the seed's feeding."""
    settings = make_settings("helen", "original", "full")
    pairs = preprocess.pairs("helen", "train")

    def seeds_way(workers: int) -> None:
        for _ in yardsticks.loader(pairs, settings, CLASSES, workers):
            pass

    builds = [seconds(lambda: preprocess.build("helen", "train", 256)) for _ in range(3)]
    arrays = preprocess.read_arrays("helen", "train", 256)

    def ours() -> None:
        for _ in range(10):  # ten epochs: one is too short to time
            for images, labels, _ in preprocess.loader(arrays, settings.batch, 0):
                to_float(images, 0, 1), to_ids(labels)

    torch.set_num_threads(1)  # on one core, as the write-up's way has it
    one_core = in_turns({"seed": lambda: seeds_way(0), "ours": ours})
    torch.set_num_threads(hardware.cores())
    per_image = {name: t / PHOTOS / (10 if name == "ours" else 1) * 1e3 for name, t in one_core.items()}
    ratio = per_image["seed"] / per_image["ours"]
    lines.append(f"feeding, 1000 x 800 -> 256 px, one core, warm: seed's way {per_image['seed']:.2f} ms an image and "
                 f"epoch, ours {per_image['ours']:.3f} ms: {ratio:.0f} times as fast")  # fmt: skip
    worked = statistics.median(seconds(lambda: seeds_way(hardware.cores())) for _ in range(3))
    lines.append(f"cold build of the arrays, {hardware.cores()} cores: {statistics.median(builds) / PHOTOS * 1e3:.2f} ms an "
                 f"image; an epoch of the seed's feeding in {hardware.cores()} worker processes "
                 f"{worked / PHOTOS * 1e3:.2f} ms an image (processes started)")  # fmt: skip


def stepping_alone(lines: list[str]) -> None:
    """The bare step on ready tensors at 128 px, width 16, batch 4: ours, the plain loop's, the seed's way's."""
    settings = make_settings("helen", "tuned", "demo", **LIKE)
    x = torch.randn(settings.batch, 3, *settings.shape)
    ids = torch.randint(0, CLASSES, (settings.batch, *settings.shape))
    one_hot = torch.stack([yardsticks.one_hot(label, CLASSES) for label in ids])
    plain = yardsticks.plain_loop(yardsticks.network(settings, CLASSES), CPU)
    seed = yardsticks.seed_way(yardsticks.network(settings, CLASSES), 4, CPU)
    ours, muon = (stepper.Stepper(settings.replace(optimizer=name), CLASSES, CPU) for name in ("adamw", "muon"))

    def many(step: Callable[[], object]) -> None:
        for _ in range(20):
            step()

    def step_of(one: stepper.Stepper) -> Callable[[], object]:
        return lambda: one.update(one.backward(x, ids), 1e-3, settings.batch)

    ways = {
        "ours": step_of(ours), "ours with Muon": step_of(muon), "plain loop": lambda: plain.step(x, ids),
        "seed's way": lambda: seed.step(x, one_hot),
    }  # fmt: skip
    found = in_turns({name: functools.partial(many, step) for name, step in ways.items()})
    times = ", ".join(f"{name} {t / 20 * 1e3:.1f} ms" for name, t in found.items())
    lines.append(f"bare step, 128 px, width 16, batch 4, {torch.get_num_threads()} threads: {times}; ours is "
                 f"{found['plain loop'] / found['ours']:.2f} times as fast as the plain loop's (with Dice, clipping, "
                 "averaged weights and the check for finite numbers, which that has not)")  # fmt: skip
    one = Augment(catalog.HELEN.flip_pairs, 0.5, 0.25, 0)
    images = torch.randint(0, 256, (settings.batch, *settings.shape, 3), dtype=torch.uint8)
    labels = ids.to(torch.uint8)
    changing = in_turns({"augment": lambda: [one(images, labels, np.arange(4), e) for e in range(20)]})
    lines.append(f"augmentation of such a batch: {changing['augment'] / 20 * 1e3:.1f} ms")


def bare(settings: Settings, arrays: dict[str, preprocess.Arrays], run: str) -> Callable[[], object]:
    """An epoch of our training as a call; it neither saves nor validates, as no yardstick does."""
    one = Trainer(settings, arrays, run, "cpu")
    one.validate = lambda network: dict.fromkeys((*one.dataset.rows, "mean_iou", "accuracy"), 0.0)
    one.save = lambda *rest: None
    return lambda: one.fit(one.epoch + 1)


def epochs(lines: list[str]) -> None:
    """A whole training epoch from the photographs, feeding and step: the seed's way, the plain loop, ours."""
    settings = make_settings("helen", "tuned", "demo", **LIKE)
    pairs, arrays = preprocess.pairs("helen", "train"), preprocess.open_arrays("helen", settings.shape)
    seed_settings = make_settings("helen", "original", "demo")
    seed = yardsticks.seed_way(yardsticks.network(seed_settings, CLASSES), 100, CPU)
    plain = yardsticks.plain_loop(yardsticks.network(settings, CLASSES), CPU)
    feeds = yardsticks.loader(pairs, seed_settings, CLASSES), yardsticks.loader(pairs, settings)
    kinds = {"ours": {}, "at half size": dict(half_size_fraction=0.9), "with Muon": dict(optimizer="muon"),
             "with random changes": dict(augment=0.25)}  # fmt: skip
    ways = {"seed's way": lambda: seed.epoch(feeds[0]), "plain loop": lambda: plain.epoch(feeds[1])}
    ways |= {name: bare(settings.replace(epochs=1000, **more), arrays, name) for name, more in kinds.items()}
    found, names = in_turns(ways), list(ways)
    rates = ", ".join(f"{name} {PHOTOS / t:.1f}" for name, t in found.items())
    lines.append(f"training from 1000 x 800 px photographs at 128 px, width 16, batch 4, images/s: {rates}; ours is "
                 f"{found[names[0]] / found['ours']:.2f} times the seed's way's, "
                 f"{found['plain loop'] / found['ours']:.2f} times the plain loop's")  # fmt: skip


def predicting(lines: list[str]) -> None:
    """Photographs of 1000 x 800 px to label maps of their size, by the network in weights/."""
    segmenter = predict.load(predict.PRETRAINED, "cpu")
    photos = {name: photo for name, photo, _ in preprocess.pairs("helen", "test")}

    def folder() -> None:
        predict.predict_files(segmenter, photos, env.home() / "out")

    def one_by_one() -> None:
        for name, path in photos.items():
            masks.write_label(env.home() / "out" / f"{name}.png", segmenter.predict([files.read_photo(path)])[0])

    found = in_turns({"folder": folder, "one by one": one_by_one})
    lines.append(f"predict, 1000 x 800 px, demo network, images/s from files to files: folder "
                 f"{len(photos) / found['folder']:.1f}, one by one "
                 f"{len(photos) / found['one by one']:.1f}")  # fmt: skip


def networks(lines: list[str]) -> None:
    """Parameters and multiply-adds of the networks compared."""
    full = yardsticks.network(make_settings("helen", "tuned", "full"), CLASSES)
    for name, model in {"ours, full": full, "segmentation_models_pytorch Unet(resnet34)": smp_or_none()}.items():
        if model is not None:
            parameters, operations = yardsticks.describe(model, (256, 256))
            lines.append(f"{name}: {parameters / 1e6:.2f} M parameters, {operations / 1e9:.1f} G multiply-adds, 256 px")


def smp_or_none() -> torch.nn.Module | None:
    """The package's Unet where it is installed."""
    try:
        return yardsticks.smp_unet(CLASSES)
    except yardsticks.UNetError:
        return None


def main() -> None:
    """All of it, in a home of its own."""
    home = Path(tempfile.mkdtemp(prefix="speed"))
    os.environ["UNET_HOME"] = str(home)
    tqdm.__init__ = functools.partialmethod(tqdm.__init__, disable=True)
    try:
        prepare()
        lines = [machine()]
        for part in (feeding, stepping_alone, epochs, predicting, networks):
            part(lines)
            print(lines[-1], flush=True)
        files.write_atomic(RESULTS / "speed.txt", ("\n".join(lines) + "\n").encode())
        print(*lines, sep="\n")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
