"""A demo training step alone and beside another busy process, with and without GOMP_SPINCOUNT: results/threads.txt.

python -m benchmarks.threads
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks.common import RESULTS, machine, report
from helpers.settings import make_settings
from helpers.trainer import train_step
from helpers.training.stepper import Stepper

SECONDS = 20


def steps() -> str:
    """Steps of the demo network for SECONDS -> median and largest, in milliseconds."""
    stepper = Stepper(make_settings("helen", "tuned", "demo"), 11, torch.device("cpu"))
    x, target = torch.randn(4, 3, 128, 128), torch.randint(0, 11, (4, 128, 128))
    train_step(stepper, x, target, 1e-3)
    end, taken = time.monotonic() + SECONDS, []
    while time.monotonic() < end:
        began = time.perf_counter()
        train_step(stepper, x, target, 1e-3)
        taken.append((time.perf_counter() - began) * 1e3)
    return f"median {statistics.median(taken):.0f} ms, largest {max(taken):.0f} ms"


def together(count: int, spin: str | None) -> list[str]:
    """What each of `count` processes at once says; spin: GOMP_SPINCOUNT, None: unset."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, "-m", "benchmarks.threads", "--child"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    return [process.communicate()[0].strip() for process in started]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.threads", description=__doc__)
    parser.add_argument("--child", action="store_true", help="used by itself")
    if parser.parse_args().child:
        print(steps())
        return
    lines = [machine(), "a training step at demo size: one process, and two at once on the same cores"]
    for spin in (None, "10000"):
        for count in (1, 2):
            said = "; ".join(together(count, spin))
            lines.append(f"GOMP_SPINCOUNT {spin or 'unset':6} {count} at once: {said}")
    report(RESULTS / "threads.txt", lines)


if __name__ == "__main__":
    main()
