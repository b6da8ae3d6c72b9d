"""Settings: recipes at scales, what was prepared, and what is refused."""

import numpy as np
import pytest

from helpers import settings
from helpers.core.errors import UNetError
from helpers.settings import Settings, make_settings
from helpers.sources import restructure


def test_a_recipe_at_a_scale_with_changes_on_top():
    ours = make_settings("camvid", "tuned", "demo", lr=1e-4)
    assert (ours.shape, ours.optimizer, ours.lr, ours.epochs) == ((144, 192), "muon", 1e-4, 20)
    theirs = make_settings("pets", "original", "full")
    assert (theirs.shape, theirs.width, theirs.norm, theirs.patience, theirs.augment) == ((128, 128), 32, "none", 3, 0)
    with pytest.raises(UNetError, match=r"recipe 'seed' at scale 'demo': choose of \['original', 'tuned'\]"):
        make_settings("helen", "seed")


def test_chosen_are_those_of_what_was_prepared():
    assert settings.chosen() == make_settings("helen", "tuned", "demo")  # nothing was
    restructure.write_choice("pets", "release", "smoke")
    assert settings.chosen("original", epochs=3) == make_settings("pets", "original", "smoke", epochs=3)


def test_a_run_is_described_in_one_line():
    line = "Helen* faces (synthetic), scale demo: 128 x 128 px, width 16, batch 4, 20 epochs"
    assert settings.describe(make_settings("helen", "tuned", "demo")) == line
    restructure.write_choice("camvid", "release", "demo")
    assert "CamVid streets (release), scale demo: 144 x 192 px" in settings.describe(make_settings("camvid"))


@pytest.mark.parametrize(
    "change",
    [
        dict(epochs=0),
        dict(size=15),
        dict(columns=8),
        dict(augment=3.0),
        dict(ema_decay=1.0),
        dict(momentum=-0.1),
        dict(half_size_fraction=1.0),
        dict(clip=-1.0),
        dict(lr=0.0),
        dict(lr=float("nan")),
        dict(clip=float("nan")),
        dict(size=32, half_size_fraction=0.5),
    ],
)
def test_what_cannot_be_is_refused_by_name(change):
    with pytest.raises(UNetError, match=f"settings: .*{list(change)[-1]}"):
        Settings(**change)


def test_numpy_s_numbers_become_plain_ones():
    assert type(Settings(lr=np.float64(1e-3)).lr) is float and type(Settings(epochs=np.int64(3)).epochs) is int
