"""Distributed training: ranks, and sums and decisions over all of them.

`torchrun --nproc-per-node N -m helpers train` starts the ranks. A process alone is rank 0 of 1: every sum is its own.
"""

import contextlib
import gc
import importlib
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from . import hardware
from .errors import UNetError

T = TypeVar("T")


def rank() -> int:
    """This process's rank; 0 alone. Only rank 0 writes and prints."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """The number of ranks; 1 alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def pick_device() -> torch.device:
    """hardware.pick_device; several ranks without CUDA have the CPU, since gloo knows no other device."""
    device = hardware.pick_device()
    return device if world_size() == 1 or device.type == "cuda" else torch.device("cpu")


# in gloo's messages about a dead peer
GONE = ("gloo", "connection closed", "connection reset", "broken pipe", "timed out")


def is_peer_lost(error: BaseException) -> bool:
    """Whether an error means that another rank has died or left."""
    if world_size() == 1:
        return False
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in GONE)


def peer_lost_message(error: BaseException, saved: str) -> str:
    """The message for it: the first line of the error, and from where the same command goes on."""
    fault = (str(error) or type(error).__name__).splitlines()[0]
    return f"another rank of this training has ended ({fault:.200}). {saved}: the same command goes on from there"


def is_launched() -> bool:
    """Whether torchrun has started this process as one of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the ranks that torchrun started, each with a GPU of its own, or its share of the cores; alone nothing.

    Keep no Trainer beyond it: its replica keeps gloo's threads, and one of them that drops a tensor while the
    interpreter ends aborts a training that was whole (SIGABRT, now and then; pytorch issue 190489).
    UNetError if there are more ranks on a host than GPUs, or another of them has died.
    """
    if not is_launched():
        yield
        return
    local, ranks = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if torch.cuda.is_available():
        if ranks > (gpus := torch.cuda.device_count()):
            raise UNetError(f"{ranks} ranks on a host with {gpus} GPUs: give torchrun --nproc-per-node {gpus}")
        torch.cuda.set_device(local)
    else:
        torch.set_num_threads(max(1, hardware.cores() // ranks))
    # before the group is there: its functions take the group of their import as a default value, and keep it for ever
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    fine = False
    try:
        yield
        fine = True
    except RuntimeError as error:
        if is_peer_lost(error):
            raise UNetError(peer_lost_message(error, "What was saved last stands")) from error
        raise
    finally:
        gc.collect()  # replicas hold the group, too
        if fine or not torch.cuda.is_available():  # with a dead peer nccl would wait here
            dist.destroy_process_group()


def local_first(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 first, then on one rank of every other host, then on the rest.

    What the first of them has made on a disk the others find there.
    """
    if world_size() == 1:
        return work()
    first_of_host = int(os.environ.get("LOCAL_RANK", "0")) == 0
    my_turn = 0 if rank() == 0 else 1 if first_of_host else 2
    results = []
    for turn in range(3):
        if turn == my_turn:
            results.append(work())
        barrier()
    return results[0]


def barrier() -> None:
    """Wait for all ranks; nothing alone."""
    if world_size() > 1:
        dist.all_reduce(torch.zeros(1))


class _Sum(torch.autograd.Function):
    """Sum over all ranks. Each of them computes the same loss from it, so its gradient comes world_size times."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * world_size()  # DistributedDataParallel takes the mean over the ranks: here it is a sum


def all_reduce_sum(own: Tensor) -> Tensor:
    """Sums f32[K] over this rank's images -> over all ranks' images, with their gradient; unchanged alone.

    A mean over a batch must be made of sums and counts over the whole batch: the mean of two means is another number.
    """
    return _Sum.apply(own) if world_size() > 1 else own


def sum_on_cpu(own: Tensor) -> Tensor:
    """This rank's integers or floats -> their sum over all ranks, on the CPU."""
    summed = own.cpu().clone()
    if world_size() > 1:
        dist.all_reduce(summed)
    return summed


def all_reduce_max(*values: float) -> list[float]:
    """The largest of each value over all ranks; waits for them, not for their GPUs."""
    if world_size() == 1:
        return list(values)
    largest = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest.tolist()


@torch.no_grad()
def all_reduce_mean(tensors: list[Tensor]) -> None:
    """Replace float tensors by their mean over all ranks, in one message; nothing alone."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    parts = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


def broadcast(value: T) -> T:
    """Rank 0's value (tensors and plain values) on every rank: the others' disks may lack its files."""
    if world_size() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, 0, device=torch.device("cpu"))
    return held[0]


def shard(numbers: np.ndarray) -> tuple[np.ndarray, bool]:
    """Sample numbers of a batch -> this rank's, and whether they count.

    A rank for which none is left takes part all the same, with the first one, whose label is then to be void.
    """
    own = numbers[rank() :: world_size()]
    return (own, True) if len(own) else (numbers[:1], False)
