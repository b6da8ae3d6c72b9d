"""Faults of a step: no memory left, a loss that is not finite, another rank that has died."""

import gc
import traceback

import torch
from torch import Tensor

# what the CPU and MPS say of it; then cuDNN and cuBLAS, which had no room to work in (PyTorch issue 108645)
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "unable to find an engine",
    "unable to find a valid cudnn",
    "alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left: CUDA mostly says it by a type, others by their message."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in NO_MEMORY)


def release_memory(error: BaseException) -> None:
    """Let go of what the failed step holds: its tensors hang on the frames of the traceback."""
    traceback.clear_frames(error.__traceback__)
    error.__traceback__ = None
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class StepLog:
    """Losses and gradient norms of the steps since the last reading, still on the device.

    Reading waits for the device, so a GPU is read every so many steps only. Sums are made of plain floats in the
    order of the steps, so that they do not depend on when they were read.
    """

    def __init__(self):
        self.pending: list[tuple[Tensor, int, int, float]] = []  # [loss, norm] of a step; its number, images and rate
        self.epoch_loss = self.window_loss = 0.0  # loss times images: of this epoch, since the last point of the trace
        self.window_images = 0
        self.fault = ""  # stays until a checkpoint is loaded, whoever has read it first

    def add(self, loss: Tensor, norm: Tensor, step: int, images: int, rate: float) -> None:
        """Keep a step's result; the device goes on working."""
        self.pending.append((torch.stack((loss, norm)), step, images, rate))

    def read(self) -> str:
        """Take all results over; what was not finite in the first bad step and at which rate, "" if all was well."""
        if self.fault or not self.pending:
            return self.fault
        pending, self.pending = self.pending, []
        values = torch.stack([result for result, *_ in pending]).tolist()
        for (loss, norm), (_, step, images, rate) in zip(values, pending, strict=True):
            if not (abs(loss) < torch.inf and norm < torch.inf):
                self.fault = f"the loss or its gradient was not finite in step {step} at rate {rate:.1e}"
                return self.fault
            self.epoch_loss += loss * images
            self.window_loss += loss * images
            self.window_images += images
        return ""

    def take_window(self) -> float | None:
        """Mean loss over the images since the last call; None if there were none."""
        mean = self.window_loss / self.window_images if self.window_images else None
        self.window_loss, self.window_images = 0.0, 0
        return mean

    def state(self) -> dict:
        """Plain values, as a checkpoint keeps them; read before."""
        return {"loss_sum": self.epoch_loss, "window": self.window_loss, "window_images": self.window_images}

    def load(self, state: dict) -> None:
        """Take over a state of `state()`."""
        self.pending, self.fault = [], ""
        self.epoch_loss, self.window_loss = state["loss_sum"], state["window"]
        self.window_images = state["window_images"]
