"""The command behind a training without a notebook."""

import pytest
import tiny

from helpers import env, train
from helpers.errors import UNetError


def test_changes_take_their_field_s_type():
    assert train.changes(["lr=5e-4", "epochs=3", "augment=false", "loss=dice"]) == {
        "lr": 5e-4, "epochs": 3, "augment": False, "loss": "dice",
    }  # fmt: skip


@pytest.mark.parametrize("pair", ["lr", "speed=3", "epochs=many", "augment=perhaps", "lr="])
def test_a_wrong_change_is_named(pair):
    with pytest.raises(UNetError, match=f"--set {pair}"):
        train.changes([pair])


def test_the_command_trains_what_01_prepared(capsys):
    tiny.prepare()
    settings = ["size=32", "width=2", "depth=2", "epochs=1"]
    arguments = ["--scale", "smoke", "--run", "x", *[word for pair in settings for word in ("--set", pair)]]
    assert train.main(arguments) == 0
    assert (env.run_dir("helen", "x") / "best.pt").exists()
    assert train.main(["--scale", "smoke", "--set", "epochs=0"]) == 1
    assert "error: settings: epochs" in capsys.readouterr().err
