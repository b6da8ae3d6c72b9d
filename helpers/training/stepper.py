"""Everything that an optimizer step changes: network, moving average, optimizer, the fp16 scale."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import losses, unet
from ..core import distributed
from ..core.errors import TrainingError
from ..settings import Settings
from . import muon

OPTIMIZERS: dict[str, Any] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "muon": muon.Muon,
}
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def make_optimizer(settings: Settings, model: torch.nn.Module, fused: bool = True) -> torch.optim.Optimizer:
    """Adam, AdamW, SGD or Muon over all parameters, at the settings' peak rate; TrainingError for an unknown name.

    fused: one kernel for all weights, 13 times as fast on this project's CPU.
    """
    if settings.optimizer not in OPTIMIZERS:
        raise TrainingError(f"no optimizer called {settings.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")
    more = {"momentum": settings.momentum} if settings.optimizer == "sgd" else {}
    make = OPTIMIZERS[settings.optimizer]
    return make(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=fused, **more)


def pick_precision(wanted: str, device: torch.device) -> str:
    """'auto' -> bf16 on a GPU that has it, fp16 on one that has not (T4), fp32 elsewhere; others are checked."""
    if wanted not in ("auto", "fp32", *HALVES):
        raise TrainingError(f"no precision called {wanted!r}: choose auto, fp32, {' or '.join(HALVES)}")
    if wanted != "auto":
        return wanted
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


class Stepper:
    """Network, moving average of its weights, optimizer and scaler of one training, on one device."""

    def __init__(self, settings: Settings, classes: int, device: torch.device):
        self.settings, self.device = settings, device
        if settings.loss not in losses.LOSSES:
            raise TrainingError(f"no loss called {settings.loss!r}: choose one of {', '.join(losses.LOSSES)}")
        with torch.random.fork_rng(devices=[]):  # the reader's own random numbers stay as they are
            torch.default_generator.manual_seed(settings.seed)
            model = unet.build(settings, classes)
        # statistics over the whole batch; the CPU has no such norm. torch's waits for the GPU, once a norm and step
        if device.type == "cuda" and distributed.world_size() > 1:
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # channels_last: on two CPU cores a step takes 0.85 of the time, and batches come in that order anyway
        self.model: unet.UNet = model.to(device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False) if settings.ema_decay else None
        self.averages, self.sources = floats(self.average) if self.average else [], floats(self.model)
        self.buffers = list(self.model.buffers())  # the norms' running statistics and counts
        self.statistics = [buffer for buffer in self.buffers if buffer.is_floating_point()]
        self.precision = pick_precision(settings.precision, device)
        # under fp16 the scaler must be able to skip a step: fused Adam does so on the device, fused SGD would begin its
        # momentum with whatever memory holds; unfused, the scaler waits for the device and skips by itself
        fused = self.precision != "fp16" or settings.optimizer in ("adam", "adamw")
        self.optimizer = make_optimizer(settings, self.model, fused)
        self.scaler = self._make_scaler()
        # the same network; its backward pass takes the mean of the gradients over all ranks
        self.replica: Any = self.model
        if distributed.world_size() > 1:
            self.replica = torch.nn.parallel.DistributedDataParallel(self.model)
        if settings.compile:
            self.replica = torch.compile(self.replica, dynamic=False)  # a kernel for each of two or four shapes
        self.steps = 0
        self.interrupted = False  # whether an error or a second interrupt has cut a step in two

    def _make_scaler(self) -> torch.amp.GradScaler:
        """Scales fp16's loss so that small gradients do not vanish; does nothing for fp32 and bf16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager:
        """Convolutions in half precision where the settings say so."""
        half = HALVES.get(self.precision)
        return torch.autocast(self.device.type, half) if half else contextlib.nullcontext()

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The recipe's loss of logits f32[B,C,H,W] and int64[B,H,W], over the whole batch of all ranks."""
        return losses.LOSSES[self.settings.loss](logits.float(), target)

    @property
    def network(self) -> unet.UNet:
        """The network to use, itself and no copy: averaged weights where the recipe averages, else the model's."""
        return (self.average or self.model).eval()

    @contextlib.contextmanager
    def undone_on_error(self) -> Iterator[None]:
        """Around forward and backward, which change no weight: an error or interrupt leaves all as it was."""
        before = [buffer.clone() for buffer in self.buffers]  # the forward pass moves them
        try:
            yield
        except BaseException:
            for buffer, kept in zip(self.buffers, before, strict=True):
                buffer.copy_(kept)
            self.optimizer.zero_grad(set_to_none=True)
            raise

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights (and norms' statistics) towards the model's; faster in the first steps."""
        if self.average is not None:
            keep = min(self.settings.ema_decay, self.steps / (self.steps + 9))
            torch._foreach_lerp_(self.averages, self.sources, 1 - keep)

    def is_overflowing(self) -> bool:
        """fp16: whether gradients overflow even unscaled, so that every step is skipped; waits for the device."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1

    def is_finite(self) -> bool:
        """Whether every weight and statistic, and their averages, are numbers; waits for the device."""
        return bool(torch.stack([v.isfinite().all() for v in (*self.sources, *self.averages)]).all())

    def state(self) -> dict:
        """Tensors and plain values: all that a step changes."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.steps,
        }

    def load(self, state: dict) -> None:
        """Take over a state of `state()`; weight decay, momentum and the kind of kernel stay those of the settings."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"] or state["model"])
        self.optimizer.zero_grad(set_to_none=True)
        groups = []
        for saved, own in zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True):
            groups.append(saved | {k: own[k] for k in ("weight_decay", "momentum", "fused") if k in own})
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        self.scaler = self._make_scaler()  # anew: an old one may have been cut between unscaling and its update
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.steps = state["step"]


def floats(module: torch.nn.Module) -> list[Tensor]:
    """A module's weights and statistics themselves, no copies, less its counts."""
    return [v for v in module.state_dict().values() if v.is_floating_point()]
