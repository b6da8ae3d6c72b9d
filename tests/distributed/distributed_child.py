"""What test_parallel starts by torchrun, and alone: trainings whose losses must not depend on the number of processes.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/distributed_child.py OUT.json
python -m torch.distributed.run --standalone --nproc-per-node 2 tests/distributed_child.py train [options of `train`]
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import tiny
import torch

from helpers import cli, preprocess, trainer
from helpers.core import distributed

CASES = {  # name -> settings; 9 images in batches of 4 are batches of 3, shared as 2 and 1
    "dice_ce": dict(norm="none"),
    "dice_original": dict(norm="none", loss="dice_original", optimizer="adam"),
    "focal_original": dict(norm="none", loss="focal_original"),
    "muon": dict(norm="none", optimizer="muon"),
    "one image a step": dict(norm="none", batch=1),  # the second process has none
    "batch norm": dict(),
}
STEPS = 20


def arrays(count: int) -> preprocess.Arrays:
    """Tiny samples, a third of the first ones' pixels void: the processes' counts differ."""
    samples = [tiny.sample(i, 32) for i in range(count)]
    labels = np.stack([label for _, label in samples])
    labels[: count // 2, 20:] = 255
    return preprocess.Arrays(np.stack([image for image, _ in samples]), labels, [str(i) for i in range(count)], "tiny")


def digest(one: trainer.Trainer) -> str:
    """Of all weights, statistics, averages and moments, in this process."""
    hashed = hashlib.sha256()
    for state in (one.model.state_dict(), one.average.state_dict()):
        for tensor in state.values():
            hashed.update(tensor.contiguous().numpy().tobytes())
    for moments in one.optimizer.state_dict()["state"].values():
        for tensor in moments.values():
            hashed.update(tensor.contiguous().numpy().tobytes())
    return hashed.hexdigest()


def train(name: str) -> dict:
    """Twenty steps or more -> loss of each, scores, and whether all processes hold the same numbers."""
    trainer.TRACE_EVERY = 1
    settings = tiny.settings(epochs=STEPS, lr=1e-2, schedule="constant", width=8, **CASES[name])
    run = f"{name.replace(' ', '-')}-{distributed.world_size()}"
    one = trainer.Trainer(settings, {"train": arrays(9), "val": arrays(5)}, run, "cpu")
    one.fit(7 if settings.batch > 1 else 3)
    own = int(digest(one)[:12], 16)
    same = distributed.all_reduce_max(own, -own)
    scores = {k: v for k, v in one.history[-1].items() if k.startswith("f1_")}
    return {"losses": [loss for _, loss, _ in one.trace], "scores": scores, "same": same[0] == -same[1]}


def gloo_threads() -> list[str]:
    """Names of gloo's threads in this process. Any that outlives the group may abort the process at its very end."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def cases(out: str) -> None:
    """All cases; rank 0 writes."""
    with distributed.process_group():
        results = {name: train(name) for name in CASES}
        seen = gloo_threads()
        if distributed.rank() == 0:
            Path(out).write_text(json.dumps(results))
    if sys.platform == "linux" and distributed.is_launched() and not seen:
        sys.exit("gloo's threads have other names now")


def main(first: str, *rest: str) -> None:
    """The cases, or the training command; then none of gloo's threads may be left."""
    torch.set_num_threads(1)
    status = cli.main(["train", *rest]) if first == "train" else cases(first)
    if left := gloo_threads():
        sys.exit(f"threads are left: {left}")
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
