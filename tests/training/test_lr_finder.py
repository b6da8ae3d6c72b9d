"""The learning-rate finder: suggests by hand-made curves, ends in time, touches nothing."""

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
    rates, losses = np.array([1e-5, 1e-4, 1e-3, 1e-2, 1e-1]), np.array([3.0, 2.9, 2.0, 1.0, 1.1])
    assert lr_finder.suggest(rates, losses) == 1e-3  # slopes -.1 -.5 -.95, then the least
    assert lr_finder.suggest(np.array([1.234e-4, 1e-3, 1e-2]), np.array([1.0, 2.0, 3.0])) == 1.2e-4  # it only rises


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


def test_it_begins_with_the_loss_of_the_network_as_it_is_and_ends_before_one_that_is_not_finite(arrays):
    stepper, own = tiny.trainer(arrays).fit(1).stepper, torch.Generator().manual_seed(0)
    x, target = torch.randn(2, 3, 32, 32, generator=own), torch.randint(0, 11, (2, 32, 32), generator=own)
    with torch.no_grad():
        loss = losses.LOSSES["dice_ce"](stepper.model.train()(x), target)
    batches = [(x, target)] * 9 + [(x * torch.nan, target)] * 9
    curve = lr_finder.run(stepper, train_step, batches, np.geomspace(1e-6, 1e-5, 20))
    assert curve.losses[0] == pytest.approx(float(loss), rel=1e-5)
    assert len(curve.rates) == 9 and np.isfinite(curve.losses).all()


def test_one_rate_for_all_steps_shows_what_it_does(arrays):
    """As many steps as asked, or fewer than the finder needs; no suggestion but the rate itself."""
    one = tiny.trainer(arrays)
    still, moving = one.find_lr(1e-9, 1e-9, 12), one.find_lr(3e-3, 3e-3, 12)
    assert still.suggestion == 1e-9 and len(still.losses) == 12
    assert moving.losses[-1] < moving.losses[0] - 0.1 and still.losses[-1] > still.losses[0] - 0.1
    assert len(one.find_lr(1e8, 1e8, 5).losses) <= 5


def test_it_ends_where_the_loss_diverges(arrays):
    found = tiny.trainer(arrays).find_lr(1e-4, 1e6, 60)
    assert len(found.rates) < 60 and np.isfinite(found.losses).all()


@pytest.mark.parametrize("wrong", [(1e8, 1e12, 20), (1e-5, 1, 5)])
def test_a_start_that_is_too_high_and_too_few_steps_are_reported(arrays, wrong):
    with pytest.raises(TrainingError, match="of the 8 steps that are needed"):
        tiny.trainer(arrays).find_lr(*wrong)
