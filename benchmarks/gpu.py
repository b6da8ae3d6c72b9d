"""What is claimed of a GPU, by one command of less than nine minutes: correct first, then fast, then a score.

    python -m benchmarks.gpu            # on the card; draws its own faces, downloads nothing
    python -m benchmarks.gpu --tiny     # the same on whatever there is, at a size that shows only that it runs

Writes results/gpu.txt, a line as soon as it is known.
"""

import argparse
import functools
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import yardsticks
from benchmarks.recipes import RESULTS, machine
from helpers import augment, losses, predict, preprocess
from helpers import batches as feed
from helpers.core import files, hardware
from helpers.core.errors import TrainingError
from helpers.core.registry import load_dataset
from helpers.preprocess import Batches
from helpers.settings import Settings, make_settings
from helpers.sources import restructure
from helpers.trainer import Trainer
from helpers.training import stepper

CLASSES = 11
LINES: list[str] = []


def tell(line: str, name: str) -> None:
    """Print and keep a line."""
    LINES.append(line)
    files.write_atomic(RESULTS / name, ("\n".join(LINES) + "\n").encode())
    print(line, flush=True)


def wait(device: torch.device) -> None:
    """Until the card has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(step: Callable[[], int], device: torch.device, steps: int) -> tuple[float, float]:
    """A step that returns its number of images -> images/s, median of five pieces after a warm-up, and peak GiB."""
    for _ in range(max(2, steps // 2)):
        step()
    wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        images = sum(step() for _ in range(steps))
        wait(device)
        rates.append(images / (time.perf_counter() - began))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan")
    return statistics.median(rates), peak


def fitting(work: Callable[[], str], what: str) -> str:
    """The line that `work` gives, or that it does not fit into this card's memory."""
    try:
        return work()
    except (RuntimeError, TrainingError) as error:
        if not stepper.is_out_of_memory(error) and "out of memory" not in str(error):  # a TrainingError's words
            raise
        return f"{what}: out of memory on this card"
    finally:
        torch._dynamo.reset()  # what was compiled for one batch is not the next one's, and neither is its memory
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def plain(device: torch.device) -> str:
    """What fp32 means there: torch lets newer cards round what convolutions multiply to TF32."""
    rounded = device.type == "cuda" and torch.backends.cudnn.allow_tf32 and torch.cuda.get_device_capability() >= (8, 0)
    return "fp32 (TF32 in convolutions)" if rounded else "fp32"


def batch_of(settings: Settings, device: torch.device) -> tuple[Tensor, Tensor]:
    """A random batch as the step takes it; classes in stripes, a part void."""
    x = torch.randn(settings.batch, 3, *settings.shape, device=device).to(memory_format=torch.channels_last)
    ids = torch.arange(settings.shape[0], device=device) * CLASSES // settings.shape[0]
    target = ids[None, :, None].repeat(settings.batch, 1, settings.shape[1])
    target[:, :, :5] = 255
    return x, target


# --- correct --------------------------------------------------------------------------------------------------------


def check_precisions(settings: Settings, device: torch.device) -> list[str]:
    """Ten steps in half precision beside fp32 from the same weights: losses within a twentieth."""
    curves, batch = {}, batch_of(settings, device)
    card = device.type == "cuda"
    kinds = (
        ["fp32"] + ["bf16"] * (not card or torch.cuda.is_bf16_supported(including_emulation=False)) + ["fp16"] * card
    )
    for kind in kinds:
        one = stepper.Stepper(settings.replace(precision=kind), CLASSES, device)
        curves[kind] = []
        for _ in range(10):
            loss = one.backward(*batch)
            one.update(loss, 5e-4, settings.batch)
            curves[kind].append(float(loss))
        assert one.read_bad() == -1, f"{kind}: a loss or gradient was not finite"
    lines = []
    for kind in kinds[1:]:
        apart = max(abs(a - b) / a for a, b in zip(curves["fp32"], curves[kind], strict=True))
        assert apart < 0.05, f"{kind} is {apart:.3f} away from fp32: {curves}"
        lines.append(f"{kind} against fp32 over 10 steps: losses at most {apart:.4f} apart (relative)")
    return lines


def check_losses(settings: Settings, device: torch.device) -> str:
    """Every loss on the card as on the CPU."""
    logits, (_, target) = torch.randn(settings.batch, CLASSES, *settings.shape), batch_of(settings, torch.device("cpu"))
    worst = 0.0
    for name, loss in losses.LOSSES.items():
        here, there = float(loss(logits, target)), float(loss(logits.to(device), target.to(device)))
        worst = max(worst, abs(here - there) / max(here, 1e-6))
        assert worst < 1e-3, f"{name}: {here} on the CPU, {there} on {device}"
    return f"{len(losses.LOSSES)} losses on {device} and on the CPU: at most {worst:.1e} apart (relative)"


def check_feeds(arrays: preprocess.Arrays, device: torch.device) -> str:
    """The batches of both feeds are the arrays' rows, on a card that is always behind: what does not wait shows."""
    batches = Batches(len(arrays), 8, seed=1)
    there = tuple(torch.from_numpy(part.copy()).to(device) for part in (arrays.images, arrays.labels))
    pinned = feed.Pinned(arrays, 8, device)
    for way in (feed.taken(*there, batches), feed.copied(pinned, batches), feed.copied(pinned, batches)):
        seen = []
        for x, y, numbers in way:
            if device.type == "cuda":
                torch.cuda._sleep(50_000_000)  # cycles, some hundredths of a second
            seen.append((x.clone(), y.clone(), numbers))  # the batch itself is dropped, and its memory given away
        for x, y, numbers in seen:
            assert (x.cpu().numpy() == arrays.images[numbers]).all(), f"images of {numbers}"
            assert (y.cpu().numpy() == arrays.labels[numbers]).all(), f"labels of {numbers}"
    return "batches taken on the card and copied through pinned buffers: the arrays' rows, to the last byte"


def state(one: stepper.Stepper) -> list[Tensor]:
    """Copies of all that a step changes: weights, statistics, averages, moments."""
    moments = [v for held in one.optimizer.state.values() for v in held.values() if isinstance(v, Tensor)]
    return [v.detach().clone() for v in (*one.model.state_dict().values(), *one.averages, *moments)]


def check_masked(settings: Settings, device: torch.device) -> str:
    """A step on what is not a number changes no weight, statistic or moment, with any optimizer."""
    x, target = batch_of(settings, device)
    kinds = ("adamw", "muon", "adam", "sgd")
    for kind in kinds:
        one = stepper.Stepper(settings.replace(optimizer=kind, ema_decay=0.0), CLASSES, device)
        for _ in range(2):
            one.update(one.backward(x, target), 5e-4, settings.batch)
        before = state(one)
        one.update(one.backward(x * torch.nan, target), 5e-4, settings.batch)
        assert all(torch.equal(a, b) for a, b in zip(before, state(one), strict=True)), kind
        assert one.read_bad() == 3, kind
    return f"a step whose loss is not a number changes nothing: {', '.join(kinds)}"


def check_waits(settings: Settings, device: torch.device) -> list[str]:
    """Whether augmentation and step wait for the card, as its own debug mode tells; a line for each kind."""
    lines, numbers = [], np.arange(settings.batch)
    labels = batch_of(settings, device)[1].to(torch.uint8)
    images = labels[..., None].repeat(1, 1, 1, 3)
    change = augment.Augment(load_dataset("helen").flip_pairs, settings.mean, settings.std, 0)
    for kind in ("adamw", "muon") if device.type == "cuda" else ():
        for precision in ("bf16", "fp16"):
            what = f"a step with {kind} in {precision}"
            one = stepper.Stepper(settings.replace(optimizer=kind, precision=precision), CLASSES, device)
            for turn in range(4):
                if turn == 2:  # two steps to warm up: kernels are chosen, states made
                    torch.cuda.synchronize(device)
                    torch.cuda.set_sync_debug_mode("error")
                try:
                    x, target = change(images, labels, numbers, turn)
                    one.update(one.backward(x, target), 5e-4, settings.batch)
                except RuntimeError as error:
                    lines.append(f"{what} WAITS for the card: {str(error).splitlines()[0]}")
                    break
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            else:
                lines.append(f"{what} does not wait for the card")
    return lines


# --- fast -----------------------------------------------------------------------------------------------------------


def our_rate(settings: Settings, arrays: dict, device: torch.device, steps: int) -> tuple[float, float]:
    """Ours from arrays to updated weights: feed, augment, step."""
    trainer = Trainer(settings, arrays, f"rate-{settings.batch}-{settings.compile}-{settings.precision}", device)

    def endless():
        epoch = 0
        while True:
            yield from trainer.feeds["train"](0, epoch)
            epoch += 1

    batches = endless()

    def step() -> int:
        images, labels, numbers = next(batches)
        x, target = trainer._prepare(images.to(device), labels.to(device), numbers, 0)
        trainer.stepper.update(trainer.stepper.backward(x, target), 1e-4, len(numbers))
        return len(numbers)

    return rate(step, device, steps)


def our_line(settings: Settings, arrays: dict, device: torch.device, steps: int, what: str) -> str:
    """our_rate in words."""
    images, peak = our_rate(settings, arrays, device, steps)
    return f"{what}: {images:.0f} images/s, {peak:.2f} GiB, {images * 288e9 / 1e12:.0f} TFLOP/s if the full network"


def seeds_rate(settings: Settings, device: torch.device, steps: int) -> dict[str, tuple[float, float]]:
    """The seed's way: its step alone on ready tensors, and with its feeding from files in worker processes."""
    loop = yardsticks.seed_way(yardsticks.network(settings, CLASSES), 30, device)
    x, target = batch_of(settings, device)
    one_hot = torch.nn.functional.one_hot(target.clamp_max(CLASSES - 1), CLASSES).permute(0, 3, 1, 2).float()
    x = x.contiguous()

    def step() -> int:
        loop.step(x, one_hot)
        return len(x)

    alone = rate(step, device, steps)
    workers = min(8, hardware.cores())
    batches = yardsticks.loader(preprocess.pairs("helen", "train"), settings, CLASSES, workers)
    began = time.perf_counter()
    loop.epoch(batches)
    wait(device)
    fed = len(batches.dataset) / (time.perf_counter() - began)
    return {"step alone": alone, f"with feeding in {workers} workers": (fed, alone[1])}


# --- a score --------------------------------------------------------------------------------------------------------


def train(settings: Settings, arrays: dict, device: torch.device, name: str) -> str:
    """All epochs, timed, and F1 on the test photos."""
    began = time.perf_counter()
    trainer = Trainer(settings, arrays, name, device).fit(settings.epochs)
    took = time.perf_counter() - began
    scores = trainer.validate(predict.load(trainer.folder / "best.pt", device).model)
    images = settings.epochs * len(arrays["train"])
    return (f"{name}: {settings.epochs} epochs of {len(arrays['train'])} drawn faces at {settings.size} px, batch "
            f"{settings.batch}, in {took:.1f} s with validation and checkpoints ({images / took:.0f} images/s); "
            f"validation F1 overall {scores['overall']:.4f}")  # fmt: skip


def main() -> None:
    """Correct, fast, a score, in this order."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="show on any machine that it runs")
    tiny, device = parser.parse_args().tiny, hardware.pick_device()
    say = functools.partial(tell, name="gpu-tiny.txt" if tiny else "gpu.txt")
    faces, sizes, steps = ((12, 4), (2, 4), 2) if tiny else ((1999, 100), (10, 32, 64, 128), 20)
    small = dict(size=32, width=4, depth=2) if tiny else {}
    home = Path(tempfile.mkdtemp(prefix="gpu"))
    os.environ["UNET_HOME"] = str(home)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no card"
    try:
        say(f"{machine()}, {name}")
        restructure.restructure("helen", restructure.synthetic_sample("helen", *faces))
        full = make_settings("helen", "tuned", "full", **small).replace(batch=sizes[0], epochs=1 if tiny else 30)
        arrays = preprocess.open_arrays("helen", full.shape)
        for line in check_precisions(full, device):
            say(line)
        say(check_losses(full, device))
        say(check_feeds(arrays["val"], device))
        say(check_masked(full, device))
        for line in check_waits(full, device):
            say(line)
        seed = make_settings("helen", "original", "full", **small).replace(batch=sizes[0])
        for what, (images, peak) in seeds_rate(seed, device, steps).items():
            say(f"seed's way, batch {seed.batch}, {plain(device)}, {what}: {images:.0f} images/s, {peak:.2f} GiB")
        for batch in sizes:
            kinds = {"": {}, ", muon": dict(optimizer="muon"), ", compiled": dict(compile=True)}
            for kind, changes in list(kinds.items())[: 2 if tiny else 3]:
                what, settings = f"ours, batch {batch}{kind}", full.replace(batch=batch, **changes)
                work = functools.partial(our_line, settings, arrays, device, steps, what)
                say(fitting(work, what))
        trials = (full, full.replace(batch=4 if tiny else 64, lr=full.lr * 2), full.replace(optimizer="muon", lr=3e-3))
        for settings in trials:
            what = f"{settings.optimizer}-batch-{settings.batch}"
            say(fitting(functools.partial(train, settings, arrays, device, what), what))
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
