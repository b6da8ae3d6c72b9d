"""What is claimed of a GPU, by one command of less than nine minutes: correct first, then fast, then a score.

    python -m benchmarks.gpu            # on a GPU, with synthetic faces; downloads nothing
    python -m benchmarks.gpu --tiny     # the same on whatever there is, at a size that shows only that it runs

Writes results/gpu.txt, a line as soon as it is known.
"""

import argparse
import functools
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks import yardsticks
from benchmarks.common import RESULTS, Steps, machine
from helpers import augment, losses, predict, preprocess
from helpers.batches import BatchSampler, Feed, ResidentSamples
from helpers.core import files, hardware
from helpers.core.errors import TrainingError
from helpers.core.registry import load_dataset
from helpers.settings import Settings, make_settings
from helpers.sources import restructure
from helpers.trainer import Trainer, train_step
from helpers.training import faults
from helpers.training.stepper import Stepper

CLASSES = 11


def wait(device: torch.device) -> None:
    """Until the GPU has done all that it was given."""
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
    """The line that `work` gives, or that it does not fit into this GPU's memory."""
    try:
        return work()
    except (RuntimeError, TrainingError) as error:
        if not faults.is_out_of_memory(error) and "out of memory" not in str(error):  # a TrainingError's message
            raise
        return f"{what}: out of memory on this GPU"
    finally:
        torch._dynamo.reset()  # what was compiled for one batch is not the next one's, and neither is its memory
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def plain(device: torch.device) -> str:
    """What fp32 means there: torch lets newer GPUs round what convolutions multiply to TF32."""
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
    batch, kinds = batch_of(settings, device), ["fp32"]
    if device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False):
        kinds.append("bf16")
    if device.type == "cuda":
        kinds.append("fp16")
    curves: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind, curve in curves.items():
        one = Stepper(settings.replace(precision=kind), CLASSES, device)
        for _ in range(10):
            curve.append(train_step(one, *batch, 5e-4)[0].item())
        assert one.is_finite(), f"{kind}: weights that are not finite"
    lines = []
    for kind in kinds[1:]:
        apart = max(abs(a - b) / a for a, b in zip(curves["fp32"], curves[kind], strict=True))
        assert apart < 0.05, f"{kind} is {apart:.3f} away from fp32: {curves}"
        lines.append(f"{kind} against fp32 over 10 steps: losses at most {apart:.4f} apart (relative)")
    return lines


def check_losses(settings: Settings, device: torch.device) -> str:
    """Every loss on the GPU as on the CPU."""
    logits, (_, target) = torch.randn(settings.batch, CLASSES, *settings.shape), batch_of(settings, torch.device("cpu"))
    worst = 0.0
    for name, loss in losses.LOSSES.items():
        here, there = float(loss(logits, target)), float(loss(logits.to(device), target.to(device)))
        worst = max(worst, abs(here - there) / max(here, 1e-6))
        assert worst < 1e-3, f"{name}: {here} on the CPU, {there} on {device}"
    return f"{len(losses.LOSSES)} losses on {device} and on the CPU: at most {worst:.1e} apart (relative)"


def check_feeds(arrays: preprocess.Arrays, device: torch.device) -> str:
    """The batches of both feeds are the arrays' rows, on a GPU that is always behind: what does not wait shows."""
    copied, resident = Feed(arrays, 8, device), Feed(arrays, 8, device)
    copied.leave_device()
    resident.samples = ResidentSamples(arrays, device)
    for feed in (resident, copied, copied):
        kept = []
        for images, labels, numbers in feed(1):
            if device.type == "cuda":
                torch.cuda._sleep(50_000_000)  # cycles, some hundredths of a second
            kept.append((images.clone(), labels.clone(), numbers))  # the batch itself is dropped, its memory given away
        for (images, labels, numbers), wanted in zip(kept, BatchSampler(len(arrays), 8, 1), strict=True):
            assert (numbers == wanted).all()
            assert (images.cpu().numpy() == arrays.images[wanted]).all(), f"images of {wanted}"
            assert (labels.cpu().numpy() == arrays.labels[wanted]).all(), f"labels of {wanted}"
    return "batches taken on the GPU and copied through page-locked memory: the arrays' rows, to the last byte"


def check_waits(settings: Settings, device: torch.device) -> list[str]:
    """Whether augmentation and step wait for the GPU, as its own debug mode reports; a line for each kind."""
    lines, numbers = [], np.arange(settings.batch)
    labels = batch_of(settings, device)[1].to(torch.uint8)
    images = labels[..., None].repeat(1, 1, 1, 3)
    change = augment.Augment(load_dataset("helen").flip_pairs, settings.mean, settings.std, 0)
    for kind in ("adamw", "muon") if device.type == "cuda" else ():
        for precision in ("bf16", "fp16"):
            what = f"a step with {kind} in {precision}"
            one = Stepper(settings.replace(optimizer=kind, precision=precision), CLASSES, device)
            for turn in range(4):
                if turn == 2:  # two steps to warm up: kernels are chosen, states made
                    torch.cuda.synchronize(device)
                    torch.cuda.set_sync_debug_mode("error")
                try:
                    x, target = change(images, labels, numbers, turn)
                    train_step(one, x, target, 5e-4)
                except RuntimeError as error:
                    lines.append(f"{what} WAITS for the GPU: {str(error).splitlines()[0]}")
                    break
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            else:
                lines.append(f"{what} does not wait for the GPU")
    return lines


# --- fast -----------------------------------------------------------------------------------------------------------


def our_line(settings: Settings, arrays: dict, device: torch.device, steps: int, what: str) -> str:
    """Ours from arrays to updated weights: feed, augment, step."""
    ours = Steps(settings, arrays, device)
    batches = ours.batches("train")

    def step() -> int:
        batch = next(batches)
        ours.step(batch)
        return len(batch[2])

    images, peak = rate(step, device, steps)
    return f"{what}: {images:.0f} images/s, {peak:.2f} GiB, {images * 288e9 / 1e12:.0f} TFLOP/s if the full network"


def original_rates(settings: Settings, device: torch.device, steps: int) -> dict[str, tuple[float, float]]:
    """The original way: its step alone on ready tensors, and with its feeding from files in worker processes."""
    loop = yardsticks.original_way(yardsticks.network(settings, CLASSES), 30, device)
    x, target = batch_of(settings, device)
    one_hot = torch.nn.functional.one_hot(target.clamp_max(CLASSES - 1), CLASSES).permute(0, 3, 1, 2).float()
    x = x.contiguous()

    def step() -> int:
        loop.step(x, one_hot)
        return len(x)

    alone = rate(step, device, steps)
    workers, pairs = min(8, hardware.cores()), preprocess.pairs("helen", "train")
    batches = yardsticks.loader(pairs, settings, CLASSES, workers)
    began = time.perf_counter()
    loop.epoch(batches)
    wait(device)
    fed = len(pairs) / (time.perf_counter() - began)
    return {"step alone": alone, f"with feeding in {workers} workers": (fed, alone[1])}


# --- a score --------------------------------------------------------------------------------------------------------


def train(settings: Settings, arrays: dict, device: torch.device, name: str) -> str:
    """All epochs, timed, and F1 on the test photos."""
    began = time.perf_counter()
    trainer = Trainer(settings, arrays, name, device).fit(settings.epochs)
    took = time.perf_counter() - began
    scores = trainer.validate(predict.load(trainer.folder / "best.pt", device).model)
    images = settings.epochs * len(arrays["train"])
    return (
        f"{name}: {settings.epochs} epochs of {len(arrays['train'])} synthetic faces at {settings.size} px, batch "
        f"{settings.batch}, in {took:.1f} s with validation and checkpoints ({images / took:.0f} images/s); "
        f"validation F1 overall {scores['overall']:.4f}"
    )


def measure(tiny: bool, device: torch.device) -> Iterator[str]:
    """Correct, fast, a score, in this order; a line each."""
    faces, sizes, steps = ((12, 4), (2, 4), 2) if tiny else ((1999, 100), (10, 32, 64, 128), 20)
    small: dict = dict(size=32, width=4, depth=2) if tiny else {}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    yield f"{machine()}, {name}"
    restructure.restructure("helen", restructure.synthetic_sample("helen", *faces))
    full = make_settings("helen", "tuned", "full", **small).replace(batch=sizes[0], epochs=1 if tiny else 30)
    arrays = preprocess.open_arrays("helen", full.shape)
    yield from check_precisions(full, device)
    yield check_losses(full, device)
    yield check_feeds(arrays["val"], device)
    yield from check_waits(full, device)
    original = make_settings("helen", "original", "full", **small).replace(batch=sizes[0])
    for what, (images, peak) in original_rates(original, device, steps).items():
        yield f"original way, batch {original.batch}, {plain(device)}, {what}: {images:.0f} images/s, {peak:.2f} GiB"
    kinds: dict[str, dict] = {"": {}, ", muon": dict(optimizer="muon")}
    if not tiny:
        kinds[", compiled"] = dict(compile=True)
    for batch in sizes:
        for kind, changes in kinds.items():
            what, settings = f"ours, batch {batch}{kind}", full.replace(batch=batch, **changes)
            yield fitting(functools.partial(our_line, settings, arrays, device, steps, what), what)
    trials = (full, full.replace(batch=4 if tiny else 64, lr=full.lr * 2), full.replace(optimizer="muon", lr=3e-3))
    for settings in trials:
        what = f"{settings.optimizer}-batch-{settings.batch}"
        yield fitting(functools.partial(train, settings, arrays, device, what), what)


def main() -> None:
    """The command line; every line is kept as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="show on any machine that it runs")
    tiny = parser.parse_args().tiny
    path, lines = RESULTS / ("gpu-tiny.txt" if tiny else "gpu.txt"), []
    with tempfile.TemporaryDirectory(prefix="gpu") as home:
        os.environ["UNET_HOME"] = home
        for line in measure(tiny, hardware.pick_device()):
            lines.append(line)
            files.write_atomic(path, ("\n".join(lines) + "\n").encode())
            print(line, flush=True)


if __name__ == "__main__":
    main()
