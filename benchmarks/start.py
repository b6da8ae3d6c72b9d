"""What starting from the bundled weights of synthetic faces gives where there are few real portraits.

    RELEASE=faces python -m helpers prepare --dataset helen --scale demo
    python -m benchmarks.start          # results/start.txt: 20 portraits and 100 steps, 40 and 200; three seeds each

The same photos, settings and steps, from nothing and from the weights; scored on the test portraits, without choosing
an epoch. A seed draws other portraits and other random changes.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import RESULTS, machine, report, score_test_photos
from helpers import predict, preprocess
from helpers.preprocess import Arrays
from helpers.settings import make_settings
from helpers.trainer import Trainer

FEW = {20: 100, 40: 200}  # portraits -> steps
BATCH, SEEDS = 4, 3
WAYS = {"from nothing": None, "from the weights": predict.PRETRAINED}


def few(arrays: Arrays, count: int, seed: int) -> Arrays:
    """So many of a split's samples, drawn by the seed."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(arrays))[:count])
    return Arrays(arrays.images[rows], arrays.labels[rows], [arrays.ids[row] for row in rows], f"{count}-{seed}")


def run(count: int, way: str, seed: int, folder: Path) -> tuple[float, float]:
    """Train and score -> F1 overall and the mean of the small classes."""
    epochs = FEW[count] * BATCH // count
    settings = make_settings("helen", "tuned", "demo", batch=BATCH, epochs=epochs, seed=seed)
    photos = few(preprocess.open_arrays("helen", settings.shape)["train"], count, seed)
    name = f"start-{count}-{way.replace(' ', '-')}-{seed}"
    trainer = Trainer(settings, {"train": photos, "val": photos}, name, start=WAYS[way]).fit(epochs)
    scores = score_test_photos(predict.Segmenter(trainer.network, settings), folder)
    return scores["overall"], scores["small classes"]


def main() -> None:
    """Every row, and the bundled weights as they are."""
    lines = [
        machine(),
        f"{torch.get_num_threads()} threads; mean and deviation over {SEEDS} seeds, F1 on the test portraits",
    ]
    with tempfile.TemporaryDirectory() as folder:
        asis = score_test_photos(predict.load(predict.PRETRAINED), Path(folder))
        lines.append(
            f"the weights as they are: overall {asis['overall']:.3f}, small classes {asis['small classes']:.3f}"
        )
        for count, steps in FEW.items():
            for way in WAYS:
                found = np.array([run(count, way, seed, Path(folder)) for seed in range(SEEDS)])
                mean, spread = found.mean(0), found.std(0, ddof=1)
                lines.append(
                    f"{count} portraits, {steps} steps, {way}: overall {mean[0]:.3f} ± {spread[0]:.3f}, "
                    f"small classes {mean[1]:.3f} ± {spread[1]:.3f}"
                )
    report(RESULTS / "start.txt", lines)


if __name__ == "__main__":
    main()
