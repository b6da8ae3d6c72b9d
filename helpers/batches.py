"""Arrays -> batches: uint8, on the training's device, in an order from which a stopped run can go on."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from .augment import to_device
from .core import distributed, masks
from .preprocess import Arrays

RESIDENT_SHARE = 4  # arrays that fit into a quarter of the GPU's free memory stay there
CPU = torch.device("cpu")

Batch = tuple[Tensor, Tensor, np.ndarray]


class BatchSampler(Sampler[np.ndarray]):
    """Sample numbers in batches of nearly equal size, less the first `seen`: a pure function of (seed, epoch).

    The rest of an epoch is cut exactly as the whole was, so a run can go on from the middle. No batch is much smaller
    than the others, so that batch norm always has images to average, and none is dropped. seed None: in order.
    """

    def __init__(self, count: int, batch: int, seed: int | None = None, epoch: int = 0, seen: int = 0):
        order = np.arange(count) if seed is None else np.random.default_rng((seed, epoch)).permutation(count)
        rest = order[seen:]
        self.batches = np.array_split(rest, -(-len(rest) // batch)) if len(rest) else []

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches)


class Samples(Dataset[Batch]):
    """Whole batches on the device: numbers int64[B] -> images uint8[b,S,T,3], labels uint8[b,S,T], all the numbers.

    Each rank takes its share of every batch, b = B / ranks. A rank for which none is left takes part with the first
    image, its label all void.
    """

    def __init__(self, arrays: Arrays, device: torch.device):
        self.arrays, self.device = arrays, device

    def rows(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        """Images and labels of these samples."""
        images, labels = torch.from_numpy(self.arrays.images[numbers]), torch.from_numpy(self.arrays.labels[numbers])
        return to_device(images, self.device), to_device(labels, self.device)

    def __getitem__(self, numbers: np.ndarray) -> Batch:
        own, counts = distributed.shard(numbers)
        images, labels = self.rows(own)
        return images, labels if counts else torch.full_like(labels, masks.VOID), numbers


class ResidentSamples(Samples):
    """The same out of arrays that were copied to the device once."""

    def __init__(self, arrays: Arrays, device: torch.device):
        super().__init__(arrays, device)
        # np.array, since torch warns of a file that is mapped for reading only
        self.images = torch.from_numpy(np.array(arrays.images)).to(device)
        self.labels = torch.from_numpy(np.array(arrays.labels)).to(device)

    def rows(self, numbers: np.ndarray) -> tuple[Tensor, Tensor]:
        where = to_device(torch.from_numpy(numbers), self.device)
        return self.images[where], self.labels[where]


def fits(arrays: Arrays, device: torch.device) -> bool:
    """Whether images and labels fit into a quarter of a GPU's free memory; never elsewhere."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return arrays.images.nbytes + arrays.labels.nbytes <= free / RESIDENT_SHARE


class Feed:
    """The batches of one split on one device. Whether the arrays stay there is decided at the first epoch."""

    def __init__(self, arrays: Arrays, batch: int, device: torch.device = CPU):
        self.arrays, self.batch, self.device = arrays, batch, device
        self.samples: Samples | None = None

    def __call__(self, seed: int | None = None, epoch: int = 0, seen: int = 0) -> DataLoader[Batch]:
        """An epoch's batches, less the first `seen` images: shuffled by (seed, epoch), in order if seed is None.

        No worker processes: a batch is one slice of memory-mapped arrays, about 0.1 ms an image, and an interrupt
        leaves nothing behind.
        """
        if self.samples is None:
            kind = ResidentSamples if fits(self.arrays, self.device) else Samples
            self.samples = kind(self.arrays, self.device)
        sampler = BatchSampler(len(self.arrays), self.batch, seed, epoch, seen)
        own = torch.Generator()  # DataLoader draws from it; without one it would draw from the reader's
        # batch_size None: what Samples returns is a whole batch, which collate_fn leaves as it is
        return DataLoader(self.samples, None, sampler=sampler, collate_fn=lambda batch: batch, generator=own)

    def leave_device(self) -> None:
        """From now on batch by batch: the device has no memory to spare."""
        self.samples = Samples(self.arrays, self.device)


def loader(arrays: Arrays, batch: int, seed: int | None = None, epoch: int = 0, seen: int = 0) -> DataLoader[Batch]:
    """One epoch's batches on the CPU, as a Feed has them."""
    return Feed(arrays, batch)(seed, epoch, seen)
