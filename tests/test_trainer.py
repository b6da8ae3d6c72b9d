"""Training learns, stops, goes on to the bit, and obeys its learning rate."""

import csv
import math
import os
import signal

import numpy as np
import pytest
import tiny
import torch

from helpers import batches, catalog, losses, predict, preprocess, trainer
from helpers.core import env
from helpers.core.errors import CheckpointError, TrainingError, UNetError
from helpers.settings import ORIGINAL
from helpers.synthetic import faces as samples
from helpers.training import stepper
from helpers.training.steering import Signals


@pytest.fixture
def arrays():
    tiny.prepare()
    return preprocess.open_arrays("helen", 32)


def make(arrays, run="a", **changes):
    return trainer.Trainer(tiny.settings(**changes), arrays, run, "cpu")


def interrupt_after(monkeypatch, steps):
    """Send this process SIGINT in the middle of the given optimizer step, as Jupyter's stop button does."""
    prepare, calls = trainer.Trainer._prepare, []

    def wrapped(self, *batch):
        calls.append(1)
        if len(calls) == steps:
            os.kill(os.getpid(), signal.SIGINT)
        return prepare(self, *batch)

    monkeypatch.setattr(trainer.Trainer, "_prepare", wrapped)


def equal(one, other):
    mine, theirs = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_four_faces_are_memorised_in_every_class():
    """Drawn faces that show all eleven classes between them, learned by heart to F1 over .95 in each."""
    seeds = [seed for seed in range(40) if len(np.unique(samples.draw_face(seed, (320, 320))[1])) == 11][:4]
    faces = [samples.draw_face(seed, (320, 320)) for seed in seeds]
    images = np.stack([preprocess.resize_photo(image, 64) for image, _ in faces])
    labels = np.stack([preprocess.resize_label(label, 64) for _, label in faces])
    four = preprocess.Arrays(images, labels, list(map(str, seeds)), "four")
    settings = tiny.settings(size=64, width=12, depth=3, augment=0.0, ema_decay=0.0, epochs=240, lr=4e-3)
    one = trainer.Trainer(settings, {"train": four, "val": four}, "four", "cpu")
    one.validate = lambda network: {"overall": 0.0, **dict.fromkeys(one.dataset.classes, 0.0)}  # once, at the end
    one.save = lambda *rest: None
    one.fit(240)
    scores = trainer.Trainer.validate(one)
    assert min(scores.values()) > 0.95, scores


def test_fit_means_epochs_in_all(arrays, capsys):
    one = make(arrays)
    one.fit(1)
    one.fit(2)
    assert one.epoch == 2 and one.step == 4 and len(one.history) == 2
    one.fit(2)
    assert one.epoch == 2 and "2 epochs are done already" in capsys.readouterr().out


def test_one_line_an_epoch_says_what_matters(arrays, capsys):
    make(arrays).fit(2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert len(lines) == 2
    assert all(word in lines[0] for word in ("loss", "val F1", "weakest", "lr", "images/s", "left"))


def test_a_run_that_stops_and_goes_on_equals_one_that_does_not(arrays, monkeypatch):
    straight = make(arrays, "straight").fit(3)
    interrupt_after(monkeypatch, 3)  # in the second epoch's first step
    halves = make(arrays, "halves").fit(3)
    assert (halves.epoch, halves.seen, halves.step) == (1, 4, 3)
    again = make(arrays, "halves").fit(3)
    assert equal(straight, again) and again.step == straight.step
    for mine, theirs in zip(straight.history, again.history, strict=True):
        assert {k: v for k, v in mine.items() if k != "images_per_s"} == {
            k: v for k, v in theirs.items() if k != "images_per_s"
        }


def test_an_interrupt_ends_the_cell_after_the_step_saved_and_explained(arrays, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    interrupt_after(monkeypatch, 2)
    one = make(arrays).fit(5)
    printed = capsys.readouterr().out
    assert one.step == 2 and signal.getsignal(signal.SIGINT) == before
    assert "stopped at epoch 1.00 (step 2)" in printed and "fit(5) goes on" in printed
    assert (one.folder / "last.pt").exists()
    moments = one.optimizer.state_dict()["state"].values()
    steps = {int(each["step"]) for each in moments if "step" in each}  # a kernel's Muon counts none
    assert steps == {2}  # no parameter was left behind


def test_a_second_interrupt_raises():
    before = signal.getsignal(signal.SIGINT)  # a shell starts background jobs with SIGINT ignored
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_the_schedules_by_hand():
    assert [trainer.schedule_factor("steps", t) for t in (0, 0.49, 0.5, 0.74, 0.75, 1, 2)] == [
        1,
        1,
        0.1,
        0.1,
        0.01,
        0.01,
        0.01,
    ]
    assert [trainer.schedule_factor("onecycle", t) for t in (0, 0.15, 1, 1.5)] == pytest.approx([0.1, 1, 0.01, 0.01])
    assert trainer.schedule_factor("onecycle", 0.575) == pytest.approx((1 + 0.01) / 2)  # half of the cosine
    with pytest.raises(TrainingError, match="no schedule"):
        trainer.schedule_factor("cosine", 0.5)


def test_setting_the_rate_makes_it_exactly_that_and_scales_the_rest(arrays):
    one = make(arrays, epochs=4)
    one.fit(2)
    ahead = [4e-3 * 0 + one.settings.lr * trainer.schedule_factor("onecycle", t) for t in (0.5, 0.75)]
    assert one.lr == pytest.approx(ahead[0])
    one.lr = 1e-5
    assert one.lr == pytest.approx(1e-5)
    one.lr /= 10
    assert one.lr == pytest.approx(1e-6)
    one.fit(3)
    assert one.optimizer.param_groups[0]["lr"] < 1e-6
    assert one.lr == pytest.approx(1e-6 * ahead[1] / ahead[0])
    assert make(arrays, epochs=4).lr == pytest.approx(one.lr)  # a new Trainer goes on with it


def test_a_change_of_rate_is_a_row_of_the_history(arrays):
    one = make(arrays).fit(1)
    one.lr = 1e-5
    one.fit(2)
    row = one.history[1]
    assert (row["note"], row["epoch"], row["step"]) == ("lr 1e-05", 1.0, 2) and math.isnan(row["loss"])
    with open(one.folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["note"] for r in rows] == ["", "lr 1e-05", ""]
    read = trainer.read_history(one.folder / "history.csv")[""]
    assert read[2]["f1_overall"] == one.history[2]["f1_overall"] and read[1]["note"] == "lr 1e-05"


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_an_impossible_rate_is_refused(arrays, rate):
    one = make(arrays)
    with pytest.raises(TrainingError, match="above 0"):
        one.lr = rate
    assert one.lr > 0 and not one.history


def test_a_loss_that_is_not_finite_goes_back_to_the_checkpoint(arrays, monkeypatch):
    one = make(arrays).fit(1)
    kept = {k: v.clone() for k, v in one.model.state_dict().items()}
    monkeypatch.setitem(losses.LOSSES, "dice_ce", lambda logits, target: logits.sum() * math.nan)
    with pytest.raises(
        TrainingError,
        match=r"not finite in step 3 at rate 1\.3e-03: .* back at the last checkpoint, epoch 1\.00, step 2.*lower",
    ):
        one.fit(2)
    assert one.epoch == 1 and all(torch.equal(kept[k], v) for k, v in one.model.state_dict().items())


def test_weights_that_are_not_finite_are_never_saved(arrays, monkeypatch):
    """An infinite gradient in the last step of an epoch leaves the loss finite: the weights are looked at too."""
    one = make(arrays).fit(1)
    good = (one.folder / "last.pt").read_bytes()
    finish = trainer.Trainer._finish_epoch

    def spoilt(self, *rest):
        self.model.out.bias.data[0] = math.inf
        finish(self, *rest)

    monkeypatch.setattr(trainer.Trainer, "_finish_epoch", spoilt)
    with pytest.raises(TrainingError, match="not finite.*back at the last checkpoint, epoch 1"):
        one.fit(2)
    assert (one.folder / "last.pt").read_bytes() == good and one.epoch == 1 and one.model.out.bias.isfinite().all()


@pytest.mark.parametrize("when", ["step", "validate"])
def test_after_a_cut_the_next_fit_goes_back_to_the_checkpoint(arrays, monkeypatch, when):
    """A second interrupt in the middle: nothing is trained twice, no epoch is lost."""
    straight = make(arrays, "straight").fit(3)
    one = make(arrays, "cut").fit(1)
    with monkeypatch.context() as patch:

        def cut(*rest):
            raise KeyboardInterrupt

        where = (trainer.Trainer, "validate") if when == "validate" else (stepper.Stepper, "_update_average")
        patch.setattr(*where, cut)
        with pytest.raises(KeyboardInterrupt):
            one.fit(3)
    one.fit(3)
    assert equal(straight, one) and [row["epoch"] for row in one.history] == [1, 2, 3] and one.step == straight.step


def test_a_rate_of_numpy_s_leaves_the_checkpoint_readable(arrays):
    one = make(arrays, lr=np.float64(2e-3)).fit(1)
    one.lr = np.float32(1e-4)
    one.fit(2)
    assert make(arrays, lr=2e-3).lr == pytest.approx(one.lr)


def test_an_epoch_without_a_score_still_has_weights_to_export(arrays, monkeypatch, tmp_path):
    nothing = {**dict.fromkeys(make(arrays).dataset.rows, math.nan)}
    monkeypatch.setattr(trainer.Trainer, "validate", lambda self, network=None: dict(nothing))
    make(arrays).fit(1).export(tmp_path / "w.pt")
    assert (tmp_path / "w.pt").exists()


def test_the_same_data_elsewhere_goes_on(arrays):
    """Copied to another disk the files have other times: the checkpoint is known by the content."""
    make(arrays).fit(1)
    for path in env.split_dir("helen").rglob("*.*"):
        os.utime(path, (1, 1))
    assert make(preprocess.open_arrays("helen", 32)).epoch == 1


def test_changed_settings_are_told_and_kept(arrays, capsys):
    make(arrays).fit(1)
    one = make(arrays, weight_decay=0.05, batch=2)
    assert "batch 4 -> 2" in capsys.readouterr().out and "weight_decay 0.01 -> 0.05" in one.history[-1]["note"]
    assert one.optimizer.param_groups[0]["weight_decay"] == 0.05


@pytest.mark.parametrize("change", [{"loss": "foo"}, {"optimizer": "sgdd"}])
def test_unknown_names_list_the_known(arrays, change):
    with pytest.raises(TrainingError, match="choose one of"):
        make(arrays, **change)


@pytest.mark.parametrize("change", [{"lr": 0}, {"batch": 0}, {"size": 2}, {"seed": -1}, {"ema_decay": 1}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(UNetError, match="settings: "):
        tiny.settings(**change)


@pytest.mark.parametrize(("change", "named"), [({"width": 6}, "width 4 (now 6)"), ({"depth": 1}, "depth 2 (now 1)")])
def test_another_network_s_checkpoint_is_refused(arrays, change, named):
    make(arrays).fit(1)
    with pytest.raises(CheckpointError) as error:
        make(arrays, **change)
    assert named in str(error.value) and "another name" in str(error.value)


def test_other_data_s_checkpoint_is_refused(arrays):
    make(arrays).fit(1)
    tiny.prepare(train=9)
    with pytest.raises(
        CheckpointError, match=r"other train data: 8 images \(now 9, with other content\): give the run another name"
    ):
        make(preprocess.open_arrays("helen", 32))


def test_runs_lie_beside_each_other(arrays):
    make(arrays, "a").fit(1)
    assert make(arrays, "b").epoch == 0 and make(arrays, "a").epoch == 1


def test_the_reader_s_random_numbers_are_left_alone(arrays):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    make(arrays).fit(1)
    assert torch.equal(torch.rand(3), expected)


def test_the_seed_recipe_trains(arrays):
    settings = tiny.settings().replace(**ORIGINAL)
    one = trainer.Trainer(settings, arrays, "seed", "cpu").fit(2)
    assert one.average is None and math.isfinite(one.history[-1]["loss"])


def test_validation_counts_every_image_once(arrays):
    """The pooled scores equal those of the predictions made one by one."""
    one = make(arrays, batch=2).fit(1)
    parser = predict.Segmenter(one.network, one.settings, "cpu")
    guesses = np.stack([parser.logits([image]).argmax(1)[0].numpy() for image in arrays["val"].images])
    matrix = trainer.metrics.confusion(torch.from_numpy(guesses), torch.from_numpy(np.array(arrays["val"].labels)), 11)
    assert one.validate() == pytest.approx(trainer.metrics.measures(matrix.numpy(), one.dataset), nan_ok=True)


def test_the_average_of_the_weights_by_hand(arrays):
    one = make(arrays, ema_decay=0.5)
    start = one.model.out.bias.detach().clone()
    batch = next(iter(batches.loader(arrays["train"], 4, seed=0)))
    one._step(*batch)
    first = one.model.out.bias.detach().clone()
    torch.testing.assert_close(one.average.out.bias, start + (first - start) * 0.9)  # 1 / (1 + 9) is kept
    one._step(*batch)
    average = (start + (first - start) * 0.9) * 2 / 11 + one.model.out.bias.detach() * 9 / 11
    torch.testing.assert_close(one.average.out.bias, average)


def test_export_gives_the_best_epoch_s_weights(arrays, tmp_path):
    one = make(arrays)
    with pytest.raises(TrainingError, match="run fit first"):
        one.export(tmp_path / "w.pt")
    one.fit(2)
    one.export(tmp_path / "w.pt")
    parser = predict.load(tmp_path / "w.pt", "cpu")
    best = max(row["f1_overall"] for row in one.history)
    assert parser.about["scores"]["overall"] == best and parser.settings == one.settings
    assert env.shown(one.folder) == "runs/helen/a"


def sides(one, epochs, monkeypatch):
    """Train to so many epochs -> epoch (as the step saw it) -> side of the photos."""
    seen = {}
    backward = trainer.stepping.Stepper.backward

    def watch(self, x, target):
        assert x.shape[2:] == target.shape[1:]
        seen[one.epoch] = x.shape[2]
        return backward(self, x, target)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.stepping.Stepper, "backward", watch)
        one.fit(epochs)
    return list(seen.values())


@pytest.mark.parametrize(
    ("half_size_fraction", "epochs", "halves"), [(0.0, 4, 0), (0.5, 4, 2), (0.9, 4, 3), (0.75, 2, 1)]
)
def test_the_first_epochs_see_half_and_the_last_whole_photos(arrays, monkeypatch, half_size_fraction, epochs, halves):
    one = make(arrays, f"{half_size_fraction}", epochs=epochs, half_size_fraction=half_size_fraction)
    assert sides(one, epochs, monkeypatch) == [16] * halves + [32] * (epochs - halves)


def test_whole_photos_stay_whole_when_the_epochs_are_edited(arrays, monkeypatch):
    """Half of 4 epochs are early; stretched to 12 after the third, the fourth is no early one again."""
    make(arrays, epochs=4, half_size_fraction=0.5).fit(3)
    one = make(arrays, epochs=12, half_size_fraction=0.5)
    assert sides(one, 5, monkeypatch) == [32, 32]
    assert sides(make(arrays, epochs=12, half_size_fraction=0.5), 7, monkeypatch) == [
        32,
        32,
    ]  # nor from a checkpoint made since
    make(arrays, "b", epochs=4, half_size_fraction=0.5).fit(1)
    assert sides(make(arrays, "b", epochs=12, half_size_fraction=0.5), 7, monkeypatch) == [16] * 5 + [
        32
    ]  # within them it stretches
    assert sides(make(arrays, "b", epochs=12, half_size_fraction=0.8), 8, monkeypatch) == [
        16
    ]  # what was asked for by name holds


def test_early_epochs_are_judged_at_half_size_and_never_the_best_once_one_has_seen_whole_photos(arrays, monkeypatch):
    """Their scores 0.9 and 0.8, those of the whole ones 0.1 and 0.2: epoch 1 is the best of two, epoch 4 of four."""
    names, sizes, scores = ["overall", "mean_iou", "accuracy"], [], iter([0.9, 0.8, 0.1, 0.2])
    confusion = trainer.metrics.confusion
    monkeypatch.setattr(
        trainer.metrics, "confusion", lambda said, *rest: sizes.append(len(said[0])) or confusion(said, *rest)
    )
    measures = trainer.metrics.measures
    monkeypatch.setattr(trainer.metrics, "measures", lambda *rest: measures(*rest) | dict.fromkeys(names, next(scores)))
    one = make(arrays, epochs=4, half_size_fraction=0.5)
    one.fit(2)
    assert one.best_epoch == 1 and set(sizes) == {16}
    half = predict.load(one.folder / "best.pt", "cpu")
    assert half.settings.shape == (16, 16) and half.settings.half_size_fraction == 0  # the size that these weights know
    one.fit(4)
    assert one.best_epoch == 4 and sizes[-1] == 32 and set(sizes) == {16, 32}
    assert predict.load(one.folder / "best.pt", "cpu").settings.shape == (32, 32)
    marks = [(row["epoch"], row["note"]) for row in one.history if row["note"]]
    assert marks == [(2.0, trainer.WHOLE)]


def test_patience_waits_for_whole_photos(arrays, monkeypatch):
    """Nothing gets better: without early epochs the end comes after 2, with them not before 2 whole ones."""
    flat = dict.fromkeys(["mean_iou", "accuracy", *catalog.HELEN.rows], 0.5)
    monkeypatch.setattr(trainer.Trainer, "validate", lambda *rest: dict(flat))
    assert make(arrays, "a", epochs=8, patience=1).fit(8).epoch == 2
    assert make(arrays, "b", epochs=8, patience=1, half_size_fraction=0.5).fit(8).epoch == 6


@pytest.mark.parametrize(
    "wrong",
    [dict(half_size_fraction=1.0), dict(half_size_fraction=-0.1), dict(half_size_fraction=0.5, size=32, depth=4)],
)
def test_early_epochs_that_cannot_be_are_told(wrong):
    with pytest.raises(UNetError, match="half_size_fraction"):
        tiny.settings(**wrong)
