"""A run's folder: one training at a time, what is newest, what fits, what an undo leaves."""

import filelock
import pytest
import tiny
import torch

from helpers.core.errors import CheckpointError, TrainingError
from helpers.training.checkpoint import FORMAT, RunFolder


@pytest.fixture
def folder():
    return RunFolder("helen", "a")


def save(folder, step, **how):
    folder.save({"step": step}, "epoch\n", **how)


def steps(folder):
    """The step in each checkpoint file."""
    return {path.stem: torch.load(path, weights_only=True)["step"] for path in folder.path.glob("*.pt")}


def test_one_training_at_a_time(folder):
    other = RunFolder("helen", "a")
    with folder.locked():
        with pytest.raises(TrainingError, match="run a is being trained elsewhere"), other.locked():
            pass
        with RunFolder("helen", "b").locked():
            pass
    with other.locked():
        pass


def test_half_files_of_a_killed_save_are_removed(folder):
    save(folder, 1)
    (folder.path / "last.new.123.tmp").write_bytes(b"half")
    with folder.locked():
        assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "history.csv", "last.pt"]


def test_a_disk_that_knows_no_locks_is_used_all_the_same(folder, monkeypatch):
    def none(self, timeout):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with folder.locked():
        save(folder, 1)
    assert steps(folder) == {"last": 1}


def test_a_folder_that_cannot_be_made_is_named(folder):
    folder.path.parent.mkdir(parents=True)
    folder.path.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="runs/helen/a cannot be written"), folder.locked():
        pass


def test_the_one_before_is_kept_but_no_second_copy_of_the_same_step(folder):
    assert folder.saved_step == -1 and folder.latest() is None
    save(folder, 1)
    save(folder, 2, best=True)
    save(folder, 2)  # say after a change of the rate
    assert steps(folder) == {"previous": 1, "last": 2, "best_state": 2} and folder.saved_step == 2
    save(folder, 3, rotate=False)
    assert steps(folder) == {"previous": 1, "last": 3, "best_state": 2}
    assert folder.latest()[0]["step"] == 3 and (folder.path / "history.csv").read_text() == "epoch\n"


def test_what_another_trainer_has_written_is_noticed(folder):
    save(folder, 1)
    other = RunFolder("helen", "a")
    other.took_over(other.latest()[0]["step"])
    assert not folder.was_trained_elsewhere() and not other.was_trained_elsewhere()
    save(other, 2)
    assert folder.was_trained_elsewhere() and not other.was_trained_elsewhere()
    folder.took_over(2)
    assert not folder.was_trained_elsewhere()


def test_what_an_undo_goes_back_to(folder):
    with pytest.raises(TrainingError, match='give "last" or "best"'):
        folder.earlier("first", 2)
    with pytest.raises(TrainingError, match=r'no checkpoint before step 0 is left: undo\("best"\) goes'):
        folder.earlier("last", 0)
    with pytest.raises(TrainingError, match="no epoch is finished"):
        folder.earlier("best", 0)
    save(folder, 1, best=True)
    save(folder, 2)
    save(folder, 4)
    assert [folder.earlier("last", step)["step"] for step in (5, 4, 3)] == [4, 2, 2]
    assert folder.earlier("best", 4)["step"] == 1


def test_what_was_undone_is_gone_and_one_damage_spares_a_copy(folder):
    for step in (1, 2):
        save(folder, step)
    save(folder, 1, rotate=False)
    folder.forget_undone()
    assert steps(folder) == {"last": 1, "previous": 1}
    (folder.path / "last.pt").write_bytes(b"damaged")
    assert folder.latest()[0]["step"] == 1


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
