"""One optimizer step, and all that it changes: weights, their average, moments, the fp16 scale."""

import contextlib
import copy
import inspect

import torch
from torch import Tensor

from .. import losses, unet
from ..core import distributed
from ..core.errors import TrainingError
from ..settings import Settings
from . import muon

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD, "muon": muon.Muon}
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def make_optimizer(settings: Settings, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam, AdamW, SGD or Muon over all parameters, at the settings' peak rate.

    fused: one kernel for all weights (13 times as fast on this project's CPU), and the only kind that takes
    `found_inf`, by which an update is left out without waiting for the device.
    """
    for name, value, known in (("optimizer", settings.optimizer, OPTIMIZERS), ("loss", settings.loss, losses.LOSSES)):
        if value not in known:
            raise TrainingError(f"no {name} called {value!r}: choose one of {', '.join(known)}")
    kind = OPTIMIZERS[settings.optimizer]
    own = {"momentum": settings.momentum} if kind is torch.optim.SGD else {}
    if kind is muon.Muon and not muon.kernels(model.parameters()):
        raise TrainingError(f"muon finds no kernel to train at width {settings.width}: choose optimizer adamw")
    optimizer = kind(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True, **own)
    begin_momentum(optimizer)
    return optimizer


def begin_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Zeros for every momentum that SGD lacks; nothing for Adam.

    Left to itself, torch's fused SGD takes memory as it is (empty_like) in its first step, trusting that step to fill
    it; a step masked by `found_inf` does not. From zeros the first step is the same: momentum * 0 + gradient.
    """
    for group in optimizer.param_groups:
        for p in group["params"] if group.get("momentum") else ():
            optimizer.state[p].setdefault("momentum_buffer", torch.zeros_like(p))


def pick_precision(wanted: str, device: torch.device) -> str:
    """'auto' -> bf16 on a card that has it, fp16 on one that has not (T4), fp32 elsewhere; others are checked."""
    if wanted not in ("auto", "fp32", *HALVES):
        raise TrainingError(f"no precision called {wanted!r}: choose auto, fp32, {' or '.join(HALVES)}")
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


# what the CPU and MPS say of it; then cuDNN and cuBLAS, which had no room to work in (PyTorch issue 108645)
NO_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory",
    "unable to find an engine", "unable to find a valid cudnn", "alloc_failed",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left: CUDA mostly says it by a type, others by their words."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in NO_MEMORY)
    )


def floats(module: torch.nn.Module | None) -> list[Tensor]:
    """A module's weights and statistics themselves, no copies, less its counts; [] of none."""
    return [v for v in module.state_dict().values() if v.is_floating_point()] if module else []


class BufferSnapshot:
    """A module's statistics and counts as they were before a step: one flat tensor a dtype, so few calls on a card."""

    def __init__(self, buffers: list[Tensor]):
        self.groups = [[b for b in buffers if b.dtype == kind] for kind in dict.fromkeys(b.dtype for b in buffers)]
        self.flat = [torch.cat([b.flatten() for b in group]) for group in self.groups]

    @staticmethod
    def parts(flat: Tensor, group: list[Tensor]) -> list[Tensor]:
        """Views of the flat tensor, of the buffers' shapes."""
        pieces = flat.split([b.numel() for b in group])
        return [piece.view_as(b) for piece, b in zip(pieces, group, strict=True)]

    @torch.no_grad()
    def remember(self) -> None:
        """As they are now."""
        for flat, group in zip(self.flat, self.groups, strict=True):
            torch._foreach_copy_(self.parts(flat, group), group)

    @torch.no_grad()
    def put_back(self) -> None:
        """As they were."""
        for flat, group in zip(self.flat, self.groups, strict=True):
            torch._foreach_copy_(group, self.parts(flat, group))

    @torch.no_grad()
    def put_back_unless(self, fine: Tensor) -> None:
        """As they were where `fine` is a False on the device; nothing waits for it."""
        for flat, group in zip(self.flat, self.groups, strict=True):
            now = torch.cat([b.flatten() for b in group])
            torch._foreach_copy_(group, self.parts(torch.where(fine, now, flat), group))


class Stepper:
    """Model, averaged weights, optimizer and scaler of one training, on one device."""

    def __init__(self, settings: Settings, classes: int, device: torch.device):
        self.settings, self.device = settings, device
        with torch.random.fork_rng(devices=[]):  # the reader's own random numbers stay as they are
            torch.default_generator.manual_seed(settings.seed)
            self.model = unet.build(settings, classes)
        # statistics over the whole batch; the CPU has no such norm. torch's waits for the card, once a norm and step
        if device.type == "cuda" and distributed.world_size() > 1:
            self.model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        # channels_last: on two CPU cores a step takes 0.85 of the time, and batches come in that order anyway
        self.model.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False) if settings.ema_decay else None
        self.averages, self.sources = floats(self.average), floats(self.model)
        self.optimizer = make_optimizer(settings, self.model)
        # the same network; its backward pass takes the mean of the gradients over all processes
        self.replica = self._share() if distributed.world_size() > 1 else self.model
        if settings.compile:
            self.replica = torch.compile(self.replica, dynamic=False)  # a kernel for each of two or four shapes
        self.precision = pick_precision(settings.precision, device)
        self.scaler = self._make_scaler()
        self.steps = 0
        # what stays on the device: sum of the losses since it was last read, the first step whose loss was not finite
        self.window = torch.zeros((), device=device)
        self.first_bad = torch.full((), -1.0, device=device)
        # the norms' running statistics and counts: the forward pass moves them
        self.moving = list(self.model.buffers())
        self.kept = BufferSnapshot(self.moving)

    def _share(self) -> torch.nn.Module:
        """The model in DistributedDataParallel. It leaves the statistics to `backward`, which takes their mean."""
        wrap = torch.nn.parallel.DistributedDataParallel
        new = "forward_sync_buffers" in inspect.signature(wrap).parameters  # torch's other name for it since 2.14
        return wrap(self.model, **{"forward_sync_buffers" if new else "broadcast_buffers": False})

    def _make_scaler(self) -> torch.amp.GradScaler:
        """Scales fp16's loss so that small gradients do not vanish; does nothing for fp32 and bf16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager:
        """Convolutions in half precision where the settings say so."""
        half = HALVES.get(self.precision)
        return torch.autocast(self.device.type, half) if half else contextlib.nullcontext()

    @property
    def network(self) -> unet.UNet:
        """The network to use, itself and no copy: averaged weights where the recipe averages, else the model's."""
        return (self.average or self.model).eval()

    def backward(self, x: Tensor, target: Tensor) -> Tensor:
        """Forward and backward of f32[B,3,S,S], int64[B,S,S] -> the loss, detached. Changes no weight.

        Whatever error or interrupt comes, statistics are put back and gradients dropped.
        """
        self.kept.remember()
        try:
            self.model.train()
            with self.autocast():
                logits = self.replica(x)
            loss = losses.LOSSES[self.settings.loss](logits.float(), target)
            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            distributed.all_reduce_mean([b for b in self.moving if b.is_floating_point()])
            return loss.detach()
        except BaseException:
            self.put_back()
            raise

    @torch.no_grad()
    def put_back(self) -> None:
        """As before the step: the norms' statistics and counts, no gradients."""
        self.kept.put_back()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def update(self, loss: Tensor, rate: float, count: int) -> Tensor:
        """Clip, step and average; returns loss times `count` images. A loss or gradient that is not finite changes no
        weight, moment or statistic, and is noted on the device, where `read` finds it: nothing here waits for it.

        Under fp16 an overflow of the scaled gradients is the scaler's own matter: it skips the step and halves.
        """
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip or torch.inf)
        fine = loss.isfinite() if self.scaler.is_enabled() else loss.isfinite() & norm.isfinite()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if not self.scaler.is_enabled():
            self.optimizer.grad_scale, self.optimizer.found_inf = None, (~fine).float()
        # MPS: fused Adam has looked at found_inf only since 2026 (PyTorch PR 186360), so there the flag is waited for
        if self.device.type != "mps" or bool(fine):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.kept.put_back_unless(fine)
        self.steps += 1
        self._update_average()
        self.first_bad.copy_(torch.where(fine | (self.first_bad >= 0), self.first_bad, self.steps))
        part = torch.where(fine, loss, 0) * count
        self.window += part
        return part

    def _update_average(self) -> None:
        """Move the averaged weights (and norms' statistics) towards the model's; faster in the first steps."""
        if self.average is None:
            return
        keep = min(self.settings.ema_decay, self.steps / (self.steps + 9))
        torch._foreach_lerp_(self.averages, self.sources, 1 - keep)

    def read(self) -> tuple[float, int]:
        """(sum of losses times images since the last read, first bad step or -1); waits for the device."""
        window, bad = torch.stack((self.window, self.first_bad)).tolist()
        self.window.zero_()
        return window, int(bad)

    def read_bad(self) -> int:
        """The first step since the last read whose loss was not finite, or -1; waits for the device."""
        return int(self.first_bad)

    def is_overflowing(self) -> bool:
        """fp16: whether gradients overflow even unscaled, so that every step is skipped; waits for the device."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1

    def is_finite(self) -> bool:
        """Whether every weight and statistic is a number."""
        return bool(torch.stack([v.isfinite().all() for v in self.sources]).all())

    def state(self) -> dict:
        """Tensors and plain values: all that a step changes."""
        return {
            "model": self.model.state_dict(), "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict(), "step": self.steps,
            "window": float(self.window),
        }  # fmt: skip

    def load(self, state: dict) -> None:
        """Take over a state of `state()`."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"] or state["model"])
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:  # loading has put the checkpoint's settings there
            group["weight_decay"] = self.settings.weight_decay
            if "momentum" in group:
                group["momentum"] = self.settings.momentum
        begin_momentum(self.optimizer)  # a checkpoint made at momentum 0 holds none
        self.scaler = self._make_scaler()  # anew: an old one may have been cut between unscaling and its update
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.steps = state["step"]
        self.window.fill_(state["window"])
        self.first_bad.fill_(-1)
