"""The sweep for a rate: suggests by hand-made curves, ends in time, touches nothing."""

import numpy as np
import pytest
import tiny
import torch

from helpers import preprocess, trainer
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
    plain, swept = make(arrays, "plain"), make(arrays, "swept")
    for epochs in (1, 11):  # two steps an epoch: 2, then 20
        torch.manual_seed(3)
        numbers = torch.get_rng_state()
        swept.find_lr(1e-5, 1.0, 30)
        assert torch.equal(torch.get_rng_state(), numbers)
        plain.fit(epochs)
        swept.fit(epochs)
        mine, theirs = plain.stepper.state(), swept.stepper.state()
        for part in ("model", "average"):
            assert all(torch.equal(mine[part][k], theirs[part][k]) for k in mine[part])
        for one, other in zip(mine["optimizer"]["state"].values(), theirs["optimizer"]["state"].values(), strict=True):
            assert all(torch.equal(one[k], other[k]) for k in one)
        assert [row["loss"] for row in plain.history] == [row["loss"] for row in swept.history]
    assert plain.step == swept.step == 22


def test_a_sweep_in_mid_epoch_begins_with_its_own_loss(arrays, monkeypatch):
    """Not with what the training has summed up since its last reading."""
    one = make(arrays)
    step = trainer.Trainer._step
    monkeypatch.setattr(trainer.Trainer, "_step", lambda self, *b: (step(self, *b), setattr(self, "stop", "step")))
    one.fit(1)
    assert one.step == 1
    before, window = [p.clone() for p in one.model.parameters()], float(one.stepper.window)
    assert one.find_lr(1e-5, 1e-2, 20).losses[0] < 5
    assert all(torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))
    assert float(one.stepper.window) == window > 0


@pytest.mark.parametrize("wrong", [(0, 1, 20), (1, 0.1, 20), (1e-5, 1, 5)])
def test_a_sweep_of_nothing_is_refused(arrays, wrong):
    with pytest.raises(TrainingError, match="a sweep goes from a rate above 0 to a higher one in at least 8 steps"):
        make(arrays).find_lr(*wrong)


def test_it_ends_where_the_loss_is_lost(arrays):
    found = make(arrays).find_lr(1e-4, 1e6, 60)
    assert len(found.rates) < 60 and np.isfinite(found.losses).all()


def test_a_start_that_is_too_high_is_told(arrays):
    with pytest.raises(TrainingError, match="sweep from a lower rate"):
        make(arrays).find_lr(1e8, 1e12, 20)
