"""Training learns, stops, goes on to the bit, obeys its learning rate, judges and keeps its best epoch."""

import csv
import itertools
import math
import os
import random
import signal

import numpy as np
import pytest
import tiny
import torch

from helpers import metrics, predict, preprocess, trainer
from helpers.core import choice, env
from helpers.core.errors import CheckpointError, TrainingError
from helpers.settings import ORIGINAL
from helpers.synthetic import faces


@pytest.fixture
def arrays():
    return tiny.arrays()


def cut(*rest):
    """As a second press of it."""
    raise KeyboardInterrupt


def without_speed(rows):
    return [{k: v for k, v in row.items() if k != "images_per_s"} for row in rows]


# ---- it learns, and says so ----


@pytest.mark.slow
def test_four_faces_are_memorised_in_every_class():
    """Synthetic faces that show all eleven classes between them, learned by heart to F1 over .95 in each."""
    drawn = (faces.draw_face(seed, (320, 320)) for seed in range(40))
    shown = list(itertools.islice((face for face in drawn if len(np.unique(face[1])) == 11), 4))
    images = np.stack([preprocess.resize_photo(image, 48) for image, _ in shown])
    labels = np.stack([preprocess.resize_label(label, 48) for _, label in shown])
    four = preprocess.Arrays(images, labels, list("abcd"), "four")
    settings = dict(size=48, width=16, depth=2, augment=0.0, ema_decay=0.0, epochs=100, lr=1e-2)
    one = tiny.trainer({"train": four, "val": four}, **settings)
    validate, one.save = one.validate, lambda *rest: None
    names = ("loss", "overall", *one.dataset.classes)
    one.validate = lambda network: dict.fromkeys(names, 0.0)  # once, at the end
    one.fit(100)
    scores = validate()
    assert scores.pop("loss") < 0.2 and min(scores.values()) > 0.95, scores


def test_fit_means_epochs_in_all_and_prints_a_line_for_each(arrays, capsys):
    one = tiny.trainer(arrays)
    one.fit(1)
    one.fit(2)
    assert one.epoch == 2 and one.step == 4 and len(one.history) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if "loss" in line]
    assert len(lines) == 2 and lines[1].startswith("epoch   2/2")
    assert all(word in lines[0] for word in ("val F1", "weakest", "lr", "images/s", "left"))
    one.fit(2)
    assert one.epoch == 2 and "2 epochs are done already; fit(3) or more goes on" in capsys.readouterr().out


def test_the_original_recipe_trains(arrays):
    one = trainer.Trainer(tiny.settings().replace(**ORIGINAL), arrays, "original", "cpu").fit(2)
    assert one.average is None and math.isfinite(one.history[-1]["loss"])


def test_training_draws_no_random_numbers_but_its_own(arrays):
    """Why a checkpoint needs no generator's state."""
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    tiny.trainer(arrays).fit(2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all() and random.getstate() == before[2]


# ---- stop and go on ----


def test_a_run_that_stops_anywhere_and_goes_on_equals_one_that_does_not():
    """Weights, average, moments, history and curve, to the bit; three steps an epoch, a point of the curve at ten."""
    arrays = tiny.arrays(train=12)
    straight = tiny.trainer(arrays, "straight").fit(4)
    assert [point[0] for point in straight.trace] == pytest.approx([1, 2, 3, 10 / 3, 4])
    for stop in (1, 3, 5, 10, 11):  # 3: right before validation
        one = tiny.trainer(arrays, f"stopped-{stop}")
        tiny.at_step(one, stop, tiny.interrupt)
        one.fit(4)
        assert (one.step, one.epoch, one.seen) == (stop, (stop - 1) // 3, (stop - 1) % 3 * 4 + 4)
        again = tiny.trainer(arrays, f"stopped-{stop}").fit(4)
        assert tiny.same(tiny.state(again), tiny.state(straight)) and again.step == straight.step == 12
        assert again.trace == straight.trace and without_speed(again.history) == without_speed(straight.history)


def test_an_interrupt_ends_the_cell_after_the_step_saved_and_explained(arrays, capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    one = tiny.trainer(arrays)
    handle = one.model.register_forward_hook(tiny.interrupt)  # in the middle of the first step
    one.fit(5)
    handle.remove()
    assert one.step == 1 and [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert "stopped at epoch 0.50 (step 1), saved: fit(5) goes on" in capsys.readouterr().out
    assert torch.load(one.folder / "last.pt", weights_only=True)["step"] == 1


def test_an_interrupt_in_validation_stops_there_and_the_epoch_is_finished_later(arrays):
    straight = tiny.trainer(arrays, "straight").fit(2)
    one = tiny.trainer(arrays)
    one.average.register_forward_hook(tiny.interrupt)
    one.fit(2)
    assert (one.epoch, one.seen, one.step) == (0, 8, 2) and not one.history
    again = tiny.trainer(arrays).fit(2)
    assert tiny.same(tiny.state(again), tiny.state(straight)) and [r["epoch"] for r in again.history] == [1, 2]


@pytest.mark.parametrize("where", ["forward", "update", "validation"])
def test_after_a_cut_the_next_fit_goes_on_as_if_it_had_not_been(arrays, where):
    """A second interrupt in the middle: nothing is trained twice, no epoch is lost."""
    straight = tiny.trainer(arrays, "straight").fit(3)
    one = tiny.trainer(arrays, "cut").fit(1)
    hooks = {
        "forward": one.model.register_forward_hook,
        "update": one.optimizer.register_step_post_hook,  # weights are new, their average is old
        "validation": one.average.register_forward_hook,
    }
    handle = hooks[where](cut)
    with pytest.raises(KeyboardInterrupt):
        one.fit(3)
    handle.remove()
    one.fit(3)
    assert tiny.same(tiny.state(straight), tiny.state(one)) and one.step == straight.step
    assert [row["epoch"] for row in one.history] == [1, 2, 3]


def test_runs_lie_beside_each_other_and_know_the_data_by_its_content():
    tiny.prepare()
    arrays = preprocess.open_arrays("helen", 32)
    tiny.trainer(arrays, "a").fit(1)
    for path in env.split_dir("helen").rglob("*.*"):  # as if it were copied to another disk
        os.utime(path, (1, 1))
    arrays = preprocess.open_arrays("helen", 32)
    assert tiny.trainer(arrays, "b").epoch == 0 and tiny.trainer(arrays, "a").epoch == 1
    tiny.prepare(train=9)
    with pytest.raises(CheckpointError, match=r"train data: 8 images \(now 9, with other content\): give the run"):
        tiny.trainer(preprocess.open_arrays("helen", 32), "a")


@pytest.mark.parametrize(("source", "name"), [("helen", "tuned-smoke"), ("synthetic", "tuned-smoke-synthetic")])
def test_a_run_s_name_tells_recipe_scale_and_synthetic_data(monkeypatch, source, name):
    monkeypatch.setattr(choice, "source", lambda dataset: source)
    assert trainer.run_name(tiny.settings()) == name


# ---- the learning rate ----


def test_the_rate_is_obeyed_from_the_next_step_on_and_scales_the_rest(arrays):
    one, used = tiny.trainer(arrays, schedule="steps", epochs=4, lr=2e-3), []
    one.watchers.append(lambda event: used.append(one.optimizer.param_groups[0]["lr"]) if event == "step" else None)
    tiny.at_step(one, 3, lambda one: setattr(one, "lr", 5e-5))
    one.fit(4)
    assert used == pytest.approx([2e-3] * 3 + [5e-5] + [5e-6] * 2 + [5e-7] * 2)
    assert one.lr == pytest.approx(5e-7) and tiny.trainer(arrays, schedule="steps", epochs=4).lr == pytest.approx(5e-7)
    one.lr /= 10
    one.fit(5)  # beyond the schedule's end: its last rate
    assert used[-1] == pytest.approx(5e-8)


def test_a_change_of_rate_is_a_row_of_the_history_and_outlives_the_kernel(arrays):
    one = tiny.trainer(arrays, schedule="constant").fit(1)
    one.lr = np.float32(1e-5)
    row = one.history[1]
    assert (row["note"], row["epoch"], row["step"]) == ("lr 1e-05", 1.0, 2) and math.isnan(row["loss"])
    again = tiny.trainer(arrays, schedule="constant")
    assert again.lr == pytest.approx(1e-5) and again.history[-1]["note"] == "lr 1e-05"
    with pytest.raises(TrainingError, match="above 0"):
        again.lr = math.nan
    again.fit(2)
    with open(again.folder / "history.csv", newline="") as file:
        assert [row["note"] for row in csv.DictReader(file)] == ["", "lr 1e-05", ""]


def test_a_rate_set_after_a_cut_is_not_forgotten(arrays):
    one = tiny.trainer(arrays, schedule="constant").fit(1)
    handle = one.optimizer.register_step_post_hook(cut)
    with pytest.raises(KeyboardInterrupt):
        one.fit(2)
    handle.remove()
    with pytest.raises(CheckpointError, match="the last step was cut in two; fit goes back"):
        one.save()
    one.lr = 1e-5
    one.fit(2)
    assert one.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5) and one.step == 4


def test_changed_settings_are_reported_and_kept(arrays, capsys):
    """Run All with other settings: they count from here on; an edited rate as it stands, whatever was set by hand."""
    one = tiny.trainer(arrays, schedule="constant", epochs=2).fit(1)
    one.lr = 1e-5
    again = tiny.trainer(arrays, schedule="constant", epochs=4, weight_decay=0.05, batch=2, lr=7e-4)
    note = "lr 0.002 -> 0.0007, batch 4 -> 2, weight_decay 0.01 -> 0.05"
    printed = capsys.readouterr().out
    assert all(change in printed for change in (*note.split(", "), "epochs 2 -> 4", "next step 7.0e-04"))
    assert all(change in again.history[-1]["note"] for change in note.split(", "))
    again.fit(2)
    assert {(group["lr"], group["weight_decay"]) for group in again.optimizer.param_groups} == {(7e-4, 0.05)}
    assert again.step == 2 + 4


# ---- validation, the best epoch, patience ----


def test_validation_counts_every_image_once(arrays):
    """The pooled scores equal those of the predictions made one by one, the loss that of all pixels at once."""
    one = tiny.trainer(arrays, batch=2, loss="cross_entropy").fit(1)
    segmenter = predict.Segmenter(one.network, one.settings, "cpu")
    logits = torch.cat([segmenter.logits([image]) for image in arrays["val"].images])
    truth = torch.from_numpy(np.array(arrays["val"].labels)).long()
    matrix = metrics.confusion(logits.argmax(1), truth, 11)
    found = one.validate()
    loss = torch.nn.functional.cross_entropy(logits, truth).item()
    assert one.history[-1]["val_loss"] == found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found == pytest.approx({"loss": found["loss"]} | metrics.measures(matrix.numpy(), one.dataset), nan_ok=True)


def test_time_left_counts_epochs_of_half_size_as_a_third(arrays):
    """6 epochs of 8 photos, the first 3 at half size."""
    one = tiny.trainer(arrays, epochs=6, half_size_fraction=0.5)
    one.target_epoch = 6
    assert math.isnan(one.seconds_left)
    one.images_per_second = 4.0
    assert one.seconds_left == 3 * 2 + 3 * 6  # 2 seconds an epoch at half size
    one.epoch_seconds = 30.0
    one.epoch, one.seen = 1, 4
    assert one.seconds_left == 1.5 * 10 + 3 * 30
    one.epoch, one.target_epoch = 4, 5
    assert one.seconds_left == 0.5 * 30


def scores_of(one, scores):
    """Let validation give these, one after the other, whatever the network; the sizes that it saw."""
    validate, scores, sizes = one.validate, iter(scores), []
    one.average.register_forward_pre_hook(lambda module, inputs: sizes.append(inputs[0].shape[2]))
    one.validate = lambda network: dict.fromkeys(validate(network), next(scores))
    return sizes


def test_export_gives_the_best_epoch_s_weights(arrays, tmp_path):
    one = tiny.trainer(arrays)
    with pytest.raises(TrainingError, match="run fit first"):
        one.export(tmp_path / "w.pt")
    scores_of(one, [math.nan, 0.75, 0.5])
    one.fit(1).export(tmp_path / "undefined.pt")  # an epoch without a score has weights to export, too
    one.fit(2)
    best = {k: v.clone() for k, v in one.average.state_dict().items()}
    one.fit(3)
    one.export(tmp_path / "w.pt")
    found = predict.load(tmp_path / "w.pt", "cpu")
    assert one.best_epoch == 2 and found.about["scores"]["overall"] == 0.75 and found.settings == one.settings
    exported = torch.load(tmp_path / "w.pt", weights_only=True)["weights"]
    assert all(torch.equal(exported[k], v.half() if v.ndim > 1 else v) for k, v in best.items())
    (one.folder / "best.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        one.export(tmp_path / "damaged.pt")
    assert not (tmp_path / "damaged.pt").exists()


def sides(one, epochs):
    """Train to so many epochs -> the side of the photos in each epoch of the training."""
    seen = {}

    def watch(module, inputs):
        if module.training:
            seen[one.epoch] = inputs[0].shape[2]

    handle = one.model.register_forward_pre_hook(watch)
    one.fit(epochs)
    handle.remove()
    return list(seen.values())


def test_the_first_epochs_see_photos_of_half_the_size(arrays):
    assert sides(tiny.trainer(arrays, epochs=4, half_size_fraction=0.5), 4) == [16, 16, 32, 32]


def test_full_size_stays_when_the_epochs_are_edited(arrays):
    """Half of 4 epochs are at half size; stretched to 12 after the third, the fourth is at full size."""
    tiny.trainer(arrays, epochs=4, half_size_fraction=0.5).fit(3)
    longer = dict(epochs=12, half_size_fraction=0.5)
    assert sides(tiny.trainer(arrays, **longer), 5) == [32, 32]
    assert sides(tiny.trainer(arrays, **longer), 7) == [32, 32]  # nor from a checkpoint made since
    tiny.trainer(arrays, "b", epochs=4, half_size_fraction=0.5).fit(1)
    assert sides(tiny.trainer(arrays, "b", **longer), 7) == [16] * 5 + [32]  # within them it stretches
    assert sides(tiny.trainer(arrays, "b", epochs=12, half_size_fraction=0.8), 8) == [16]  # what is set now holds


def test_epochs_at_half_size_are_judged_at_it_and_exported_for_it(arrays):
    """Their scores are 0.9 and 0.8, then 0.1 and 0.2: epoch 1 is the best of two, epoch 4 of four."""
    one = tiny.trainer(arrays, epochs=4, half_size_fraction=0.5)
    sizes = scores_of(one, [0.9, 0.8, 0.1, 0.2])
    one.fit(2)
    assert one.best_epoch == 1 and set(sizes) == {16}
    half = predict.load(one.folder / "best.pt", "cpu").settings
    assert half.shape == (16, 16) and half.half_size_fraction == 0  # the size that these weights know
    one.fit(4)
    assert one.best_epoch == 4 and sizes[-1] == 32 and set(sizes) == {16, 32}
    assert predict.load(one.folder / "best.pt", "cpu").settings.shape == (32, 32)
    assert [(row["epoch"], row["note"]) for row in one.history if row["note"]] == [(2.0, "full size")]


def test_patience_waits_for_full_size(arrays, capsys):
    """Nothing gets better: the end comes after 2 epochs at full size, of which the first is the best."""
    one = tiny.trainer(arrays, epochs=8, patience=1, half_size_fraction=0.5)
    scores_of(one, [0.5] * 8)
    assert one.fit(8).epoch == 6 and one.ended_early
    assert "no better epoch than 5 for 1 epochs: stopped at 6" in capsys.readouterr().out


def test_weights_to_look_at_are_the_run_s_or_ours_or_trained_first(arrays, monkeypatch, capsys):
    settings = tiny.settings()
    assert trainer.trained_weights(settings) == predict.PRETRAINED
    one = tiny.trainer(arrays, trainer.run_name(settings)).fit(1)
    assert trainer.trained_weights(settings) == one.folder / "best.pt"
    pets = settings.replace(dataset="pets")  # none come with the project
    monkeypatch.setattr(preprocess, "open_arrays", lambda *rest: {k: three_classes(v) for k, v in arrays.items()})
    weights = trainer.trained_weights(pets)
    assert weights.exists() and "so we train one" in capsys.readouterr().out
    assert trainer.Trainer(pets, preprocess.open_arrays()).epoch == 1  # 04 goes on from there


def three_classes(arrays):
    return preprocess.Arrays(arrays.images, arrays.labels % 3, arrays.ids, arrays.content)
