"""A tiny dataset and tiny trainings: every class is a stripe of its own colour, so that it can be learned fast."""

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from helpers import preprocess
from helpers.core import env, masks
from helpers.settings import Settings, make_settings
from helpers.trainer import Trainer

COLORS = np.array([(23 * i % 256, 61 * i % 256, 151 * i % 256) for i in range(11)], np.uint8)


def sample(seed: int, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """uint8[side,side,3] and uint8[side,side]: eleven stripes, shifted and with noise by the seed."""
    rng = np.random.default_rng(seed)
    label = ((np.arange(side) + rng.integers(side)) % side * 11 // side).astype(np.uint8)
    label = np.repeat(label[None], side, 0)
    noise = rng.integers(-8, 9, (side, side, 3))
    return np.clip(COLORS[label].astype(int) + noise, 0, 255).astype(np.uint8), label


def prepare(train: int = 8, val: int = 3, test: int = 3, side: int = 48) -> None:
    """Write the splits as 01 leaves them under UNET_HOME."""
    folder = env.split_dir("helen")
    for offset, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        for i in range(count):
            image, label = sample(1000 * offset + i, side)
            masks.write_label(folder / split / "labels" / f"{i:03}.png", label)
            (folder / split / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / split / "images" / f"{i:03}.jpg", quality=95)
    (folder / "manifest.json").write_text('{"complete": true}')


def settings(**changes) -> Settings:
    """Smoke settings, smaller still: two levels, 32 px, batches of 4."""
    return make_settings("helen", "tuned", "smoke", **(dict(size=32, width=4, depth=2, batch=4) | changes))


def arrays(train: int = 8, val: int = 3) -> dict[str, preprocess.Arrays]:
    """Samples of 32 px as 02 would open them, but only in memory."""
    made = {}
    for offset, (split, count) in enumerate({"train": train, "val": val}.items()):
        images, labels = zip(*(sample(1000 * offset + i, 32) for i in range(count)), strict=True)
        made[split] = preprocess.Arrays(np.stack(images), np.stack(labels), [str(i) for i in range(count)], "tiny")
    return made


def trainer(data: dict[str, preprocess.Arrays], run: str = "a", start: Path | None = None, **changes) -> Trainer:
    """A trainer on the CPU, for six epochs unless told otherwise."""
    return Trainer(settings(**dict(epochs=6) | changes), data, run, "cpu", start)


def at_step(one: Trainer, step: int, action: Callable[[Trainer], object]) -> None:
    """Call `action(trainer)` right after that step."""
    one.watchers.append(lambda event: action(one) if event == "step" and one.step == step else None)


def interrupt(*rest: object) -> None:
    """As Jupyter's stop button, or Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def give_scores(one: Trainer, scores: Iterable[float]) -> None:
    """Let validation give these, one after the other, for every loss, class and mean."""
    names, given = ("loss", *one.dataset.rows, "mean_iou", "accuracy"), iter(scores)
    one.validate = lambda network=None: dict.fromkeys(names, next(given))


def state(one: Trainer) -> list[torch.Tensor]:
    """Copies of all that a step changes: weights, statistics, their average, the optimizer's moments."""
    found = one.stepper.state()
    moments = [tensor for each in found["optimizer"]["state"].values() for tensor in each.values()]
    return [t.clone() for t in (*found["model"].values(), *(found["average"] or {}).values(), *moments)]


def same(mine: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    """Whether two states are equal to the bit."""
    return len(mine) == len(theirs) and all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
