"""The order of batches is a function of (seed, epoch, seen); however they reach the device, they are the same."""

import numpy as np
import pytest
import torch

from helpers import batches
from helpers.core import distributed
from helpers.preprocess import Arrays

CPU = torch.device("cpu")


@pytest.fixture
def arrays(tmp_path):
    """Thirteen images whose every pixel is its number; mapped from files for reading only, as 02 opens them."""
    images = np.arange(13, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(6, 2).repeat(3, 3)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", images[..., 0])
    images, labels = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    return Arrays(images, labels, [str(i) for i in range(13)], "numbers")


def feeds(arrays, batch=4):
    """Batches from the disk, and out of arrays that lie on the device."""
    feed, resident = batches.Feed(arrays, batch, CPU), batches.Feed(arrays, batch, CPU)
    resident.samples = batches.ResidentSamples(arrays, CPU)
    return feed, resident


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (1999, 10), (5, 8), (11, 10), (8, 4), (1, 4)])
def test_an_epoch_holds_every_sample_once_in_batches_of_nearly_equal_size(count, batch):
    cut = list(batches.BatchSampler(count, batch, seed=0, epoch=3))
    sizes = [len(b) for b in cut]
    assert sorted(np.concatenate(cut).tolist()) == list(range(count))
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1 and len(sizes) == -(-count // batch)


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (101, 10), (2001, 20), (37, 8)])
def test_the_rest_of_an_epoch_is_cut_as_the_whole_was(count, batch):
    whole = [b.tolist() for b in batches.BatchSampler(count, batch, seed=1, epoch=2)]
    seen = 0
    for done, this in enumerate(whole):
        rest = batches.BatchSampler(count, batch, seed=1, epoch=2, seen=seen)
        assert [b.tolist() for b in rest] == whole[done:]
        seen += len(this)


def test_epochs_and_seeds_differ_and_repeat():
    def order(seed, epoch):
        return np.concatenate(list(batches.BatchSampler(50, 10, seed=seed, epoch=epoch))).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(s, e)) for s in (0, 1) for e in (0, 1)}) == 4
    assert np.concatenate(list(batches.BatchSampler(50, 10))).tolist() == list(range(50))


@pytest.mark.parametrize("seen", [0, 4, 12])
def test_both_ways_give_the_rows_of_the_sampler_s_numbers(arrays, seen, recwarn):
    """All batches are kept until the end: memory that is used again must not show through."""
    order = list(batches.BatchSampler(13, 4, seed=3, epoch=2, seen=seen))
    for feed in feeds(arrays):
        epoch = feed(3, 2, seen)
        assert len(epoch) == len(order)
        for (images, labels, numbers), wanted in zip(list(epoch), order, strict=True):
            assert (numbers == wanted).all() and images.dtype == labels.dtype == torch.uint8
            assert (images.numpy() == arrays.images[wanted]).all()
            assert (labels.numpy() == arrays.labels[wanted]).all()
    assert not recwarn.list  # neither of files that cannot be written, nor of a GPU that is not there


def test_the_reader_s_random_numbers_stay(arrays):
    before = torch.get_rng_state()
    list(batches.loader(arrays, 4, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_ranks_share_each_batch(arrays, monkeypatch):
    """Two of them see every image once between them; one that has none left gets a void label."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    seen = {way: [] for way in range(2)}
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for way, feed in enumerate(feeds(arrays)):
            for images, labels, numbers in feed(1):
                assert len(images) == len(numbers[rank::2])
                seen[way] += images[labels[:, 0, 0] != 255, 0, 0, 0].tolist()
    assert all(sorted(numbers) == list(range(13)) for numbers in seen.values())
    for feed in feeds(arrays, batch=1):
        assert all(len(images) == 1 and (labels == 255).all() for images, labels, _ in feed())


def test_arrays_stay_on_a_gpu_that_has_room(arrays, monkeypatch):
    """A quarter of the free memory is the bound."""
    size = arrays.images.nbytes + arrays.labels.nbytes
    for free, room in ((size * 4, True), (size * 4 - 4, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert batches.fits(arrays, torch.device("cuda")) == room
    assert not batches.fits(arrays, CPU)


def test_where_they_lie_is_decided_once(arrays, monkeypatch):
    asked = []
    monkeypatch.setattr(batches, "fits", lambda *_: asked.append(1) or True)
    feed = batches.Feed(arrays, 4, CPU)
    for epoch in range(2):
        list(feed(0, epoch))
    assert len(asked) == 1 and isinstance(feed.samples, batches.ResidentSamples)
    feed.leave_device()
    assert type(feed.samples) is batches.Samples and [len(x) for x, *_ in feed(0)] == [4, 3, 3, 3] and len(asked) == 1
