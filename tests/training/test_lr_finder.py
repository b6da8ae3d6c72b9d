"""The learning-rate finder: suggests by hand-made curves, ends in time, touches nothing."""

import itertools

import numpy as np
import pytest
import tiny
import torch

from helpers import augment, batches, preprocess, trainer
from helpers.core.errors import TrainingError
from helpers.training import lr_finder


@pytest.fixture
def arrays():
    tiny.prepare()
    return preprocess.open_arrays("helen", 32)


def make(arrays, run="a", **changes):
    return trainer.Trainer(tiny.settings(epochs=30, **changes), arrays, run, "cpu")


def test_the_steepest_fall_by_hand():
    rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert lr_finder.suggest(rates, [3.0, 2.9, 2.0, 1.0, 1.1]) == 1e-3  # slopes -.1 -.5 -.95, then the least
    assert lr_finder.suggest([1.234e-4, 1e-3, 1e-2], [1.0, 2.0, 3.0]) == 1.2e-4  # it only rises


def test_the_rates_grow_from_low_to_high_and_the_loss_falls(arrays):
    found = make(arrays).find_lr(1e-5, 1.0, 60)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 1.0, 60)[: len(found.rates)])
    assert len(found.losses) == len(found.rates) and found.losses.min() < 0.9 * found.losses[0]
    assert 1e-4 < found.suggestion < found.rates[found.losses.argmin()]


def test_the_next_twenty_steps_are_the_same_bits_with_and_without(arrays):
    """Model, optimizer, average, random state and data order are untouched, before the first step and in mid-epoch."""
    plain, searched = make(arrays, "plain"), make(arrays, "searched")
    for epochs in (1, 11):  # two steps an epoch: 2, then 20
        torch.manual_seed(3)
        numbers = torch.get_rng_state()
        searched.find_lr(1e-5, 1.0, 30)
        assert torch.equal(torch.get_rng_state(), numbers)
        plain.fit(epochs)
        searched.fit(epochs)
        mine, theirs = plain.stepper.state(), searched.stepper.state()
        for part in ("model", "average"):
            assert all(torch.equal(mine[part][k], theirs[part][k]) for k in mine[part])
        for one, other in zip(mine["optimizer"]["state"].values(), theirs["optimizer"]["state"].values(), strict=True):
            assert all(torch.equal(one[k], other[k]) for k in one)
        assert [row["loss"] for row in plain.history] == [row["loss"] for row in searched.history]
    assert plain.step == searched.step == 22


def test_the_first_loss_is_that_of_the_network_as_it_is(arrays):
    one = make(arrays)
    one.fit(2)
    batch = next(lr_batches(one))
    loss = one.stepper.backward(*batch).item()
    one.stepper.put_back()
    curve = lr_finder.run(one.stepper, lr_batches(one), 1e-6, 1e-5, 8)
    assert curve.losses[0] == pytest.approx(loss, rel=1e-6)


def lr_batches(one):
    """The first batch again and again, as the step takes it."""
    images, labels, _ = next(iter(batches.loader(one.arrays["train"], 4, seed=0)))
    while True:
        yield augment.to_float(images, 0.5, 0.25), augment.to_ids(labels)


def test_a_loss_that_is_not_finite_ends_it_before_a_step_is_taken(arrays):
    one = make(arrays)
    given = itertools.islice(lr_batches(one), 9)
    bad = ((x * torch.nan, target) for x, target in lr_batches(one))
    curve = lr_finder.run(one.stepper, itertools.chain(given, bad), 1e-6, 1e-5, 20)
    assert len(curve.rates) == 9 and np.isfinite(curve.losses).all()


@pytest.mark.parametrize("wrong", [(0, 1, 20), (1, 0.1, 20), (1e-5, 1, 5)])
def test_a_range_that_says_nothing_is_refused(arrays, wrong):
    with pytest.raises(TrainingError, match="goes from a rate above 0 to a higher one in at least 8 steps"):
        make(arrays).find_lr(*wrong)


def test_it_ends_where_the_loss_diverges(arrays):
    found = make(arrays).find_lr(1e-4, 1e6, 60)
    assert len(found.rates) < 60 and np.isfinite(found.losses).all()


def test_a_start_that_is_too_high_is_reported(arrays):
    with pytest.raises(TrainingError, match="start at a lower rate"):
        make(arrays).find_lr(1e8, 1e12, 20)
