"""Checkpoints: atomic, safe to read, damaged ones named."""

import errno
import os
import pickle
import random

import pytest
import torch

from helpers import predict
from helpers.core.errors import CheckpointError
from helpers.training import checkpoint


def test_save_keeps_the_one_before(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path / "last.pt", {"step": step})
    assert checkpoint.read(tmp_path / "last.pt", "")["step"] == 3
    assert checkpoint.read(tmp_path / "previous.pt", "")["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_one(tmp_path, monkeypatch, where):
    checkpoint.save(tmp_path / "last.pt", {"step": 1})

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, where, full)
        with pytest.raises(CheckpointError, match="last.pt cannot be written .No space left on device.: earlier"):
            checkpoint.save(tmp_path / "last.pt", {"step": 2})
    assert checkpoint.latest(tmp_path)[0]["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_truncated_one_falls_back_and_says_so(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path / "last.pt", {"step": step, "w": torch.zeros(1000)})
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    state, line = checkpoint.latest(tmp_path)
    assert state["step"] == 1 and "last.pt: " in line and "going on from previous.pt" in line


def test_no_flipped_bit_is_taken_for_a_weight(tmp_path):
    """Anywhere in the file, its directory at the end most of all: refused, or what was written."""
    draw, path = random.Random(0), tmp_path / "last.pt"
    written = {f"w{i}": torch.arange(6.0) + i for i in range(8)}
    checkpoint.save(path, written)
    good = path.read_bytes()
    refused = 0
    for place in [*draw.sample(range(len(good)), 200), *range(len(good) - 1200, len(good))]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :])
        try:
            found = checkpoint.read(path, path.name)
        except CheckpointError:
            refused += 1
        else:
            assert found.keys() == written.keys(), place
            assert all(torch.equal(found[key], written[key]) for key in written), place
    assert refused > 600


def test_a_run_whose_files_are_all_damaged_is_not_started_over(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="another name"):
        checkpoint.latest(tmp_path)
    assert checkpoint.latest(tmp_path / "nothing") is None


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    "write", [lambda p: torch.save({"kind": Evil()}, p), lambda p: p.write_bytes(pickle.dumps(Evil()))]
)
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: refused"):
        predict.load(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()
