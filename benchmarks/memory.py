"""Peak anonymous memory of training at 2 thousand and 40 thousand samples, and the time of an epoch.

    python -m benchmarks.memory

Arrays of random bytes (no page of zeros, every row visited), 64 px, width 4; each size in a process of its own.
Memory-mapped pages that were touched count as resident, so RssAnon is what is judged. Writes results/memory.txt.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.common import RESULTS, machine, report
from helpers.preprocess import Arrays
from helpers.settings import make_settings
from helpers.trainer import Trainer

SIZES = (2000, 40000)
SIDE = 64


def anonymous() -> float:
    """RssAnon of this process, MiB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def make_array(path: Path, shape: tuple[int, ...], high: int) -> np.ndarray:
    """uint8 numbers from 1 to below `high` in a file, a thousand rows at a time; memory-mapped."""
    rng = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for start in range(0, shape[0], 1000):
        array[start : start + 1000] = rng.integers(1, high, (min(1000, shape[0] - start), *shape[1:]), np.uint8)
    array.flush()
    return np.load(path, mmap_mode="r")


def make_arrays(folder: Path, count: int) -> Arrays:
    """Images and labels without a zero."""
    folder.mkdir(parents=True, exist_ok=True)
    images = make_array(folder / "images.npy", (count, SIDE, SIDE, 3), 256)
    labels = make_array(folder / "labels.npy", (count, SIDE, SIDE), 11)
    return Arrays(images, labels, [str(i) for i in range(count)], f"{count}")


def measure(count: int) -> None:
    """In a process of its own: train an epoch, print the highest RssAnon on the way and the epoch's seconds."""
    home = Path(os.environ["UNET_HOME"])
    train, val = make_arrays(home / f"train{count}", count), make_arrays(home / f"val{count}", 8)
    settings = make_settings("helen", "tuned", "smoke", size=SIDE, width=4, depth=2, batch=32, epochs=1)
    trainer = Trainer(settings, {"train": train, "val": val}, f"memory-{count}", "cpu")
    peak, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], anonymous())

    threading.Thread(target=watch, daemon=True).start()
    began = time.perf_counter()
    trainer.fit(1)
    took = time.perf_counter() - began
    done.set()
    assert trainer.step == -(-count // settings.batch), "not every row was visited"
    print(f"RESULT {peak[0]:.1f} {took:.2f}")


def main() -> None:
    """Both sizes."""
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
        return
    lines, found = [machine()], []
    with tempfile.TemporaryDirectory(prefix="memory") as home:
        for count in SIZES:
            command = [sys.executable, "-m", "benchmarks.memory", str(count)]
            environment = os.environ | {"UNET_HOME": home}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            peak, took = map(float, done.stdout.rsplit("RESULT", 1)[1].split())
            found.append((peak, took))
            per_image = took / count * 1e3
            lines.append(
                f"{count} samples of {SIDE} px: at most {peak:.0f} MiB anonymous, {took:.1f} s an epoch "
                f"({per_image:.3f} ms an image)"
            )
    (small, quick), (large, long) = found
    times = SIZES[1] // SIZES[0]
    lines.append(f"{times} times the samples: {large - small:+.0f} MiB, {long / quick:.1f} times the time")
    report(RESULTS / "memory.txt", lines)


if __name__ == "__main__":
    main()
