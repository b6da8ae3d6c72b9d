"""Checkpoints: atomic, safe to read, damaged ones named; a run's folder: locked, its newest, what an undo finds."""

import errno
import os
import pickle
import random

import filelock
import pytest
import tiny
import torch

from helpers import predict
from helpers.core.errors import CheckpointError, TrainingError
from helpers.training import checkpoint
from helpers.training.checkpoint import FORMAT, RunFolder


@pytest.fixture
def folder():
    return RunFolder("helen", "a")


def save(folder, step, **how):
    folder.save({"step": step, "w": torch.zeros(1000)}, "epoch\n", **how)


def steps(folder):
    """The step in each checkpoint file."""
    return {path.stem: torch.load(path, weights_only=True)["step"] for path in folder.path.glob("*.pt")}


# ---- files ----


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


# ---- a run's folder ----


def test_one_training_at_a_time_removes_the_half_files_of_a_killed_one(folder):
    save(folder, 1)
    (folder.path / "last.new.123.tmp").write_bytes(b"half")
    other = RunFolder("helen", "a")
    with folder.locked():
        assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "history.csv", "last.pt"]
        with pytest.raises(TrainingError, match="run a is being trained elsewhere"), other.locked():
            pass
        with RunFolder("helen", "b").locked():
            pass
    with other.locked():
        pass


def test_a_disk_that_knows_no_locks_is_used_all_the_same(folder, monkeypatch):
    def none(self, timeout):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with folder.locked():
        save(folder, 1)
    assert steps(folder) == {"last": 1}


def test_the_one_before_is_kept_but_no_second_copy_of_the_same_step(folder):
    assert folder.saved_step == -1 and folder.latest() is None
    save(folder, 1)
    save(folder, 2, best=True)
    save(folder, 2)  # say after a change of the rate
    assert steps(folder) == {"previous": 1, "last": 2, "best_state": 2} and folder.saved_step == 2
    assert folder.latest()[0]["step"] == 2 and (folder.path / "history.csv").read_text() == "epoch\n"


def test_a_truncated_one_falls_back_and_all_damaged_ones_are_not_started_over(folder):
    save(folder, 1)
    save(folder, 2)
    for name, found in (("last.pt", 1), ("previous.pt", None)):
        data = (folder.path / name).read_bytes()
        (folder.path / name).write_bytes(data[: len(data) // 2])
        if found:
            state, line = folder.latest()
            assert state["step"] == found and "last.pt: " in line and "going on from previous.pt" in line
    with pytest.raises(CheckpointError, match="another name"):
        folder.latest()


def test_what_another_trainer_has_written_is_noticed(folder):
    save(folder, 1)
    other = RunFolder("helen", "a")
    other.took_over()
    assert not folder.was_trained_elsewhere() and not other.was_trained_elsewhere()
    save(other, 2)
    assert folder.was_trained_elsewhere() and not other.was_trained_elsewhere()
    folder.took_over()
    assert not folder.was_trained_elsewhere()


def test_what_an_undo_goes_back_to(folder):
    for to, message in (("first", 'give "last" or "best"'), ("last", "before step 0 is left"), ("best", "no epoch is")):
        with pytest.raises(TrainingError, match=message):
            folder.earlier(to, 0)
    save(folder, 1, best=True)
    save(folder, 2)
    save(folder, 4)
    assert [folder.earlier("last", step)["step"] for step in (5, 4, 3)] == [4, 2, 2]
    assert folder.earlier("best", 4)["step"] == 1


def test_what_does_not_fit_is_named(folder):
    settings, data = tiny.settings().asdict(), {"train": [8, "x"], "val": [3, "y"]}
    state = {"format": FORMAT, "settings": settings, "classes": ["bg", "face"], "data": data}
    folder.check_fits(state, settings, ["bg", "face"], data)
    folder.check_fits(state, settings | {"lr": 1.0, "epochs": 99, "batch": 2}, ["bg", "face"], data)
    with pytest.raises(CheckpointError) as error:
        folder.check_fits(state, settings | {"width": 6, "seed": 1}, ["bg", "cat"], data | {"train": [9, "z"]})
    assert "runs/helen/a/last.pt was made with other width 4 (now 6); seed 0 (now 1); " in str(error.value)
    assert "classes bg, face (now bg, cat); " in str(error.value)
    assert "train data: 8 images (now 9, with other content): give the run another name" in str(error.value)
    for foreign in ({"model": {}}, [1], state | {"format": FORMAT - 1}):
        with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint of this version"):
            folder.check_fits(foreign, settings, ["bg", "face"], data)
