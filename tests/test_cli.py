"""The command behind a training without a notebook."""

import pytest
import tiny
from test_layouts import segnet

from helpers import catalog, metrics, train, trainer
from helpers.core import env
from helpers.core.errors import UNetError
from helpers.sources import restructure


def test_changes_take_their_field_s_type():
    assert train.changes(["lr=5e-4", "epochs=3", "augment=0.5", "loss=dice"]) == {
        "lr": 5e-4, "epochs": 3, "augment": 0.5, "loss": "dice",
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


@pytest.mark.parametrize("run", ["../x", "a/b", "/tmp/x", "a\\b", "c:x", "..", "."])
def test_a_run_is_a_name_and_no_path(run, capsys):
    """Nothing is written outside of runs/<dataset>/<run>."""
    tiny.prepare()
    assert train.main(["--scale", "smoke", "--run", run]) == 1
    assert "give it a plain name" in capsys.readouterr().err
    assert env.run_dir("helen", "v1.2").name == "v1.2"


def test_training_ends_when_nothing_gets_better(monkeypatch, capsys):
    """Patience 2: best at epoch 2, so it ends at 4; that is no interruption."""
    tiny.prepare()
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    names = (*catalog.HELEN.rows, "mean_iou", "accuracy")
    monkeypatch.setattr(trainer.Trainer, "validate", lambda self, network=None: dict.fromkeys(names, next(scores)))
    words = ["size=32", "width=2", "depth=2", "epochs=9", "patience=2"]
    arguments = ["--scale", "smoke", "--run", "x", *[word for pair in words for word in ("--set", pair)]]
    assert train.main(arguments) == 0
    assert "no better epoch than 2 for 2 epochs: stopped at 4" in capsys.readouterr().out
    assert train.main(arguments) == 0  # nor does it go on when it is asked again


def test_a_dataset_from_its_release_to_its_scores_without_a_notebook(tmp_path, monkeypatch, capsys):
    """restructure, train, metrics: what the CamVid write-up's four programs did."""
    segnet(tmp_path / "CamVid")
    monkeypatch.setenv("RELEASE", str(tmp_path))
    assert restructure.main(["--dataset", "camvid", "--scale", "smoke"]) == 0
    words = [word for pair in ("width=2", "depth=2", "epochs=1") for word in ("--set", pair)]
    assert train.main(["--dataset", "camvid", "--scale", "smoke", "--recipe", "original", "--run", "x", *words]) == 0
    capsys.readouterr()
    assert metrics.main(["--dataset", "camvid", "--run", "x", "--split", "test"]) == 0
    printed = capsys.readouterr().out
    assert "f1_Bicyclist=" in printed and "mean_iou=" in printed and "accuracy=" in printed
    assert len(list((env.run_dir("camvid", "x") / "predictions" / "test").glob("*.png"))) == 10
    assert metrics.main(["--dataset", "camvid", "--run", "y"]) == 1
    assert "runs/camvid/y has no best.pt: train it first" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        metrics.main(["--run", "x", "a", "b"])
