"""What test_kill.py starts and kills: a training that says on its stdout, line by line, where it is.

python kill_child.py HOME RUN EPOCHS, with the repository in PYTHONPATH and data already prepared under HOME.
"""

import faulthandler
import functools
import os
import sys
from collections.abc import Callable

import tiny
import torch

from helpers import preprocess, trainer
from helpers.settings import Settings
from helpers.training import checkpoint

SIZE, STEPS = 32, 11  # pixels; steps of an epoch
DATA = dict(train=42, val=32)  # 42 images in 11 batches of 4 or 3: the batches of an epoch differ in size
PIPE = 1


def settings(epochs: int) -> Settings:
    """Large enough that a save and a validation take as long as a step, and a kill can hit them."""
    return tiny.settings(size=SIZE, width=12, depth=3, epochs=epochs)


def say(line: str) -> None:
    """One line at once, past every buffer: a kill must not take back what was done before it."""
    os.write(PIPE, f"{line}\n".encode())


def announced(function: Callable, name: str) -> Callable:
    """The function with a line before and a line after it."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        say(f"{name} begin")
        result = function(*args, **kwargs)
        say(f"{name} end")
        return result

    return wrapped


def main(home: str, run: str, epochs: int) -> None:
    """Train `run` to its end, from wherever it stands."""
    faulthandler.dump_traceback_later(120, exit=True)  # a child that hangs ends by itself and says where
    os.environ["UNET_HOME"] = home
    sys.stdout = sys.stderr  # the pipe is for our lines alone
    torch.set_num_threads(1)
    checkpoint.save = announced(checkpoint.save, "save")
    trainer.Trainer.validate = announced(trainer.Trainer.validate, "validate")
    one = trainer.Trainer(settings(epochs), preprocess.open_arrays("helen", SIZE), run, "cpu")
    one.watchers.append(lambda event: say(f"step {one.step}") if event == "step" else None)
    say(f"start {one.step}")
    one.fit(epochs)
    say("done")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
