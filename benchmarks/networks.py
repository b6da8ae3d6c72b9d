"""Other networks by the same recipe in the same seconds: width against resolution, residual blocks, torchvision.

    RELEASE=faces python -m helpers prepare --dataset helen --scale demo
    python -m benchmarks.accuracy clock helen          # the seconds of the original way, which everyone gets
    python -m benchmarks.networks clock helen          # seconds an epoch of each network; with nothing else running
    python -m benchmarks.networks run helen NAME SEED  # a network and a seed; --share 0.5: in half the seconds
    python -m benchmarks.networks table                # results/networks.txt of all rows

Works on what notebook 01 prepared under UNET_HOME, by the recipe `tuned` at scale `demo`, in so many epochs as fit into
the original way's time. An epoch is its steps and its validation: building a network and its arrays, writing
checkpoints and scoring are not counted, for any of them. What is scored are the averaged weights after the last epoch,
since a checkpoint of another network than ours cannot be read back by predict.load. Every run is a row of
results/networks.csv; a row that is there is not run again. Nothing in helpers/ imports this.
"""

import argparse
import contextlib
import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, resnet18

from benchmarks import accuracy, yardsticks
from benchmarks.common import RESULTS, Steps, machine, report, score_test_photos
from helpers import metrics, predict, preprocess, unet
from helpers.augment import to_float
from helpers.core import env, files, hardware
from helpers.core.errors import UNetError
from helpers.core.registry import load_dataset
from helpers.settings import Settings, make_settings
from helpers.trainer import Trainer

ROWS, CLOCK = RESULTS / "networks.csv", RESULTS / "networks-clock.json"
DATASETS = ("helen",)  # camvid's 144 rows are no multiple of 32, which the encoders need
TURNS, STEPS = 5, 6  # of the clock: so many turns of so many steps each
IMAGENET = ResNet18_Weights.IMAGENET1K_V1

Builder = Callable[[Settings, int], nn.Module]  # settings, classes -> f32[B,3,H,W] to logits f32[B,C,H,W]

# --- the networks ---------------------------------------------------------------------------------------------------

ours = unet.build  # bound here, since `put_in` gives that name to another builder for a while


class Residual(nn.Module):
    """A DoubleConv with a way past it, as in He et al. 2016 (arXiv 1512.03385): f32[B,cin,H,W] -> f32[B,cout,H,W].

    The last activation takes the sum of what comes before it and of a 1x1 convolution with batch norm: every
    DoubleConv of a U-Net changes the channels, so that every way past one needs its projection.
    """

    def __init__(self, block: unet.DoubleConv):
        super().__init__()
        *body, self.last = block.layers
        self.body = nn.Sequential(*body)
        first = body[0]
        assert isinstance(first, nn.Conv2d)
        cin, cout = first.in_channels, first.out_channels
        self.past = nn.Sequential(nn.Conv2d(cin, cout, 1, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x) + self.past(x))


def residual(settings: Settings, classes: int) -> unet.UNet:
    """Our U-Net, each of its double convolutions a residual block."""
    model = ours(settings, classes)
    for block in (model, *model.downs, *model.ups):
        for name, layer in list(block.named_children()):
            if isinstance(layer, unet.DoubleConv):
                block.add_module(name, Residual(layer))
    return model


class ToImageNet(nn.Module):
    """f32[B,3,H,W], (photo / 255 - mean) / std by the settings -> the same photo by ImageNet's mean and deviation."""

    scale: Tensor
    shift: Tensor

    def __init__(self, settings: Settings):
        super().__init__()
        preset = IMAGENET.transforms()
        mean, std = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (preset.mean, preset.std))
        self.register_buffer("scale", (settings.std / std).float())
        self.register_buffer("shift", ((settings.mean - mean) / std).float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class ResNetUNet(nn.Module):
    """U-Net on torchvision's resnet18: f32[B,3,H,W] -> logits f32[B,classes,H,W], for H and W that 32 divides.

    The encoder halves five times, beginning with its first convolution; a DoubleConv of settings.width channels at
    full resolution makes the first skip. The way up is ours. weights: the encoder's, by ImageNet; None: random ones.
    """

    def __init__(self, settings: Settings, classes: int, weights: dict[str, Tensor] | None = None):
        super().__init__()
        encoder = resnet18()
        if weights:
            encoder.load_state_dict(weights)
        self.convert = ToImageNet(settings) if weights else nn.Identity()
        first = nn.Sequential(encoder.conv1, encoder.bn1, encoder.relu)
        second = nn.Sequential(encoder.maxpool, encoder.layer1)
        self.downs = nn.ModuleList((first, second, encoder.layer2, encoder.layer3, encoder.layer4))
        channels = [settings.width, 64, 64, 128, 256, 512]
        steps = list(zip(channels, channels[1:], strict=False))
        self.enter = unet.DoubleConv(3, settings.width, settings.norm, settings.slope)
        self.ups = nn.ModuleList(
            unet.Up(deep, wide, settings.norm, settings.slope, settings.up) for wide, deep in reversed(steps)
        )
        self.out = nn.Conv2d(settings.width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        features, x = [self.enter(x)], self.convert(x)
        for down in self.downs:
            x = down(x)
            features.append(x)
        features.pop()
        for up in self.ups:
            x = up(x, features.pop())
        return self.out(x)


def resnet18_imagenet(settings: Settings, classes: int) -> ResNetUNet:
    """ResNetUNet that begins with ImageNet's weights; UNetError if they are not there and cannot be downloaded."""
    try:
        weights = IMAGENET.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UNetError(
            f"ImageNet's weights cannot be downloaded ({error}): put {IMAGENET.url} into torch's hub/checkpoints"
        ) from error
    return ResNetUNet(settings, classes, weights)


# name -> changes of `tuned`, builder. Width 8, 16, 24 against 96, 128, 192 px, less two corners: the cheapest, and the
# dearest, which would end after two epochs. In multiply-adds w24-96 is near ours, w8-192 equals w16-96, and w24-128
# equals w16-192: more channels or more pixels at the same price.
VARIANTS: dict[str, tuple[dict, Builder]] = {
    "ours": ({}, ours),
    "w8-128": (dict(width=8), ours),
    "w24-128": (dict(width=24), ours),
    "w16-96": (dict(size=96), ours),
    "w24-96": (dict(width=24, size=96), ours),
    "w8-192": (dict(width=8, size=192), ours),
    "w16-192": (dict(size=192), ours),
    "residual": ({}, residual),
    "resnet18": ({}, ResNetUNet),
    "resnet18-imagenet": ({}, resnet18_imagenet),
    "smp-resnet34": ({}, lambda settings, classes: yardsticks.smp_unet(classes)),
}


def settings_of(dataset: str, name: str, seed: int) -> Settings:
    """A variant's settings, its epochs not yet known."""
    return make_settings(dataset, "tuned", "demo", seed=seed, **VARIANTS[name][0])


def missing(dataset: str, name: str) -> str:
    """Why a variant cannot be built here, its weights or its package; "" if it can."""
    try:
        VARIANTS[name][1](settings_of(dataset, name, 0), len(load_dataset(dataset).classes))
    except UNetError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def put_in(builder: Builder) -> Iterator[None]:
    """Within, a Stepper and so a Trainer gets the builder's network: they ask for unet.build by that name."""
    kept = unet.build
    setattr(unet, "build", builder)  # noqa: B010 - not a UNet, which an assignment would have to be
    try:
        yield
    finally:
        unet.build = kept


# --- the clock ------------------------------------------------------------------------------------------------------


class Racer:
    """A variant on the clock: all that an epoch does, a batch at a time."""

    def __init__(self, settings: Settings, builder: Builder):
        self.settings, self.arrays = settings, preprocess.open_arrays(settings.dataset, settings.shape)
        with put_in(builder):
            self.steps = Steps(settings, self.arrays, hardware.pick_device())
        self.train, self.val = self.steps.batches("train"), self.steps.batches("val")
        self.kinds = ("whole", "half", "look") if settings.half_size_fraction else ("whole", "look")

    def measure(self, kind: str) -> float:
        """Seconds of one training step on whole photos or on those of half the size, or of one look at validation."""
        began = time.perf_counter()
        if kind == "look":
            self.look()
        else:
            self.steps.step(next(self.train), half=kind == "half").item()  # waits for the device
        return time.perf_counter() - began

    @torch.no_grad()
    def look(self) -> None:
        """One batch of validation."""
        images, labels, _ = next(self.val)
        logits = self.steps.stepper.network(to_float(images, self.settings.mean, self.settings.std))
        metrics.confusion(logits.argmax(1).cpu(), labels.cpu(), logits.shape[1])

    def epoch(self, seconds: dict[str, float]) -> float:
        """Seconds by kind -> of an epoch: the mean of those at half size and whole ones."""
        batches = {split: -(-len(arrays) // self.settings.batch) for split, arrays in self.arrays.items()}
        early = self.settings.half_size_fraction
        step = (1 - early) * seconds["whole"] + (early * seconds["half"] if early else 0.0)
        return batches["train"] * step + batches["val"] * seconds["look"]


def clock(dataset: str) -> dict[str, dict]:
    """Parameters, multiply-adds an image and seconds an epoch of each variant that can be built here; kept."""
    racers: dict[str, Racer] = {}
    for name, (_, builder) in VARIANTS.items():
        if why := missing(dataset, name):
            print(f"{name} is left out: {why}")
        else:
            racers[name] = Racer(settings_of(dataset, name, 0), builder)
    taken: dict[str, dict[str, list[float]]] = {
        name: {kind: [] for kind in racer.kinds} for name, racer in racers.items()
    }
    for _ in range(TURNS):  # A B C A B C
        for name, racer in racers.items():
            for kind in racer.kinds:
                racer.measure(kind)  # not counted: it finds another network in the caches
                taken[name][kind] += [racer.measure(kind) for _ in range(STEPS)]
    networks = {}
    for name, racer in racers.items():
        parameters, multiply_adds = yardsticks.describe(racer.steps.stepper.model, racer.settings.shape)
        seconds = racer.epoch({kind: float(np.median(times)) for kind, times in taken[name].items()})
        networks[name] = {"parameters": parameters, "multiply_adds": multiply_adds, "seconds": seconds}
    known = read_clock() | {dataset: {"machine": machine(), "networks": networks}}
    files.write_atomic(CLOCK, json.dumps(known, indent=1).encode())
    return networks


def read_clock() -> dict:
    """Dataset -> machine, and of each network what `clock` kept."""
    return json.loads(CLOCK.read_text()) if CLOCK.exists() else {}


def seconds_for(dataset: str, share: float) -> float:
    """What every network gets: `share` of the seconds of the original way."""
    return share * accuracy.ORIGINAL_EPOCHS[dataset] * accuracy.read_clock()[dataset]["original"]


def epochs_for(dataset: str, name: str, share: float) -> int:
    """How many epochs of a variant fit into `share` of the original way's time."""
    known = read_clock().get(dataset, {"networks": {}})["networks"].get(name)
    if known is None:
        sys.exit(f"{name} has no clock: python -m benchmarks.networks clock {dataset}, with nothing else running")
    epochs = int(seconds_for(dataset, share) / known["seconds"])
    if not epochs:
        sys.exit(f"{name}: an epoch takes {known['seconds']:.0f} s, more than the share: give a larger --share")
    return epochs


# --- a run ----------------------------------------------------------------------------------------------------------


def train(dataset: str, name: str, seed: int, share: float) -> tuple[predict.Segmenter, int]:
    """A variant's averaged weights after its last epoch, and its epochs."""
    settings = settings_of(dataset, name, seed).replace(epochs=epochs_for(dataset, name, share))
    arrays = preprocess.open_arrays(dataset, settings.shape)
    with put_in(VARIANTS[name][1]):
        trainer = Trainer(settings, arrays, f"networks-{name}-{seed}-{share}")
    trainer.fit(settings.epochs)
    if trainer.epoch < settings.epochs:
        sys.exit("interrupted: run it again to go on")
    return predict.Segmenter(trainer.network, settings), settings.epochs


def run(dataset: str, name: str, seed: int, share: float) -> None:
    """Train, score, keep the row; nothing if it is there, or if the variant cannot be built here."""
    key = {"dataset": dataset, "network": name, "seed": str(seed), "share": str(share)}
    if accuracy.is_there(ROWS, key):
        return
    if why := missing(dataset, name):
        print(f"{name} is left out: {why}")
        return
    segmenter, epochs = train(dataset, name, seed, share)
    scores = score_test_photos(segmenter, env.home() / "networks" / f"{dataset}-{name}-{seed}-{share}")
    accuracy.add_row(ROWS, key | {"epochs": epochs, "machine": machine()} | {k: f"{v:.4f}" for k, v in scores.items()})
    shown = (f"{score} {scores[score]:.4f}" for score in (load_dataset(dataset).primary_metric, "small classes"))
    print(*key.values(), f"{epochs} epochs:", *shown, flush=True)


# --- the table ------------------------------------------------------------------------------------------------------


def table() -> list[str]:
    """A line a variant and share: its size, its speed, and mean and spread over the seeds of its scores."""
    lines: list[str] = []
    for dataset, known in read_clock().items():
        rows = [row for row in accuracy.read_rows(ROWS) if row["dataset"] == dataset]
        primary_metric = load_dataset(dataset).primary_metric
        lines += [
            f"{dataset}, recipe tuned: epochs that fit into share x {seconds_for(dataset, 1):.0f} s, the time of the "
            "original way; building, checkpoints and scoring are not counted",
            f"clock: {known['machine']}",
            f"{'network':18} {'px':>4} {'M params':>9} {'G mult-adds':>12} {'s/epoch':>8}  share epochs seeds  "
            f"{primary_metric:7} small classes",
        ]
        for name in VARIANTS:
            if name not in known["networks"]:
                lines.append(f"{name:18} left out: its weights or its package were not there")
                continue
            mine = [row for row in rows if row["network"] == name]
            for share in sorted({row["share"] for row in mine}) or [""]:
                scored = [row for row in mine if row["share"] == share]
                lines.append(f"{facts(dataset, name, known['networks'][name])}  {results(scored, primary_metric)}")
    return lines


def facts(dataset: str, name: str, known: dict) -> str:
    """What is known of a variant before it is trained."""
    parameters, multiply_adds = known["parameters"] / 1e6, known["multiply_adds"] / 1e9
    size = settings_of(dataset, name, 0).size
    return f"{name:18} {size:4} {parameters:9.2f} {multiply_adds:12.3f} {known['seconds']:8.1f}"


def results(rows: list[dict], primary_metric: str) -> str:
    """Scores of the rows of one variant and share."""
    if not rows:
        return "not run yet"
    scores = (primary_metric, "small classes")
    cells = "  ".join(f"{accuracy.mean(rows, s):.4f}{accuracy.spread(rows, s)}" for s in scores)
    return f"{rows[0]['share']:>5} {rows[0]['epochs']:>6} {len(rows):5}  {cells}"


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks")
    commands = parser.add_subparsers(dest="what", required=True)
    timing, running = commands.add_parser("clock"), commands.add_parser("run")
    commands.add_parser("table")
    for command in (timing, running):
        command.add_argument("dataset", choices=DATASETS)
    running.add_argument("name", choices=list(VARIANTS))
    running.add_argument("seed", type=int)
    running.add_argument("--share", type=float, default=1.0, help="of the original way's time")
    options = parser.parse_args(arguments)
    if options.what == "clock":
        print(json.dumps(clock(options.dataset), indent=1))
    elif options.what == "run":
        run(options.dataset, options.name, options.seed, options.share)
    else:
        report(RESULTS / "networks.txt", [machine(), *table()])


if __name__ == "__main__":
    main()
