"""The learning-rate finder: suggests by hand-made curves, ends in time, touches nothing."""

import itertools

import numpy as np
import pytest
import tiny
import torch

from helpers import losses
from helpers.core.errors import TrainingError
from helpers.trainer import train_step
from helpers.training import lr_finder
from helpers.training.steering import StopAfter


@pytest.fixture
def arrays():
    return tiny.arrays()


def test_the_steepest_fall_by_hand():
    rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    assert lr_finder.suggest(rates, [3.0, 2.9, 2.0, 1.0, 1.1]) == 1e-3  # slopes -.1 -.5 -.95, then the least
    assert lr_finder.suggest([1.234e-4, 1e-3, 1e-2], [1.0, 2.0, 3.0]) == 1.2e-4  # it only rises


def test_the_rates_grow_from_low_to_high_and_the_loss_falls(arrays):
    found = tiny.trainer(arrays).find_lr(1e-5, 1.0, 60)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-5, 1.0, 60)[: len(found.rates)])
    assert len(found.losses) == len(found.rates) and found.losses.min() < 0.9 * found.losses[0]
    assert 1e-4 < found.suggestion < found.rates[found.losses.argmin()]


def test_the_next_steps_are_the_same_bits_with_and_without(arrays):
    """Before the first step and in mid-epoch: all that a step changes, random numbers, order of the data, losses."""
    plain, searched = tiny.trainer(arrays, "plain"), tiny.trainer(arrays, "searched")
    for one in (plain, searched):
        tiny.at_step(one, 3, lambda one: setattr(one.steering, "stop_after", StopAfter.STEP))
    for step in (3, 12):  # two steps an epoch
        numbers = torch.get_rng_state()
        searched.find_lr(1e-5, 1.0, 20)
        assert torch.equal(torch.get_rng_state(), numbers)
        plain.fit(6)
        searched.fit(6)
        assert tiny.same(tiny.state(plain), tiny.state(searched)) and plain.step == searched.step == step
    assert [row["loss"] for row in plain.history] == [row["loss"] for row in searched.history]
    assert plain.trace == searched.trace


def batches():
    """The same batch for ever."""
    own = torch.Generator().manual_seed(0)
    batch = torch.randn(2, 3, 32, 32, generator=own), torch.randint(0, 11, (2, 32, 32), generator=own)
    return itertools.repeat(batch)


def test_the_first_loss_is_that_of_the_network_as_it_is(arrays):
    stepper = tiny.trainer(arrays).fit(1).stepper
    x, target = next(batches())
    with torch.no_grad():
        loss = losses.LOSSES["dice_ce"](stepper.model.train()(x), target)
    curve = lr_finder.run(stepper, train_step, batches(), 1e-6, 1e-5, 8)
    assert curve.losses[0] == pytest.approx(float(loss), rel=1e-5)


def test_a_loss_that_is_not_finite_is_no_part_of_the_curve(arrays):
    bad = ((x * torch.nan, target) for x, target in batches())
    given = itertools.chain(itertools.islice(batches(), 9), bad)
    curve = lr_finder.run(tiny.trainer(arrays).stepper, train_step, given, 1e-6, 1e-5, 20)
    assert len(curve.rates) == 9 and np.isfinite(curve.losses).all()


@pytest.mark.parametrize("wrong", [(0, 1, 20), (1, 0.1, 20), (1e-5, 1, 5)])
def test_a_range_that_says_nothing_is_refused(arrays, wrong):
    with pytest.raises(TrainingError, match="from a rate above 0 to a higher one in at least 8 steps"):
        tiny.trainer(arrays).find_lr(*wrong)


def test_it_ends_where_the_loss_diverges(arrays):
    found = tiny.trainer(arrays).find_lr(1e-4, 1e6, 60)
    assert len(found.rates) < 60 and np.isfinite(found.losses).all()


def test_a_start_that_is_too_high_is_reported(arrays):
    with pytest.raises(TrainingError, match="a lower rate"):
        tiny.trainer(arrays).find_lr(1e8, 1e12, 20)
