"""The notebooks' training without a notebook: `python -m helpers.train --scale demo --set lr=5e-4`.

Works on the data that notebook 01, or `python -m helpers.restructure`, prepared. On several GPUs, or processes:
`torchrun --nproc-per-node 2 -m helpers.train ...`; the batch is the whole batch, of which each process takes its share.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable

from . import preprocess
from .core import choice, distributed
from .core.errors import UNetError
from .settings import Settings, make_settings
from .trainer import Trainer


def changes(pairs: list[str]) -> dict:
    """['lr=5e-4', 'epochs=3'] -> {'lr': 0.0005, 'epochs': 3}, each in its field's type; UNetError names the fields."""
    kinds = {f.name: f.type for f in dataclasses.fields(Settings)}
    found = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if name not in kinds or not text:
            raise UNetError(f"--set {pair}: give NAME=VALUE with NAME one of {', '.join(kinds)}")
        found[name] = convert(yes_or_no if kinds[name] is bool else kinds[name], text, pair)
    return found


def yes_or_no(text: str) -> bool:
    """'true' or 'false' in any case -> bool."""
    return {"true": True, "false": False}[text.lower()]


def convert(kind: Callable, text: str, pair: str):
    """Text -> a value of the field's type."""
    try:
        return kind(text)
    except (ValueError, KeyError) as error:
        raise UNetError(f"--set {pair}: the value is not of the field's type ({kind.__name__})") from error


def train(settings: Settings, run: str | None) -> bool:
    """Train to the end, or go on to it, alone or as one of several processes -> whether it got there."""
    arrays = distributed.local_first(lambda: preprocess.open_arrays(settings.dataset, settings.shape))
    trainer = Trainer(settings, arrays, run)
    trainer.fit(settings.epochs)
    return trainer.epoch >= settings.epochs or trainer.ended_early


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.train", description=__doc__)
    parser.add_argument("--dataset", help="if not given, the one that was prepared last")
    parser.add_argument("--recipe", default="tuned", help="tuned or seed")
    parser.add_argument("--scale", help="full, demo or smoke; if not given, as it was prepared")
    # two names: torchrun takes --run for its own --run-path
    parser.add_argument("--run", "--run-name", help="the run's name: a new one starts afresh")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting; repeatable")
    options = parser.parse_args(arguments)
    try:
        dataset = options.dataset or choice.chosen_dataset()
        scale = options.scale or choice.chosen_scale(dataset)
        settings = make_settings(dataset, options.recipe, scale, **changes(options.set))
        with distributed.process_group():
            whole = train(settings, options.run)
    except UNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # 130, as a shell says of what Ctrl-C ended; but torchrun would take it for a fault, and start all anew
    return 0 if whole or distributed.is_launched() else 130


if __name__ == "__main__":
    sys.exit(main())
