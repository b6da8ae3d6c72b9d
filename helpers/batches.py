"""Batches of uint8 on the training's device: taken there, copied through two page-locked buffers, or from the disk."""

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .augment import to_device
from .core import distributed, masks
from .preprocess import Arrays, Batches, loader

SHARE = 4  # arrays that fit into a quarter of the device's free memory live there


def on_device(arrays: Arrays, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Images and labels on a card, uint8, if they fit into a quarter of its free memory; else, and elsewhere, None."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if arrays.images.nbytes + arrays.labels.nbytes > free / SHARE:
        return None
    return upload(arrays.images, device), upload(arrays.labels, device)


def upload(part: np.ndarray, device: torch.device) -> Tensor:
    """uint8[N,...], perhaps mapped from a file -> the same on the device, a thousand rows at a time."""
    there = torch.empty(part.shape, dtype=torch.uint8, device=device)
    for first in range(0, len(part), 1000):
        there[first : first + 1000].copy_(torch.from_numpy(np.array(part[first : first + 1000])))
    return there


class Feed:
    """One split for one device: where its batches come from is decided once, when the first is asked for."""

    def __init__(self, arrays: Arrays, batch: int, device: torch.device):
        self.arrays, self.batch, self.device = arrays, batch, device
        self.there: tuple[Tensor, Tensor] | None = None
        self.asked = False
        self.pinned: Pinned | None = None

    def __call__(self, seed: int | None = None, epoch: int = 0, seen: int = 0) -> "Run":
        """The batches of an epoch as preprocess.loader has them, less those that were seen; images on the device."""
        if not self.asked:
            self.there, self.asked = on_device(self.arrays, self.device), True
        return Run(self, seed, epoch, seen)

    def leave_device(self) -> None:
        """From now on batch by batch: the device has no memory to spare."""
        self.there, self.asked = None, True


class Run:
    """An epoch's batches: images uint8[b,S,T,3], labels uint8[b,S,T] on the device, and the whole batch's numbers."""

    def __init__(self, feed: Feed, seed: int | None, epoch: int, seen: int):
        self.feed, self.seed, self.epoch, self.seen = feed, seed, epoch, seen

    def batches(self) -> Batches:
        """Which samples, in which order."""
        return Batches(len(self.feed.arrays), self.feed.batch, self.seed, self.epoch, self.seen)

    def __len__(self) -> int:
        return len(self.batches())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
        feed = self.feed
        if feed.there is not None:
            return taken(*feed.there, self.batches())
        if feed.device.type == "cuda":
            feed.pinned = feed.pinned or Pinned(feed.arrays, feed.batch, feed.device)
            return copied(feed.pinned, self.batches())
        return iter(loader(feed.arrays, feed.batch, self.seed, self.epoch, self.seen))


def taken(images: Tensor, labels: Tensor, batches: Batches) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
    """Batches out of arrays that lie on the device: nothing but the numbers is copied."""
    for numbers in batches:
        own, counts = distributed.shard(numbers)
        where = to_device(torch.from_numpy(own), images.device)
        part = labels[where]
        yield images[where], part if counts else torch.full_like(part, masks.VOID), numbers


class Pinned:
    """Two page-locked buffers that are used in turn, and a stream of their own to copy from them: one for all epochs,
    since every stream keeps memory of its own."""

    def __init__(self, arrays: Arrays, batch: int, device: torch.device):
        self.sources, self.device, self.card = (arrays.images, arrays.labels), device, device.type == "cuda"
        shapes = [(-(-batch // distributed.world_size()), *part.shape[1:]) for part in self.sources]
        self.slots = [[torch.empty(s, dtype=torch.uint8, pin_memory=self.card) for s in shapes] for _ in range(2)]
        self.stream = torch.cuda.Stream(device) if self.card else None
        self.copies: list[torch.cuda.Event | None] = [None, None]
        self.turn = 0

    def copy(self, own: np.ndarray, counts: bool) -> list[Tensor]:
        """Images and labels of these rows on the device; all void where they do not count."""
        slot, copied = self.slots[self.turn], self.copies[self.turn]
        if copied is not None:
            copied.synchronize()  # of two batches ago: the buffer is free again
        for part, buffer in zip(self.sources, slot, strict=True):
            np.take(part, own, axis=0, out=buffer[: len(own)].numpy(), mode="clip")  # the default copies twice
        if not counts:
            slot[1].fill_(masks.VOID)
        with torch.cuda.stream(self.stream) if self.card else contextlib.nullcontext():
            moved = [buffer[: len(own)].to(self.device, non_blocking=True, copy=True) for buffer in slot]
        if self.card:
            self.copies[self.turn] = self.stream.record_event()
            now = torch.cuda.current_stream(self.device)
            now.wait_event(self.copies[self.turn])
            for tensor in moved:
                tensor.record_stream(now)  # its memory is not given away while the step still reads it
        self.turn = 1 - self.turn
        return moved


def copied(pinned: Pinned, batches: Batches) -> Iterator[tuple[Tensor, Tensor, np.ndarray]]:
    """Batches through page-locked buffers: while the device computes one, the next is gathered and copied."""
    for numbers in batches:
        yield *pinned.copy(*distributed.shard(numbers)), numbers
