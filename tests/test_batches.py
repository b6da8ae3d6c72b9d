"""However batches reach the device, they are the same batches."""

import numpy as np
import pytest
import torch

from helpers import batches as feed
from helpers import preprocess
from helpers.core import distributed
from helpers.preprocess import Arrays, Batches

CPU = torch.device("cpu")


@pytest.fixture
def arrays():
    """Thirteen images whose every pixel is its number."""
    numbers = np.arange(13, dtype=np.uint8)
    images = np.broadcast_to(numbers[:, None, None, None], (13, 4, 6, 3)).copy()
    return Arrays(images, images[..., 0].copy(), [str(i) for i in numbers], "numbers")


def ways(arrays, seen=0):
    """The same epoch by every way, as lists of numpy arrays."""
    batches = Batches(len(arrays), 4, seed=3, epoch=2, seen=seen)
    resident = feed.taken(torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels), batches)
    found = {
        "loader": preprocess.loader(arrays, 4, 3, 2, seen),
        "taken": resident,
        "copied": feed.copied(feed.Pinned(arrays, 4, CPU), batches),
        "feed": feed.Feed(arrays, 4, CPU)(3, 2, seen),
    }
    return {name: [(x.numpy(), y.numpy(), numbers) for x, y, numbers in way] for name, way in found.items()}


@pytest.mark.parametrize("seen", [0, 4, 12])
def test_every_way_gives_the_same_batches(arrays, seen):
    """All of them kept until the end: a buffer that is used again must not show through."""
    found = ways(arrays, seen)
    for name, batches in found.items():
        assert len(batches) == len(found["loader"]), name
        for (x, y, numbers), (want_x, want_y, want) in zip(batches, found["loader"], strict=True):
            assert (x == want_x).all() and (y == want_y).all() and (numbers == want).all(), name
            assert x.dtype == y.dtype == np.uint8 and x.shape == (len(numbers), 4, 6, 3)
    shown = np.concatenate([x[:, 0, 0, 0] for x, _, _ in found["copied"]])
    assert len(shown) == 13 - seen and len(set(shown.tolist())) == len(shown)


def test_processes_share_each_batch(arrays, monkeypatch):
    """Two of them see every image once between them; one that has none left gets a void label."""
    monkeypatch.setattr(distributed, "world", lambda: 2)
    seen = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        for batches in ways(arrays).values():
            own = [int(value) for x, y, _ in batches for value in x[y[:, 0, 0] != 255, 0, 0, 0]]
            seen.append(own)
    for one, two in zip(seen[:4], seen[4:], strict=True):
        assert sorted(one + two) == list(range(13))
    lone = Batches(1, 4)
    last = [next(iter(feed.copied(feed.Pinned(arrays, 4, CPU), lone))), next(iter(feed.taken(
        torch.from_numpy(arrays.images), torch.from_numpy(arrays.labels), lone)))]  # fmt: skip
    assert all((y == 255).all() and len(x) == 1 for x, y, _ in last)


def test_arrays_live_on_a_card_that_has_room(arrays, monkeypatch):
    """A quarter of the free memory is the bound."""
    size = arrays.images.nbytes + arrays.labels.nbytes
    moves = []
    monkeypatch.setattr(feed, "upload", lambda part, device: moves.append(device) or part)
    for free, fits in ((size * 4, True), (size * 4 - 4, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert (feed.on_device(arrays, torch.device("cuda")) is not None) == fits
    assert len(moves) == 2
    assert feed.on_device(arrays, CPU) is None


def test_arrays_are_uploaded_whole_from_a_read_only_file(tmp_path, recwarn):
    """In pieces of a thousand rows, the last one shorter; a mapped file is not written to, and nobody is warned."""
    rows = np.arange(2500, dtype=np.int64).astype(np.uint8)[:, None, None].repeat(2, 1)
    np.save(tmp_path / "rows.npy", rows)
    there = feed.upload(np.load(tmp_path / "rows.npy", mmap_mode="r"), CPU)
    assert (there.numpy() == rows).all() and not recwarn.list


def test_a_feed_leaves_a_device_without_memory(arrays):
    one = feed.Feed(arrays, 4, CPU)
    one.there, one.asked = (torch.zeros(0), torch.zeros(0)), True
    one.leave_device()
    assert one.there is None and [len(x) for x, *_ in one(0)] == [4, 3, 3, 3]
