"""A run that a reader steers while it trains, and that loses nothing: threads, control.json, undo, faults."""

import contextlib
import math
import resource
import signal
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
import torch

from helpers import losses, predict
from helpers.core.errors import CheckpointError, TrainingError
from helpers.training import checkpoint


@pytest.fixture
def arrays():
    return tiny.arrays()


def saved(one, name="last.pt"):
    """What a file of the run's folder holds."""
    return torch.load(one.folder / name, weights_only=True)


def notes(one):
    return [(row["note"], row["step"]) for row in one.history if row["note"]]


def slow(one, seconds=0.02):
    """Steps that take a while, so that something can happen meanwhile."""
    one.watchers.append(lambda event: time.sleep(seconds) if event == "step" else None)


def cut(*rest):
    """A second interrupt, in the middle of something."""
    raise KeyboardInterrupt


def until(condition, seconds=20):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def in_thread(act):
    """Call it from another thread, as a cell does while a training runs; its error, if it raises one."""
    with ThreadPoolExecutor() as pool:
        return pool.submit(act).exception()


# ---- in the background ----


def test_pause_and_go_on_is_the_same_training_as_one_in_a_cell(arrays, capsys):
    straight = tiny.trainer(arrays, "straight").fit(4)
    one = tiny.trainer(arrays)
    slow(one)
    for step in (1, 4):
        one.start(4)
        until(lambda step=step: one.step >= step)
        one.pause()
        here = one.step
        time.sleep(0.05)
        assert not one.running and one.step == here == saved(one)["step"]
        assert f"(step {here}), saved: start(4) goes on" in one.log_lines[-1]
    one.start(4)
    assert one.wait() is one and not one.running
    assert tiny.same(tiny.state(one), tiny.state(straight)) and one.step == straight.step
    assert capsys.readouterr().out.count("epoch   4/4") == 2  # once by fit, once by wait


def test_what_would_collide_with_a_training_is_refused(arrays):
    one = tiny.trainer(arrays)
    slow(one)
    one.start(50)
    until(lambda: one.step > 0)
    for act in (lambda: one.start(50), lambda: one.fit(50), one.undo, one.find_lr):
        with pytest.raises(TrainingError, match="run a is training in the background: press Pause"):
            act()
    with pytest.raises(TrainingError, match="run a is training in the background in this kernel"):
        tiny.trainer(arrays)  # it would silently be the wrong one to steer
    assert tiny.trainer(arrays, "b").epoch == 0
    one.pause()
    tiny.trainer(arrays).fit(one.epoch + 1)


def test_a_pause_right_after_the_start_is_not_lost(arrays):
    one = tiny.trainer(arrays)
    one.start(10**6)
    one.pause(30)
    assert not one.running and one.step < 100 and saved(one)["step"] == one.step


def test_the_kernel_is_free_meanwhile(arrays):
    """A rate set, a network taken: between two steps, and each copy is of one step's weights."""
    one, kept = tiny.trainer(arrays), []
    one.watchers.append(
        lambda event: kept.append(list(map(torch.clone, one.average.state_dict().values()))) if event == "step" else 0
    )
    one.start(1000)
    until(lambda: one.step > 2)
    for _ in range(10):
        before = len(kept)
        taken = list(one.network.state_dict().values())
        until(lambda before=before: len(kept) > before + 1)
        assert any(tiny.same(taken, state) for state in kept[before - 1 :])
        one.validate()
    one.lr = 1e-5
    changed = one.history[-1]["step"]
    until(lambda: one.step > changed + 1)
    assert one.optimizer.param_groups[0]["lr"] < 1.1e-5
    one.pause()
    assert 0 < changed < one.step and one.model is not one.network


def test_stop_after_this_epoch_and_a_target_that_is_moved(arrays):
    one = tiny.trainer(arrays)
    assert not one.stop_after_epoch()  # nothing runs
    tiny.at_step(one, 3, lambda one: one.stop_after_epoch())  # in the middle of the second epoch
    one.start(50)
    one.wait()
    assert (one.epoch, one.seen) == (2, 0)
    tiny.at_step(one, 5, lambda one: setattr(one, "target_epoch", 3))
    one.start(50)
    one.wait()
    assert one.epoch == 3


def test_a_trainer_is_gone_when_nobody_holds_it(arrays):
    """And its memory on the GPU with it, without waiting for the garbage collector."""
    one = tiny.trainer(arrays).fit(1)
    one.start(2)
    one.wait()
    gone = weakref.ref(one)
    del one
    assert gone() is None


SCRIPT = """if True:
    import os, signal, sys, time, torch
    torch.set_num_threads(1)
    sys.path[:0] = ["tests"]
    import tiny
    one = tiny.trainer(tiny.arrays(), sys.argv[1])
    if sys.argv[1] == "cell":
        tiny.at_step(one, 3, lambda one: os.kill(os.getpid(), signal.SIGTERM))
        one.fit(5000)
    one.start(5000)
    while one.step < 5:
        time.sleep(0.01)
    if sys.argv[1] == "thread":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
        print("never")
"""


@pytest.mark.slow
def test_a_process_that_ends_saves_its_training_first(tmp_path):
    """Colab's pre-emption, by SIGTERM, in a cell and in the background; and a kernel's restart, by its own exit."""
    pipe = subprocess.PIPE
    started = {
        run: subprocess.Popen([sys.executable, "-c", SCRIPT, run], stdout=pipe, stderr=pipe, text=True)
        for run in ("cell", "thread", "exit")
    }
    for run, process in started.items():
        printed, errors = process.communicate(timeout=120)
        assert process.returncode == (0 if run == "exit" else -signal.SIGTERM) and "never" not in printed, errors
        step = checkpoint.latest(tmp_path / "runs" / "helen" / run)[0]["step"]
        assert step == 3 if run == "cell" else step >= 5


# ---- control.json ----


def test_control_json_steers(arrays, capsys):
    one = tiny.trainer(arrays, schedule="constant")
    one.look_every = 0
    control = one.folder / "control.json"
    tiny.at_step(one, 3, lambda one: control.write_text('{"lr": 1e-4}'))
    tiny.at_step(one, 5, lambda one: control.write_text('{"stop": true, "lr": 2e-4}'))
    tiny.at_step(one, 7, lambda one: control.write_text('{"stop": "epoch"}'))
    for step, rate in ((5, 2e-4), (8, 2e-4)):
        one.fit(6)
        assert one.step == step and one.lr == pytest.approx(rate) and not control.exists()
    assert notes(one) == [("lr 0.0001", 3), ("lr 0.0002", 5)]
    control.write_text('{"lr": "fast"}')
    one.fit(5)
    assert one.epoch == 5 and control.exists()
    assert capsys.readouterr().out.count("runs/helen/a/control.json is ignored") == 1


# ---- saved in time ----


@pytest.mark.parametrize(("save_every", "steps"), [(0.0, [0, 1, 2, 3]), (math.inf, [0, 0, 2, 2])])
def test_it_is_saved_before_the_first_step_by_the_clock_and_after_each_epoch(arrays, save_every, steps):
    one, found = tiny.trainer(arrays), []
    one.save_every = save_every
    one.watchers.append(lambda event: found.append(saved(one)["step"]) if event == "step" else None)
    one.fit(2)
    assert found == steps and saved(one)["step"] == 4  # each seen before the save that follows the step


def test_a_trainer_that_was_overtaken_goes_on_from_the_newer_state(arrays, capsys):
    """Two Trainers of one run: the older one never writes over what the newer has reached."""
    old = tiny.trainer(arrays).fit(1)
    new = tiny.trainer(arrays).fit(4)
    old.lr = 1e-4  # is not saved over it either
    assert saved(old)["epoch"] == 4
    old.fit(5)
    assert old.epoch == 5 and old.step == new.step + 2 and "was trained elsewhere" in capsys.readouterr().out


# ---- undo ----


def test_undo_goes_back_before_the_present_step_and_stays_there(arrays):
    straight = tiny.trainer(arrays, "straight").fit(3)
    one = tiny.trainer(arrays)
    tiny.at_step(one, 7, tiny.interrupt)
    one.fit(6)  # stops in the fourth epoch, with a checkpoint there and one at the third epoch's end
    one.save()  # once more at the same step: it does not push the one before out
    assert one.undo() is one and (one.step, one.epoch, one.seen) == (6, 3, 0)
    assert tiny.same(tiny.state(one), tiny.state(straight)) and notes(one) == [("undo from epoch 3.50, step 7", 6)]
    with pytest.raises(TrainingError, match="no checkpoint before step 6"):
        one.undo()
    assert tiny.trainer(arrays).step == 6


def test_undo_after_a_rate_set_while_it_trains_finds_the_place_of_the_change(arrays):
    straight = tiny.trainer(arrays, "straight").fit(3)
    one = tiny.trainer(arrays)
    tiny.at_step(one, 3, lambda one: setattr(one, "lr", 0.9))
    one.fit(2)
    one.watchers.clear()
    one.undo()
    assert one.step == 3 and one.rate.lr_scale == 1.0
    assert tiny.same(tiny.state(one.fit(3)), tiny.state(straight))


def test_undo_best_is_the_best_epoch_whole(arrays):
    one = tiny.trainer(arrays)
    tiny.give_scores(one, [0.3, 0.6, 0.2, 0.1, 0.7])
    best = tiny.state(one.fit(2))
    one.fit(4)
    one.undo("best")
    assert one.epoch == 2 and tiny.same(tiny.state(one), best)
    assert [row["epoch"] for row in one.history if not row["note"]] == [1, 2]
    assert not (one.folder / "previous.pt").exists()  # what was undone does not come back
    one.fit(3)
    assert one.best == 0.7 and predict.load(one.folder / "best.pt", "cpu").about["scores"]["overall"] == 0.7


@pytest.mark.parametrize("fault", ["a second interrupt", "another network"])
def test_after_an_undo_that_failed_fit_goes_on_as_if_nobody_had_tried(arrays, fault):
    straight = tiny.trainer(arrays, "straight").fit(3)
    one = tiny.trainer(arrays).fit(2)
    if fault == "a second interrupt":
        handle = one.model.register_load_state_dict_post_hook(cut)
        with pytest.raises(KeyboardInterrupt):
            one.undo()
        handle.remove()
    else:
        state = saved(one, "best_state.pt")
        state["average"].popitem()
        (one.folder / "best_state.pt").unlink()  # else last.pt, the same file, would change with it
        torch.save(state, one.folder / "best_state.pt")
        with pytest.raises(CheckpointError, match="does not fit the network as its code is now"):
            one.undo("best")
    with pytest.raises(CheckpointError, match="cut in two"):
        one.save()
    assert tiny.same(tiny.state(one.fit(3)), tiny.state(straight))


# ---- full disks, damaged files ----


@contextlib.contextmanager
def largest_file(size):
    """As a disk with so many bytes left: what is larger cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("file", ["best.pt", "last.pt"])
def test_a_full_disk_is_reported_and_made_good_by_the_next_fit(arrays, file):
    """Whichever file does not fit: the earlier checkpoint is whole, nothing is trained twice or lost."""
    straight = tiny.trainer(arrays, "straight").fit(3)
    one = tiny.trainer(arrays)
    tiny.give_scores(one, [0.2, 0.9, 0.5])
    one.fit(1)
    earlier = (one.folder / "last.pt").read_bytes()
    sizes = {name: (one.folder / name).stat().st_size for name in ("best.pt", "last.pt")}
    assert sizes["best.pt"] < sizes["last.pt"] - 1000
    with largest_file(sizes[file] - 500), pytest.raises(CheckpointError, match="make room and run fit again"):
        one.fit(3)
    assert (one.folder / "last.pt").read_bytes() == earlier and (one.epoch, one.step) == (2, 4)
    one.fit(3)
    assert tiny.same(tiny.state(one), tiny.state(straight)) and [row["epoch"] for row in one.history] == [1, 2, 3]
    assert saved(one)["step"] == 6 and saved(one, "best_state.pt")["epoch"] == 2
    assert predict.load(one.folder / "best.pt", "cpu").about["scores"]["overall"] == 0.9
    assert not list(one.folder.glob("*.tmp"))


def test_a_full_disk_does_not_keep_the_rate_from_being_set(arrays, capsys):
    one = tiny.trainer(arrays).fit(1)
    with largest_file(1000):
        one.lr = 1e-5
    assert one.lr == pytest.approx(1e-5) and "cannot be written" in capsys.readouterr().out
    assert saved(one)["lr_scale"] == 1.0


def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(arrays, capsys):
    """One bit of a weight, which torch alone would not notice; test_checkpoint has all other damages."""
    one = tiny.trainer(arrays).fit(2)
    data = bytearray((one.folder / "last.pt").read_bytes())
    where = data.find(one.model.out.weight.detach().numpy().tobytes())
    assert where > 0
    data[where + 1] ^= 1
    (one.folder / "last.pt").write_bytes(data)
    capsys.readouterr()
    again = tiny.trainer(arrays)
    printed = capsys.readouterr().out
    assert again.epoch == 1 and "last.pt" in printed and "going on from previous.pt" in printed
    assert tiny.same(tiny.state(again.fit(2)), tiny.state(one))


# ---- steps that are not finite ----


def spoil(monkeypatch, one, step, kind):
    """Let the loss, or a gradient, be not finite in that step, once. -> its step once it has happened."""
    plain, happened = losses.LOSSES["dice_ce"], []

    def due(where):
        if kind != where or one.step != step - 1 or happened:
            return False
        happened.append(step)
        return True

    def loss(logits, target):
        in_training = logits.requires_grad
        return plain(logits, target) * (math.nan if in_training and due("loss") else 1.0)

    monkeypatch.setitem(losses.LOSSES, "dice_ce", loss)
    one.model.out.bias.register_hook(lambda gradient: gradient * math.inf if due("gradient") else gradient)
    return happened


@pytest.mark.parametrize(  # read at once, and some steps later
    ("optimizer", "read_every", "kind"),
    [("adam", 1, "loss"), ("adamw", 5, "gradient"), ("sgd", 5, "loss"), ("muon", 1, "gradient"), ("muon", 5, "loss")],
)
def test_a_step_that_is_not_finite_is_named_and_rolled_back(monkeypatch, optimizer, read_every, kind):
    """What comes after is, to the bit, as if that step had not been. Nobody gets those weights meanwhile."""
    arrays = tiny.arrays(train=48)
    straight = tiny.trainer(arrays, "straight", optimizer=optimizer).fit(1)
    one = tiny.trainer(arrays, optimizer=optimizer)
    one.read_every = read_every
    happened, files, errors = spoil(monkeypatch, one, 7, kind), set(), {}

    def watch(event):
        if event == "step" and happened:
            files.add((one.folder / "last.pt").read_bytes())
            errors[one.step] = in_thread(one.save), in_thread(lambda: one.network)

    one.watchers.append(watch)
    message = r"not finite in step 7 at rate .*back at the last checkpoint, epoch 0\.00, step 0.*Set the rate lower"
    with pytest.raises(TrainingError, match=message):
        one.fit(1)
    assert one.step == 0 and one.seen == 0 and not one.trace
    assert len(files) <= 1 and saved(one)["step"] == 0 and not (one.folder / "best.pt").exists()
    assert list(errors) == ([7, 8, 9, 10] if read_every == 5 else [7])
    for save, network in errors.values():
        assert isinstance(save, CheckpointError) and "will find it and stop" in str(save)
        assert isinstance(network, TrainingError) and "weights are not finite" in str(network)
    one.fit(1)
    assert tiny.same(tiny.state(one), tiny.state(straight)) and one.trace == straight.trace


def test_a_save_that_is_due_finds_it_before_the_next_reading(arrays, monkeypatch):
    one = tiny.trainer(arrays)
    one.save_every = 0.0
    spoil(monkeypatch, one, 5, "loss")
    with pytest.raises(TrainingError, match=r"in step 5 .*back at the last checkpoint, epoch 2\.00, step 4"):
        one.fit(6)
    assert one.step == 4 == saved(one)["step"]


@pytest.mark.parametrize("read_every", [1, 100])
def test_a_rate_set_after_such_a_step_does_not_hide_it(arrays, monkeypatch, read_every):
    """By a watcher, in the training's own thread: it goes back all the same, and the lower rate stays."""
    one = tiny.trainer(arrays, schedule="constant")
    one.read_every = read_every
    spoil(monkeypatch, one, 3, "loss")
    tiny.at_step(one, 3, lambda one: setattr(one, "lr", 1e-4))
    with pytest.raises(TrainingError, match=r"in step 3 at rate 2\.0e-03: .*epoch 1\.00, step 2"):
        one.fit(2)
    assert one.step == 2 and one.lr == pytest.approx(1e-4)
    straight = tiny.trainer(arrays, "straight", schedule="constant").fit(1)
    straight.lr = one.lr
    assert tiny.same(tiny.state(one.fit(2)), tiny.state(straight.fit(2)))


def test_weights_that_are_not_finite_are_never_saved_or_exported(arrays):
    """The update of an epoch's last step leaves the loss finite: the weights are looked at too."""
    one = tiny.trainer(arrays).fit(1)
    files = {path.name: path.read_bytes() for path in one.folder.iterdir()}
    tiny.give_scores(one, [1.0])  # it would be the best epoch
    tiny.at_step(one, 4, lambda one: one.model.out.bias.data.fill_(math.inf))
    with pytest.raises(TrainingError, match=r"weights are not finite.*back at .* epoch 1\.00"):
        one.fit(2)
    assert one.epoch == 1 and one.model.out.bias.isfinite().all() and len(one.history) == 1
    assert {path.name: path.read_bytes() for path in one.folder.iterdir()} == files


def test_a_rate_that_was_lowered_stays_lowered_after_going_back(arrays, monkeypatch):
    """Else the advice would lead round in a circle."""
    one = tiny.trainer(arrays, schedule="constant").fit(1)
    monkeypatch.setitem(losses.LOSSES, "dice_ce", lambda logits, target: logits.sum() * math.nan)
    advised = []
    for _ in range(3):
        with pytest.raises(TrainingError, match="Set the rate lower") as error:
            one.fit(2)
        advised.append(float(str(error.value).split("trainer.lr = ")[1].split(",")[0]))
        one.lr = advised[-1]
    assert advised == pytest.approx([2e-4, 2e-5, 2e-6])


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_under_fp16_the_scaler_skips_alone_until_every_scale_overflows(optimizer):
    """From 2**16, halved with each step skipped, it is below 1 after the seventeenth, and noticed."""
    one = tiny.trainer(tiny.arrays(train=80), optimizer=optimizer, precision="fp16")
    handle = one.model.out.bias.register_hook(lambda gradient: gradient * math.inf)
    before = [p.clone() for p in one.model.parameters()]
    tiny.at_step(one, 16, lambda one: handle.remove())
    one.fit(1)  # four steps are left, and taken
    assert one.stepper.scaler.get_scale() == 1 and not tiny.same(before, list(one.model.parameters()))
    again = tiny.trainer(tiny.arrays(train=80), "b", optimizer=optimizer, precision="fp16")
    again.model.out.bias.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match="fp16: gradients overflow at every scale, by step 17"):
        again.fit(1)
    assert tiny.same(before, list(again.model.parameters()))


# ---- out of memory ----


@contextlib.contextmanager
def no_memory(monkeypatch, one, where):
    """A GPU that is full, in one place; `held` is what the failed call held."""
    held = []

    def full(*rest):
        big = torch.zeros(1000)
        held.append(weakref.ref(big))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nof which ...")

    with monkeypatch.context() as patch:
        if where in ("forward", "find_lr"):
            patch.setitem(losses.LOSSES, "dice_ce", full)
            yield held
        else:
            hook = one.optimizer.register_step_post_hook if where == "update" else one.average.register_forward_hook
            handle = hook(full)
            yield held
            handle.remove()


@pytest.mark.parametrize("where", ["forward", "update", "validation", "find_lr"])
def test_out_of_memory_is_reported_with_a_batch_to_try_and_nothing_is_lost(arrays, monkeypatch, where):
    """The same trainer goes on, and so does one with half the batch. What the step held is let go of."""
    straight = tiny.trainer(arrays, "straight").fit(3)
    one = tiny.trainer(arrays).fit(1)
    here = {"validation": (4, 8), "forward": (3, 4)}.get(where, (2, 0))  # (step, seen)
    if where == "forward":
        tiny.at_step(one, 3, tiny.interrupt)
        one.fit(3)
    with no_memory(monkeypatch, one, where) as held:
        message = r"out of memory on cpu after step \d, with batch 4 .*\(CUDA .* 2\.00 GiB\)\. Nothing .*batch=2\)"
        with pytest.raises(TrainingError, match=message) as kept:
            one.find_lr(1e-4, 1e-2, 10) if where == "find_lr" else one.fit(3)
        assert kept.value is not None and held[0]() is None  # a notebook keeps the last error
    assert (one.step, one.seen) == here and saved(one)["step"] == one.step
    half = tiny.trainer(arrays, batch=2)
    assert (half.step, half.seen) == here
    assert tiny.same(tiny.state(one.fit(3)), tiny.state(straight))
