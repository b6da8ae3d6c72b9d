"""Two ranks against one on the same whole batches: losses, scores, speed; with and without batch norm.

    RELEASE=faces python -m helpers prepare --dataset helen --scale demo
    python -m benchmarks.processes                     # results/processes.txt; with nothing else running

Without a norm both compute the same numbers, up to rounding. With batch norm on CPUs each rank normalises its own share
of the batch, which is another training: this measures how far it goes off, beside another random seed of one process.
On GPUs SyncBatchNorm takes the whole batch. Works on what notebook 01 prepared under UNET_HOME.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, machine, report
from helpers import preprocess, trainer
from helpers.core import distributed, env, files
from helpers.settings import make_settings

DATASET, EPOCHS, STEPS = "helen", 2, 20
# name -> changes of `tuned`. The worst is last: a norm over one image each
CASES: dict[str, dict] = {
    "no norm, batch 4": dict(norm="none", batch=4),
    "batch norm, batch 4": dict(batch=4),
    "batch norm, batch 2": dict(batch=2),
}


def run_name(name: str, count: int, seed: int) -> str:
    """Under which the Trainer keeps this training."""
    return f"processes-{count}-{seed}-{name.replace(',', '').replace(' ', '-')}"


def train(name: str, seed: int) -> dict:
    """A short training, alone or as one of several processes: loss of each of the first steps, last score, images/s."""
    trainer.TRACE_EVERY = 1
    settings = make_settings(DATASET, "tuned", "demo", seed=seed, epochs=EPOCHS, **CASES[name])
    arrays = preprocess.open_arrays(DATASET, settings.shape)
    one = trainer.Trainer(settings, arrays, run_name(name, distributed.world_size(), seed)).fit(EPOCHS)
    last = one.history[-1]
    score = last[one.dataset.column(one.dataset.primary_metric)]
    return {"losses": [loss for _, loss, _ in one.trace[:STEPS]], "score": score, "speed": last["images_per_s"]}


def child(name: str, seed: int, out: Path) -> None:
    """One of the processes; rank 0 writes."""
    with distributed.process_group():
        result = train(name, seed)
        if distributed.rank() == 0:
            files.write_atomic(out, json.dumps(result).encode())


def measured(name: str, count: int, seed: int = 0) -> dict:
    """What `train` returns of `count` processes that share this machine's cores; always begun afresh."""
    shutil.rmtree(env.run_dir(DATASET, run_name(name, count, seed)), ignore_errors=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        words = [*launcher, "-m", "benchmarks.processes", "--child", name, str(seed), str(out)]
        subprocess.run([sys.executable, *words], check=True)
        return json.loads(out.read_text())


def apart(one: dict, other: dict) -> np.ndarray:
    """Differences of the losses step by step, as shares of the first one's."""
    a, b = np.array(one["losses"]), np.array(other["losses"])
    return abs(a - b) / a


def line(name: str) -> str:
    """One case: how far two processes, and another seed, are from one."""
    alone, two, again = measured(name, 1), measured(name, 2), measured(name, 1, seed=1)
    near, far = apart(alone, two), apart(alone, again)
    losses = [f"{value:9.1e}" for value in (near[0], np.median(near), near.max(), np.median(far))]
    scores = [f"{one['score']:8.4f}" for one in (alone, two, again)]
    return " ".join([f"{name:20}", *losses, *scores, *(f"{one['speed']:8.1f}" for one in (alone, two))])


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes")
    parser.add_argument("--child", nargs=3, metavar=("CASE", "SEED", "OUT"), help="used by itself")
    options = parser.parse_args(arguments)
    if options.child:
        name, seed, out = options.child
        child(name, int(seed), Path(out))
        return
    heads = ["step 1", "median", "largest", "seed 1", "one", "two", "seed 1", "one", "two"]
    lines = [
        machine(),
        f"{DATASET}, tuned at demo size but for its batch, {EPOCHS} epochs; one process, or two on the same cores",
        f"losses of the first {STEPS} steps: |one - two| / one of step 1, the median, the largest; for scale",
        "the median of |seed 0 - seed 1| / seed 0. score: validation, last epoch, and its images/s",
        "",
        f"{'':20} {'losses, one against two':29} {'':9} {'score':26} images/s",
        " ".join([f"{'':20}", *(f"{h:>9}" for h in heads[:4]), *(f"{h:>8}" for h in heads[4:])]),
    ]
    report(RESULTS / "processes.txt", lines + [line(name) for name in CASES])


if __name__ == "__main__":
    main()
