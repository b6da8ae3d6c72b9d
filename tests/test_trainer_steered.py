"""A training that is steered while it runs, and that loses nothing: undo, threads, files, full disks, no memory."""

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from helpers import losses, predict, preprocess, trainer
from helpers.core import files
from helpers.core.errors import CheckpointError, TrainingError
from helpers.training import checkpoint, stepper


@pytest.fixture
def arrays():
    tiny.prepare()
    return preprocess.open_arrays("helen", 32)


def make(arrays, run="a", **changes):
    return trainer.Trainer(tiny.settings(**(dict(epochs=6) | changes)), arrays, run, "cpu")


def weights(one):
    return [t.clone() for t in one.model.state_dict().values()]


def same(mine, theirs):
    return all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def at_step(monkeypatch, step, action):
    """Call `action(trainer)` right after that step."""
    after = trainer.Trainer._after_step

    def wrapped(self):
        if self.step == step:
            action(self)
        after(self)

    monkeypatch.setattr(trainer.Trainer, "_after_step", wrapped)


# ---- the learning rate and the number of epochs ----


@pytest.mark.parametrize(("schedule", "last"), [("onecycle", 0.01), ("steps", 0.01), ("constant", 1.0)])
def test_more_epochs_than_the_schedule_s_go_on_at_its_last_rate(arrays, schedule, last):
    """fit(4) after fit(2): the rate of the schedule's end, times what was made of it by hand."""
    one = make(arrays, epochs=2, schedule=schedule).fit(2)
    one.fit(3)
    assert one.history[-1]["lr"] == pytest.approx(one.settings.lr * last)
    one.lr = 1e-4
    one.fit(4)
    assert one.history[-1]["lr"] == pytest.approx(1e-4)


@pytest.mark.parametrize("schedule", ["onecycle", "steps", "constant"])
def test_an_edited_number_of_epochs_stretches_the_schedule(arrays, schedule):
    """Run All with more epochs: the rate is what the longer schedule has at this place; the change is logged."""
    make(arrays, epochs=2, schedule=schedule).fit(2)
    one = make(arrays, epochs=4, schedule=schedule)
    assert one.lr == pytest.approx(one.settings.lr * trainer.schedule_factor(schedule, 2 / 4))
    assert "epochs 2 -> 4" in one.history[-1]["note"]
    one.fit(4)
    assert one.epoch == 4


def test_an_edited_rate_counts_as_it_stands(arrays, capsys):
    """Not scaled by what was changed by hand before."""
    one = make(arrays, schedule="constant").fit(1)
    one.lr = 1e-5
    one.fit(2)
    again = make(arrays, schedule="constant", lr=7e-4)
    assert again.lr == pytest.approx(7e-4)
    assert "lr 0.002 -> 0.0007" in again.history[-1]["note"] and "lr 0.002 -> 0.0007" in capsys.readouterr().out
    assert [row["note"] for row in again.history if row["note"]] == ["lr 1e-05", "lr 0.002 -> 0.0007"]


def test_the_optimizer_takes_the_rate_from_the_next_step_on(arrays, monkeypatch):
    at_step(monkeypatch, 3, lambda one: setattr(one, "lr", 5e-5))
    used = []
    monkeypatch.setattr(
        stepper.Stepper, "_update_average", lambda self: used.append(self.optimizer.param_groups[0]["lr"])
    )
    make(arrays, schedule="constant").fit(3)
    assert used == pytest.approx([2e-3] * 3 + [5e-5] * 3)


# ---- undo ----


def test_undo_goes_back_before_the_present_step(arrays, monkeypatch, capsys):
    one = make(arrays).fit(2)
    good, rate = weights(one), one.lr
    at_step(monkeypatch, 7, lambda self: os.kill(os.getpid(), signal.SIGINT))
    one.lr = 0.5
    one.fit(6)  # stops in the fourth epoch, with a checkpoint there and one at the third epoch's end
    assert one.step == 7
    one.save()  # once more at the same step: it does not push the one before out
    one.undo()
    assert (one.step, one.epoch, one.seen) == (6, 3, 0)
    capsys.readouterr()
    with pytest.raises(TrainingError, match="no checkpoint before step 6"):
        one.undo()
    again = make(arrays)
    assert again.step == 6  # what was undone stays undone
    assert not same(weights(one), good) and one.lr != pytest.approx(rate)


def test_undo_after_a_rate_set_while_it_trains_finds_the_place_of_the_change(arrays, monkeypatch):
    at_step(monkeypatch, 3, lambda one: setattr(one, "lr", 0.9))
    one = make(arrays)
    straight = make(arrays, "straight")
    kept = {}
    step = trainer.Trainer._step

    def record(self, *batch):
        kept.setdefault(self.step, weights(self))
        step(self, *batch)

    monkeypatch.setattr(trainer.Trainer, "_step", record)
    one.fit(2)
    one.undo()
    assert one.step == 3 and same(weights(one), kept[3]) and one.lr_scale == 1.0
    assert one.history[-1]["note"] == "undo from epoch 2.00, step 4"
    monkeypatch.undo()
    monkeypatch.setenv("UNET_HOME", str(one.folder.parents[2]))
    one.fit(3)
    assert same(weights(one), weights(straight.fit(3)))


def moments(one):
    """What the optimizer keeps of earlier gradients."""
    return [t for state in one.optimizer.state_dict()["state"].values() for t in state.values()]


def test_undo_best_is_the_best_epoch_whole(arrays, monkeypatch):
    scores = iter([0.3, 0.6, 0.2, 0.1, 0.7])
    names = make(arrays).dataset.rows
    monkeypatch.setattr(trainer.Trainer, "validate", lambda self, network=None: dict.fromkeys(names, next(scores)))
    one = make(arrays).fit(2)
    best, kept = weights(one), [t.clone() for t in moments(one)]
    one.fit(4)
    one.undo("best")
    assert one.epoch == 2 and same(weights(one), best) and one.best == 0.6
    assert kept and all(torch.equal(a, b) for a, b in zip(kept, moments(one), strict=True))
    assert [row["epoch"] for row in one.history if not row["note"]] == [1, 2]
    assert make(arrays).epoch == 2
    one.fit(3)
    assert one.best == 0.7 and predict.load(one.folder / "best.pt", "cpu").about["scores"]["overall"] == 0.7


def test_undo_without_anything_to_go_back_to(arrays):
    with pytest.raises(TrainingError, match="no checkpoint before step 0"):
        make(arrays).undo()
    with pytest.raises(TrainingError, match='give "last" or "best"'):
        make(arrays).undo("first")


# ---- in the background ----


def slow(monkeypatch, seconds=0.02):
    """Steps that take a while, so that something can happen meanwhile."""
    step = trainer.Trainer._step
    monkeypatch.setattr(trainer.Trainer, "_step", lambda self, *batch: (time.sleep(seconds), step(self, *batch))[1])


def until(condition, seconds=20):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def test_a_background_training_equals_one_in_a_cell(arrays, capsys):
    straight = make(arrays, "straight").fit(3)
    one = make(arrays)
    one.start(3)
    assert one.wait() is one and not one.running
    assert same(weights(one), weights(straight))
    printed = capsys.readouterr().out
    assert printed.count("epoch   3/3") == 2  # once by fit, once by wait, which prints what the thread has said


def test_a_second_start_is_refused_and_so_is_all_that_would_collide(arrays, monkeypatch):
    slow(monkeypatch)
    one = make(arrays)
    one.start(50)
    until(lambda: one.step > 0)
    for act in (lambda: one.start(50), lambda: one.fit(50), one.undo, one.find_lr):
        with pytest.raises(TrainingError, match="run a is training in the background: press Pause"):
            act()
    with pytest.raises(TrainingError, match="being trained elsewhere"):
        make(arrays).fit(50)  # another Trainer on the same folder
    one.pause()
    assert not one.running
    make(arrays).fit(one.epoch + 1)


def test_a_pause_right_after_the_start_is_not_lost(arrays, monkeypatch):
    """It may come before the thread's first line."""
    train = trainer.Trainer._train
    monkeypatch.setattr(trainer.Trainer, "_train", lambda self, n: (until(lambda: self.stop == "step"), train(self, n)))
    one = make(arrays)
    one.start(10**6)
    one.pause(30)
    assert not one.running and one.step == 0 and checkpoint.latest(one.folder)[0]["step"] == 0


def test_a_cell_that_saves_does_not_move_a_training_that_has_gone_wrong(arrays, monkeypatch):
    """A rate set from a cell, between a bad step and its discovery: only the training's own thread may go back."""
    one = make(arrays).fit(1)
    one.training_thread = threading.Thread()  # as if it trained elsewhere
    one.stepper.first_bad.fill_(2)
    one.epoch, one.seen = 1, 4
    with pytest.raises(CheckpointError, match="not finite in step 2 .* will find it and stop"):
        one.save()
    assert (one.epoch, one.seen) == (1, 4)
    one.training_thread = None
    with pytest.raises(TrainingError, match="back at the last checkpoint"):
        one.save()
    assert (one.epoch, one.seen) == (1, 0)


def test_a_folder_that_cannot_be_written_is_named(arrays, monkeypatch):
    one = make(arrays)
    one.folder.parent.mkdir(parents=True, exist_ok=True)
    one.folder.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="runs/helen/a cannot be written"):
        one.fit(1)


def test_pause_and_go_on_is_the_same_training(arrays, monkeypatch, capsys):
    straight = make(arrays, "straight").fit(4)
    slow(monkeypatch)
    one = make(arrays)
    for step in (1, 4):
        one.start(4)
        until(lambda step=step: one.step >= step)
        one.pause()
        here = one.step
        time.sleep(0.05)
        assert one.step == here and checkpoint.latest(one.folder)[0]["step"] == here
        assert f"(step {here}), saved: start(4) goes on" in one.log_lines[-1]
    one.start(4)
    one.wait()
    assert same(weights(one), weights(straight)) and one.step == straight.step


def test_the_kernel_is_free_meanwhile(arrays, monkeypatch):
    """A rate set, a network taken: between two steps, and each copy is of one step's weights."""
    kept = {}
    update = stepper.Stepper.update

    def record(self, *rest):
        result = update(self, *rest)
        kept[self.steps] = [t.clone() for t in self.average.state_dict().values()]
        return result

    monkeypatch.setattr(stepper.Stepper, "update", record)
    one = make(arrays)
    one.start(40)
    until(lambda: one.step > 2)
    for _ in range(30):
        taken = list(one.network.state_dict().values())
        assert any(same(taken, state) for state in list(kept.values())[-3:])
        one.validate()
    one.lr = 1e-5
    changed = one.history[-1]["step"]
    until(lambda: one.step > changed + 1)
    assert one.optimizer.param_groups[0]["lr"] < 1.1e-5
    one.pause()
    assert 0 < changed < one.step and one.model is not one.network


def test_an_exception_of_the_thread_is_raised_by_wait(arrays, monkeypatch):
    monkeypatch.setattr(trainer.Trainer, "validate", lambda self, network=None: 1 / 0)
    one = make(arrays)
    one.start(2)
    with pytest.raises(ZeroDivisionError):
        one.wait()
    assert "ZeroDivisionError" in one.log_lines[-1] and not one.running
    one.wait()  # raised once
    monkeypatch.undo()


def test_an_interrupt_of_wait_is_a_pause(arrays, monkeypatch):
    slow(monkeypatch)
    one = make(arrays)
    one.start(50)
    until(lambda: one.step > 1)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    one.wait()
    assert not one.running and one.epoch < 50 and checkpoint.latest(one.folder)[0]["step"] == one.step


def test_stop_after_this_epoch_and_a_target_that_is_moved(arrays, monkeypatch):
    slow(monkeypatch, 0.05)
    one = make(arrays)
    one.start(50)
    until(lambda: one.step == 3)  # in the middle of the second epoch
    one.stop_after_epoch()
    one.wait()
    assert (one.epoch, one.seen) == (2, 0)
    one.start(50)
    one.target_epoch = 3
    one.wait()
    assert one.epoch == 3


def test_a_watcher_that_fails_costs_no_training(arrays, capsys):
    one = make(arrays)
    one.watchers.append(lambda event: 1 / 0)
    one.fit(2)
    assert one.epoch == 2 and not one.watchers and "training goes on" in capsys.readouterr().out


# ---- control.json ----


def test_control_json_steers(arrays, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "LOOK_EVERY", 0)
    one = make(arrays, schedule="constant")
    control = one.folder / "control.json"
    at_step(monkeypatch, 3, lambda self: control.write_text('{"lr": 1e-4}'))
    one.fit(2)
    assert not control.exists() and one.lr == pytest.approx(1e-4)
    assert [(r["note"], r["step"]) for r in one.history if r["note"]] == [("lr 0.0001", 3)]
    control.write_text('{"stop": true, "lr": 2e-4}')
    one.fit(3)
    assert one.step == 4 and one.lr == pytest.approx(2e-4)
    at_step(monkeypatch, 5, lambda self: control.write_text('{"stop": "epoch"}'))
    one.fit(6)
    assert (one.epoch, one.seen, one.step) == (3, 0, 6)
    said = capsys.readouterr().out
    assert "control.json: lr 0.0001" in said and "control.json: lr 0.0002, stop step" in said


def test_a_malformed_control_json_is_reported_and_ignored(arrays, monkeypatch, capsys):
    monkeypatch.setattr(trainer, "LOOK_EVERY", 0)
    one = make(arrays)
    one.folder.mkdir(parents=True)
    (one.folder / "control.json").write_text('{"lr": "fast"}')
    one.fit(2)
    assert one.epoch == 2 and capsys.readouterr().out.count("runs/helen/a/control.json is ignored") == 1
    assert (one.folder / "control.json").exists()


def test_it_is_looked_for_once_an_epoch_whatever_the_clock_says(arrays, monkeypatch):
    monkeypatch.setattr(trainer, "LOOK_EVERY", math.inf)
    one = make(arrays)
    at_step(monkeypatch, 1, lambda self: (self.folder / "control.json").write_text('{"lr": 1e-4}'))
    one.fit(2)
    assert [(r["note"], r["step"]) for r in one.history if r["note"]] == [("lr 0.0001", 2)]


# ---- nothing lost ----


def test_the_first_checkpoint_comes_before_the_first_step(arrays, monkeypatch):
    seen = []
    at_step(monkeypatch, 1, lambda self: seen.append(checkpoint.latest(self.folder)[0]["step"]))
    make(arrays).fit(1)
    assert seen == [0]


def test_within_a_long_epoch_it_is_saved_by_the_clock(arrays, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(trainer.time, "monotonic", lambda: now[0])
    saves = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda path, state, *r: (saves.append(state["step"]), save(path, state, *r))
    )
    at_step(monkeypatch, 1, lambda self: now.__setitem__(0, trainer.SAVE_EVERY + 1.0))
    make(arrays).fit(1)
    assert saves == [0, 1, 2] and trainer.SAVE_EVERY == 600


def test_a_sigterm_saves_and_ends_the_process(arrays, tmp_path):
    """Colab's pre-emption, in a cell and in a background thread."""
    code = """if True:
        import sys, time, os, signal, torch
        torch.set_num_threads(1)
        sys.path[:0] = ["tests"]
        import tiny
        from helpers import preprocess, trainer
        one = trainer.Trainer(tiny.settings(epochs=9), preprocess.open_arrays("helen", 32), sys.argv[1], "cpu")
        step, calls = trainer.Trainer._step, []
        def wrapped(self, *batch):
            step(self, *batch)
            calls.append(1)
            if len(calls) == 3 and sys.argv[1] == "cell":
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.02)
        trainer.Trainer._step = wrapped
        if sys.argv[1] == "cell":
            one.fit(500)
        one.start(500)
        while len(calls) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        print("never")
    """
    for run in ("cell", "thread"):
        done = subprocess.run(
            [sys.executable, "-c", code, run], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == -signal.SIGTERM and "never" not in done.stdout, done.stderr
        state = checkpoint.latest(tmp_path / "runs" / "helen" / run)[0]
        assert state["step"] >= 3 and (run == "thread" or state["step"] == 3)


def test_a_kernel_that_ends_normally_saves_a_background_training(arrays, tmp_path):
    """Restart or shutdown of a notebook's kernel: the interpreter's own exit."""
    code = """if True:
        import sys, time, torch
        torch.set_num_threads(1)
        sys.path[:0] = ["tests"]
        import tiny
        from helpers import preprocess, trainer
        one = trainer.Trainer(tiny.settings(epochs=9), preprocess.open_arrays("helen", 32), "a", "cpu")
        one.start(5000)
        while one.step < 5:
            time.sleep(0.01)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert checkpoint.latest(tmp_path / "runs" / "helen" / "a")[0]["step"] >= 5


@pytest.mark.parametrize("where", ["write", "fsync", "replace"])
def test_a_full_disk_is_told_and_training_goes_on(arrays, monkeypatch, where):
    """While an epoch's files are written: the earlier checkpoint is intact, and nothing is trained twice or lost."""
    straight = make(arrays, "straight").fit(3)
    one = make(arrays).fit(1)
    earlier = checkpoint.latest(one.folder)[0]

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full:
        def __init__(self, path):
            self.file = Path(path).open("wb")  # noqa: SIM115  # closed in __exit__

        def __getattr__(self, name):
            return full if name == "write" else getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    with monkeypatch.context() as patch:
        if where == "write":
            patch.setattr(files, "open", lambda path, mode: Full(path), raising=False)
        else:
            patch.setattr(os, where, full)
        with pytest.raises(CheckpointError, match="cannot be written .No space left on device.*make room and run fit"):
            one.fit(3)
    state = checkpoint.latest(one.folder)[0]
    assert state["step"] == earlier["step"] == 2
    assert all(torch.equal(state["model"][k], earlier["model"][k]) for k in state["model"])
    assert (one.epoch, one.step) == (2, 4)
    one.fit(3)
    assert same(weights(one), weights(straight)) and [r["epoch"] for r in one.history] == [1, 2, 3]
    assert checkpoint.latest(one.folder)[0]["step"] == 6 and (one.folder / "best.pt").exists()
    assert not list(one.folder.glob("*.tmp"))


@pytest.mark.parametrize("file", ["best.pt", "last.new"])
def test_a_full_disk_in_the_last_epoch_is_made_good_by_the_next_fit(arrays, monkeypatch, file):
    """Whichever file did not fit: the epoch, its best weights and its best state are written by fit(2) again."""
    names = (*make(arrays).dataset.rows, "mean_iou", "accuracy")
    scores = iter([0.2, 0.9])
    monkeypatch.setattr(trainer.Trainer, "validate", lambda self, network=None: dict.fromkeys(names, next(scores)))
    one = make(arrays).fit(1)
    atomic = files.atomic

    def full(path):
        if Path(path).name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return atomic(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "atomic", full)
        with pytest.raises(CheckpointError, match="make room and run fit again"):
            one.fit(2)
    one.fit(2)
    assert checkpoint.latest(one.folder)[0]["epoch"] == 2 and checkpoint.best(one.folder)["epoch"] == 2
    assert predict.load(one.folder / "best.pt", "cpu").about["scores"]["overall"] == 0.9


def test_a_really_full_disk(tmp_path):
    """/dev/full: torch says RuntimeError there, not OSError."""
    if not os.path.exists("/dev/full"):
        pytest.fail("this test needs /dev/full, which every Linux has") if sys.platform == "linux" else pytest.skip("")
    with pytest.raises(CheckpointError, match="cannot be written"), checkpoint.explained(tmp_path / "last.pt"):
        torch.save({"w": torch.zeros(100000)}, "/dev/full")


def test_a_full_disk_does_not_keep_the_rate_from_being_set(arrays, monkeypatch, capsys):
    one = make(arrays)
    at_step(monkeypatch, 1, lambda self: setattr(self, "lr", 1e-5))

    def full(*arguments, **more):
        raise CheckpointError("last.pt cannot be written")

    one.fit(0)
    one.save()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        patch.setattr(trainer.Trainer, "_asked", lambda self: self.step == 1)
        with pytest.raises(CheckpointError):
            one.fit(1)
    assert one.lr < 1.1e-5 and "last.pt cannot be written" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle", "export"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(arrays, damage, capsys):
    one = make(arrays).fit(2)
    path = one.folder / "last.pt"
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":  # one bit of a weight: torch alone would not notice
        where = data.find(one.model.out.weight.detach().numpy().tobytes())
        assert where > 0
        data[where + 1] ^= 1
    elif damage == "empty":
        data = b""
    elif damage == "pickle":
        data = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    path.write_bytes(data if damage != "export" else b"PK\x05\x06" + bytes(18))
    capsys.readouterr()
    again = make(arrays)
    said = capsys.readouterr().out
    assert again.epoch == 1 and "last.pt" in said and "going on from previous.pt" in said
    assert same(weights(again.fit(2)), weights(one))


def test_a_checkpoint_of_another_program_is_refused_with_its_name(arrays):
    one = make(arrays)
    one.folder.mkdir(parents=True)
    torch.save({"model": {}}, one.folder / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint of this version: give the run another name"):
        make(arrays)


def test_other_classes_are_named(arrays):
    one = make(arrays).fit(1)
    state = checkpoint.latest(one.folder)[0]
    checkpoint.save(one.folder / "last.pt", state | {"classes": ["bg", "cat"]})
    with pytest.raises(CheckpointError, match="other classes bg, cat .now bg, face, lb"):
        make(arrays)


def test_the_checkpoint_says_all_of_the_run(arrays):
    one = make(arrays, precision="fp16").fit(1)
    state = torch.load(one.folder / "last.pt", weights_only=True)
    kept = "model average optimizer scaler settings history trace versions classes data epoch seen step factor best"
    assert set(kept.split()) <= state.keys()
    assert state["scaler"]["scale"] == 65536.0 and state["settings"]["schedule"] == "onecycle"
    assert state["versions"]["torch"] == torch.__version__ and state["data"]["train"][0] == 8
    json.dumps(state["settings"])


def test_training_draws_no_random_numbers_but_its_own(arrays):
    """Why the checkpoint needs no generator's state: twenty steps leave torch's, numpy's and Python's as they were."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    make(arrays).fit(10)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]


def test_a_step_that_is_not_finite_is_named_and_left_out(arrays, monkeypatch):
    """Found at the next reading, several steps later; the weights never saw it."""
    monkeypatch.setattr(trainer, "CHECK", 5)
    one = make(forty_batches(arrays), epochs=20)
    plain, calls = losses.LOSSES["dice_ce"], []

    def spoilt(logits, target):
        calls.append(1)
        return plain(logits, target) * (math.nan if len(calls) == 7 else 1.0)

    monkeypatch.setitem(losses.LOSSES, "dice_ce", spoilt)
    steps = []
    at_step(monkeypatch, 10, lambda self: steps.append(self.stepper.is_finite()))
    monkeypatch.setattr(trainer.Trainer, "_finish_epoch", lambda *rest: None)
    monkeypatch.setattr(trainer.Trainer, "validate", lambda *rest: {})
    with pytest.raises(TrainingError, match=r"step 7 at rate .*back at the last checkpoint, epoch 0.00, step 0.*lower"):
        one.fit(1)
    assert len(calls) == 10 and one.step == 0


def forty_batches(arrays):
    """An epoch of 40 steps: the same eight images over and over."""
    data = arrays["train"]
    rows = np.tile(np.arange(8), 20)
    many = preprocess.Arrays(data.images[rows], data.labels[rows], [str(i) for i in range(160)], data.content)
    return arrays | {"train": many}


def test_out_of_memory_is_told_with_a_batch_to_try(arrays, monkeypatch):
    """In the backward pass: nothing is lost, the same trainer goes on, and so does one with half the batch."""
    straight = make(arrays, "straight").fit(3)
    one = make(arrays)
    backward = stepper.Stepper.backward

    def full(self, x, target):
        if self.steps == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return backward(self, x, target)

    with monkeypatch.context() as patch:
        patch.setattr(stepper.Stepper, "backward", full)
        with pytest.raises(TrainingError, match=r"out of memory on cpu after step 3, with batch 4.*batch=2\)"):
            one.fit(3)
    assert one.step == 3 and checkpoint.latest(one.folder)[0]["step"] == 3
    half = make(arrays, batch=2)
    assert (half.step, half.seen) == (3, 4)
    assert same(weights(one.fit(3)), weights(straight))


def test_other_errors_of_the_step_are_not_taken_for_it(arrays, monkeypatch):
    def broken(self, x, target):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(stepper.Stepper, "backward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        make(arrays).fit(1)


def test_an_interrupt_in_validation_stops_there_and_the_epoch_is_finished_later(arrays, monkeypatch):
    straight = make(arrays, "straight").fit(2)
    one = make(arrays)
    confusion, calls = trainer.metrics.confusion, []

    def interrupted(*rest):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return confusion(*rest)

    monkeypatch.setattr(trainer.metrics, "confusion", interrupted)
    one.fit(2)
    assert (one.epoch, one.seen, one.step) == (0, 8, 2) and not one.history
    again = make(arrays).fit(2)
    assert same(weights(again), weights(straight)) and [r["epoch"] for r in again.history] == [1, 2]


def test_the_trace_and_the_history_are_the_same_after_a_stop(arrays, monkeypatch):
    monkeypatch.setattr(trainer, "CHECK", 3)
    straight = make(arrays, "straight").fit(4)
    at_step(monkeypatch, 5, lambda self: os.kill(os.getpid(), signal.SIGINT))
    make(arrays).fit(4)
    again = make(arrays).fit(4)
    assert again.trace == straight.trace and [point[0] for point in again.trace] == [1, 1.5, 2, 3, 4]


def test_signals_find_their_handlers_as_they_were(arrays):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    make(arrays).fit(1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_trainer_that_was_overtaken_goes_on_from_the_newer_state(arrays, capsys):
    """Two Trainers of one run, one after the other: the older one never writes over what the newer has reached."""
    old = make(arrays).fit(1)
    new = make(arrays).fit(4)
    old.lr = 1e-4  # is not saved over it either
    assert checkpoint.latest(old.folder)[0]["epoch"] == 4
    old.fit(5)
    assert old.epoch == 5 and old.step == new.step + 2 and "was trained elsewhere" in capsys.readouterr().out


def test_a_rate_set_while_idle_outlives_the_kernel(arrays):
    one = make(arrays, schedule="constant").fit(1)
    one.lr = 3e-5
    again = make(arrays, schedule="constant")
    assert again.lr == pytest.approx(3e-5) and again.history[-1]["note"] == "lr 3e-05"
    assert checkpoint.before(one.folder, 2)["step"] == 0  # and the checkpoint before is still there


def test_a_rate_set_after_a_cut_is_not_forgotten(arrays, monkeypatch):
    one = make(arrays, schedule="constant").fit(1)
    with monkeypatch.context() as patch:

        def cut(*rest):
            raise KeyboardInterrupt

        patch.setattr(stepper.Stepper, "_update_average", cut)
        with pytest.raises(KeyboardInterrupt):
            one.fit(2)
    assert one.step_interrupted
    with pytest.raises(CheckpointError, match="cut in two"):
        one.save()
    one.lr = 1e-5
    one.fit(2)
    assert one.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5) and one.step == 4


def test_a_rate_that_was_lowered_stays_lowered_after_going_back(arrays, monkeypatch):
    """Else the advice would lead round in a circle."""
    one = make(arrays, schedule="constant").fit(1)
    monkeypatch.setitem(losses.LOSSES, "dice_ce", lambda logits, target: logits.sum() * math.nan)
    advised = []
    for _ in range(3):
        with pytest.raises(TrainingError, match="Set the rate lower") as error:
            one.fit(2)
        advised.append(float(str(error.value).split("trainer.lr = ")[1].split(",")[0]))
        one.lr = advised[-1]
    assert advised == pytest.approx([2e-4, 2e-5, 2e-6])


def test_a_rate_set_by_hand_is_not_stretched_with_the_schedule(arrays):
    one = make(arrays, epochs=2).fit(2)
    one.lr = 1e-3
    for epochs, schedule in ((4, "onecycle"), (8, "steps")):
        assert make(arrays, epochs=epochs, schedule=schedule).lr == pytest.approx(1e-3)


def test_an_undo_that_is_cut_is_made_good(arrays, monkeypatch):
    one = make(arrays, "a").fit(2)
    straight = make(arrays, "straight").fit(3)
    with monkeypatch.context() as patch:

        def cut(self, state):
            self.model.load_state_dict(state["model"])
            raise KeyboardInterrupt

        patch.setattr(stepper.Stepper, "load", cut)
        with pytest.raises(KeyboardInterrupt):
            one.undo()
    assert same(weights(one.fit(3)), weights(straight))


def test_what_was_undone_never_comes_back(arrays):
    """Not even where the newest file is damaged afterwards."""
    one = make(arrays).fit(3)
    one.undo()
    (one.folder / "last.pt").write_bytes(b"damaged")
    assert make(arrays).step == one.step == 4


@pytest.mark.parametrize("where", ["_prepare", "update", "validate"])
def test_out_of_memory_anywhere_is_told_the_same_way(arrays, monkeypatch, where):
    straight = make(arrays, "straight").fit(3)
    one = make(arrays).fit(1)
    owner = stepper.Stepper if where == "update" else trainer.Trainer

    def full(*rest):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, full)
        with pytest.raises(TrainingError, match=r"out of memory on cpu .*batch=2\)"):
            one.fit(3)
        if where != "validate":
            with pytest.raises(TrainingError, match="out of memory"):
                one.find_lr(1e-4, 1e-2, 10)
    assert same(weights(one.fit(3)), weights(straight))


def test_two_watchers_that_fail_cost_no_training(arrays):
    one = make(arrays)
    one.watchers += [lambda event: 1 / 0, lambda event: {}["x"]]
    assert one.fit(1).epoch == 1 and not one.watchers


def test_weights_that_are_not_finite_reach_no_export(arrays, monkeypatch):
    one = make(arrays)

    def spoil(self, network=None):
        self.model.out.bias.data[0] = math.nan
        return dict.fromkeys((*self.dataset.rows, "mean_iou", "accuracy"), 0.5)

    monkeypatch.setattr(trainer.Trainer, "validate", spoil)
    with pytest.raises(TrainingError, match="weights are not finite"):
        one.fit(1)
    assert not (one.folder / "best.pt").exists() and one.step == 0


def test_a_pause_in_an_epoch_beyond_the_target_is_saved(arrays, monkeypatch):
    """The number of epochs was lowered while it ran."""

    def lower(self):
        self.target_epoch, self.stop = 1, "step"

    one = make(arrays).fit(1)
    at_step(monkeypatch, 3, lower)
    one.fit(5)
    assert one.step == 3 == checkpoint.latest(one.folder)[0]["step"]


def test_what_a_killed_save_left_is_removed(arrays):
    one = make(arrays).fit(1)
    (one.folder / "last.new.123.tmp").write_bytes(b"half")
    one.fit(2)
    assert not list(one.folder.glob("*.tmp"))


def test_a_folder_that_knows_no_locks_is_trained_in_all_the_same(arrays, monkeypatch):
    def none(self, timeout):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(trainer.filelock.FileLock, "acquire", none)
    assert make(arrays).fit(1).epoch == 1


def test_a_rate_is_set_between_two_steps_and_never_within_one(arrays):
    one = make(arrays, schedule="constant")
    with one.gate.step():
        thread = threading.Thread(target=setattr, args=(one, "lr", 1e-4))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and not one.history and one.lr == pytest.approx(2e-3)
    thread.join()
    assert one.lr == pytest.approx(1e-4)


def test_what_ran_out_of_memory_is_let_go_of(arrays, monkeypatch):
    """The failed step's tensors hang on its frames, and a notebook keeps the last traceback."""
    held = []

    def full(self, x, target):
        big = torch.zeros(1000)
        held.append(weakref.ref(big))
        raise torch.OutOfMemoryError("CUDA out of memory")

    one = make(arrays)
    with monkeypatch.context() as patch:
        patch.setattr(stepper.Stepper, "backward", full)
        with pytest.raises(TrainingError, match="out of memory") as kept:
            one.fit(1)
        assert kept.value is not None and held[0]() is None
