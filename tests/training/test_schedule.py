"""The learning rate: schedules by hand, a rate set by hand, a schedule that was edited on the way."""

import pytest
import tiny

from helpers.core.errors import TrainingError
from helpers.training.schedule import LearningRate, schedule_factor


def test_the_schedules_by_hand():
    steps = [schedule_factor("steps", t) for t in (0, 0.49, 0.5, 0.74, 0.75, 1, 2)]
    assert steps == [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01]
    onecycle = [schedule_factor("onecycle", t) for t in (0, 0.15, 0.575, 1, 1.5)]
    assert onecycle == pytest.approx([0.1, 1, (1 + 0.01) / 2, 0.01, 0.01])  # 0.575 is half of the cosine
    assert [schedule_factor("constant", t) for t in (0, 0.5, 2)] == [1, 1, 1]


def test_an_unknown_schedule_is_refused_at_once():
    with pytest.raises(TrainingError, match="no schedule called 'cosine': choose onecycle, steps or constant"):
        LearningRate(tiny.settings(schedule="cosine"))


def test_a_rate_is_set_exactly_and_scales_the_rest():
    rate = LearningRate(tiny.settings(schedule="steps", lr=8e-3, epochs=4))
    assert [rate.at(epoch) for epoch in (0, 1.9, 2, 3)] == pytest.approx([8e-3, 8e-3, 8e-4, 8e-5])
    rate.set(4e-3, 1)
    assert [rate.at(epoch) for epoch in (1, 2, 3, 9)] == pytest.approx([4e-3, 4e-4, 4e-5, 4e-5])
    rate.set(1e-5, 2.5)
    assert [rate.at(epoch) for epoch in (2.5, 3)] == pytest.approx([1e-5, 1e-6])


@pytest.mark.parametrize("schedule", ["onecycle", "steps", "constant"])
def test_a_rate_set_by_hand_is_not_stretched_with_the_schedule(schedule):
    before = tiny.settings(schedule="onecycle", epochs=2)
    rate = LearningRate(before.replace(schedule=schedule, epochs=8))
    rate.lr_scale = 3.0
    rate.adapt(before.asdict(), 1.5)
    assert rate.at(1.5) == pytest.approx(3 * before.lr * schedule_factor("onecycle", 0.75))


def test_without_one_the_edited_schedule_counts_and_an_edited_peak_rate_always():
    before = tiny.settings(schedule="onecycle", epochs=2)
    stretched = LearningRate(before.replace(epochs=8))
    stretched.adapt(before.asdict(), 2)
    assert stretched.at(2) == pytest.approx(before.lr * schedule_factor("onecycle", 2 / 8))
    edited = LearningRate(before.replace(lr=7e-4, schedule="constant"))
    edited.lr_scale = 0.1
    edited.adapt(before.asdict(), 2)
    assert edited.at(2) == 7e-4
