"""Peak anonymous memory of training at 2 thousand and 40 thousand samples, and the time of an epoch.

    python -m benchmarks.memory

Arrays of random bytes (no page of zeros, every row visited), 64 px, width 4; each size in a process of its own.
Memory-mapped pages that were touched count as resident, so RssAnon is what is judged. Writes results/memory.txt.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.recipes import RESULTS, machine
from helpers import preprocess
from helpers.core import files
from helpers.settings import make_settings
from helpers.trainer import Trainer

SIZES = (2000, 40000)
SIDE = 64


def anonymous() -> float:
    """RssAnon of this process, MiB."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def make_arrays(folder: Path, count: int) -> preprocess.Arrays:
    """Memory-mapped images and labels without a zero."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, parts = np.random.default_rng(0), []
    for name, shape, high in (("images", (count, SIDE, SIDE, 3), 256), ("labels", (count, SIDE, SIDE), 11)):
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
        for start in range(0, count, 1000):
            array[start : start + 1000] = rng.integers(1, high, (min(1000, count - start), *shape[1:]), np.uint8)
        array.flush()
        parts.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    return preprocess.Arrays(*parts, [str(i) for i in range(count)], f"{count}")


def measure(count: int) -> None:
    """In a process of its own: train an epoch, print the highest RssAnon on the way and the epoch's seconds."""
    home = Path(os.environ["UNET_HOME"])
    train, val = make_arrays(home / f"train{count}", count), make_arrays(home / f"val{count}", 8)
    settings = make_settings("helen", "tuned", "smoke", size=SIDE, width=4, depth=2, batch=32, epochs=1)
    seen = np.zeros(count, bool)
    trainer = Trainer(settings, {"train": train, "val": val}, f"memory-{count}", "cpu")
    prepare = trainer._prepare

    def noting(images, labels, numbers, epoch):
        seen[numbers] = True
        return prepare(images, labels, numbers, epoch)

    trainer._prepare = noting
    peak, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], anonymous())

    threading.Thread(target=watch, daemon=True).start()
    began = time.perf_counter()
    trainer.fit(1)
    took = time.perf_counter() - began
    done.set()
    assert seen.all(), "not every row was visited"
    print(f"RESULT {peak[0]:.1f} {took:.2f}")


def main() -> None:
    """Both sizes."""
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
        return
    home, lines, found = tempfile.mkdtemp(prefix="memory"), [machine()], {}
    try:
        for count in SIZES:
            command = [sys.executable, "-m", "benchmarks.memory", str(count)]
            done = subprocess.run(
                command, env=os.environ | {"UNET_HOME": home}, capture_output=True, text=True, check=True
            )
            peak, took = map(float, re.search(r"RESULT (\S+) (\S+)", done.stdout).groups())
            found[count] = (peak, took)
            lines.append(f"{count} samples of {SIDE} px: at most {peak:.0f} MiB anonymous, {took:.1f} s an epoch "
                         f"({took / count * 1e3:.3f} ms an image)")  # fmt: skip
    finally:
        shutil.rmtree(home, ignore_errors=True)
    (small, quick), (large, long) = found.values()
    lines.append(
        f"{SIZES[1] // SIZES[0]} times the samples: {large - small:+.0f} MiB, {long / quick:.1f} times the time"
    )
    files.write_atomic(RESULTS / "memory.txt", ("\n".join(lines) + "\n").encode())
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
