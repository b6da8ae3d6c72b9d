"""The command line: every verb from its arguments to its files, messages and exit status."""

import errno
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import tiny
from PIL import Image

from helpers import cli, predict
from helpers.core import env, files, masks
from helpers.core.errors import UNetError
from helpers.core.registry import load_dataset
from helpers.sources import custom, download, restructure


def run(*arguments):
    """main with plain values as arguments."""
    return cli.main([str(argument) for argument in arguments])


def set_options(**settings):
    return [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.parametrize("verb", ("prepare", "train", "predict", "score", "download", "export"))
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        run(verb, "-h")
    assert f"example: python -m helpers {verb}" in capsys.readouterr().out


def test_the_module_is_the_command():
    wrong = subprocess.run([sys.executable, "-m", "helpers"], cwd=env.REPO, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "VERB" in wrong.stderr


# train


def test_changes_take_their_field_s_type():
    changes = cli.parse_changes(["lr=5e-4", "epochs=3", "loss=dice", "compile=True"])
    assert changes == dict(lr=5e-4, epochs=3, loss="dice", compile=True)


@pytest.mark.parametrize("pair", ["lr", "speed=3", "epochs=many", "compile=perhaps", "lr="])
def test_a_wrong_change_is_named(pair):
    with pytest.raises(UNetError, match=f"--set {pair}"):
        cli.parse_changes([pair])


def test_train_works_on_what_was_prepared(capsys):
    tiny.prepare()
    small = set_options(size=32, width=2, depth=2, epochs=1)
    assert run("train", "--scale", "smoke", "--run-name", "x", *small) == 0
    assert (env.run_dir("helen", "x") / "best.pt").exists()
    assert run("train", "--scale", "smoke", *set_options(epochs=0)) == 1
    assert "error: settings: epochs" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "c:x", ".."])
def test_a_run_is_a_name_and_no_path(name, capsys):
    """Nothing is written outside of runs/<dataset>/<run>."""
    tiny.prepare()
    assert run("train", "--scale", "smoke", "--run", name) == 1
    assert "give it a plain name" in capsys.readouterr().err


@pytest.mark.parametrize(("world", "early", "status"), [("1", False, 130), ("2", False, 0), ("1", True, 0)])
def test_an_interrupted_training_exits_with_130_but_not_under_torchrun(monkeypatch, world, early, status):
    """torchrun takes any status but 0 for a fault, and would start all ranks anew. Patience is no interruption."""
    tiny.prepare()
    stopped = types.SimpleNamespace(epoch=0, ended_early=early, fit=lambda epochs: None)
    monkeypatch.setattr(cli, "Trainer", lambda *arguments, **options: stopped)
    monkeypatch.setattr(cli.distributed, "process_group", cli.distributed.contextlib.nullcontext)
    monkeypatch.setenv("WORLD_SIZE", world)
    assert run("train", "--scale", "smoke") == status


def test_ctrl_c_of_any_verb_is_one_line(monkeypatch, capsys):
    def interrupted(dataset):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "fetch", interrupted)
    assert run("download", "pets") == 130
    assert capsys.readouterr().err == "interrupted: run the same command again\n"


# predict


def save_photo(path, height=40, width=50, seed=0):
    """A photo of noise in a file."""
    photo = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path)
    return photo


def test_a_folder_is_predicted_and_a_broken_photo_reported(tmp_path, capsys):
    for i in range(5):
        save_photo(tmp_path / "in" / f"p{i}.jpg", height=40 + i)
    (tmp_path / "in" / "p2.jpg").write_bytes(b"no photo")
    assert run("predict", tmp_path / "in", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "left out: p2.jpg" in printed.err and re.search(r"4 label maps in .+, \d+\.\d images/s\n$", printed.out)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"p{i}.png" for i in (0, 1, 3, 4)]
    assert masks.read_label(tmp_path / "out" / "p3.png", 11).shape == (43, 50)


def test_files_and_trees_are_predicted_with_their_colours_and_mirror_images(tmp_path):
    """OUT_DIR mirrors the tree; every pixel has its class's colour; --flip is the Segmenter's."""
    photos = {"sub/a": save_photo(tmp_path / "in/sub/a.png"), "b": save_photo(tmp_path / "in/b.png", seed=1)}
    photos["me"] = save_photo(tmp_path / "me.png", seed=2)
    given = (tmp_path / "in", tmp_path / "me.png", tmp_path / "out")
    assert run("predict", "--recursive", "--colors", "--flip", *given) == 0
    segmenter = predict.load(predict.PRETRAINED, flip=True)
    for name, photo in photos.items():
        label = masks.read_label(tmp_path / "out" / f"{name}.png", 11)
        (alone,) = segmenter.predict([photo])
        assert (label == alone).mean() > 0.999  # other batches may add up in another order
        with Image.open(tmp_path / "out" / "colors" / f"{name}.png") as picture:
            assert (np.asarray(picture) == np.array(segmenter.dataset.colors)[label]).all()


def test_what_cannot_be_predicted_is_one_line(tmp_path, capsys):
    save_photo(tmp_path / "in" / "colors" / "a.jpg")
    assert run("predict", tmp_path / "in", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith("error: no photos in")
    assert run("predict", "--recursive", "--colors", tmp_path / "in", tmp_path / "out") == 1
    assert "is called colors" in capsys.readouterr().err
    assert run("predict", tmp_path / "in/colors", tmp_path / "out", "--weights", tmp_path / "none.pt") == 1
    assert "none.pt: no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("predict", tmp_path / "in")


# score


def label_folders(tmp_path, truth, prediction):
    for name, label in (("truth", truth), ("prediction", prediction)):
        masks.write_label(tmp_path / name / "x.png", np.asarray(label, np.uint8))
    return tmp_path / "truth", tmp_path / "prediction"


def test_score_prints_the_table_of_two_folders(tmp_path, capsys):
    assert run("score", *label_folders(tmp_path, [[0, 1, 6, 255]], [[0, 1, 6, 3]])) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == ["# helen, prediction: 1 label maps", "f1_bg=1.0000", "f1_face=1.0000"]
    assert printed[3] == "f1_lb=nan" and printed[7] == "f1_nose=1.0000" and len(printed) == 19
    restructure.write_choice("camvid", "release", "smoke")  # the dataset that was prepared last
    assert run("score", *label_folders(tmp_path, [[0, 1]], [[0, 1]])) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["# camvid, prediction: 1 label maps", "f1_Sky=1.0000"]


def test_score_takes_two_folders_or_a_run(tmp_path, capsys):
    for arguments in ([], ["a"], ["--run", "x", "a", "b"]):
        with pytest.raises(SystemExit, match="2"):
            run("score", *arguments)
        assert "give TRUTH_DIR and PREDICTION_DIR, or --run NAME" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dataset_from_nothing_to_its_scores_without_a_notebook(tmp_path, capsys):
    """prepare, train, score, export on synthetic streets: what the CamVid report's four programs did."""
    assert run("prepare", "--dataset", "camvid", "--scale", "smoke") == 0
    assert re.search(r"^\d+ train, \d+ val, 8 test$", capsys.readouterr().out, re.M)
    assert run("train", "--recipe", "original", "--run", "x", *set_options(width=2, depth=2, epochs=1)) == 0
    capsys.readouterr()
    assert run("score", "--run", "x", "--split", "test") == 0
    printed = capsys.readouterr().out
    assert "f1_Bicyclist=" in printed and "mean_iou=" in printed and "accuracy=" in printed
    best = env.run_dir("camvid", "x") / "best.pt"
    assert len(list((best.parent / "predictions" / "test").glob("*.png"))) == 8
    assert run("score", "--dataset", "camvid", "--run", "y") == 1
    assert "runs/camvid/y has no best.pt: train it first" in capsys.readouterr().err
    assert run("export", "--run", "x", "--out", tmp_path / "x.onnx") == 0
    predict.to_onnx(predict.load(best, "cpu"), tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == (tmp_path / "x.onnx").read_bytes()


def test_own_images_are_prepared_in_one_command(tmp_path, capsys):
    """A folder of ten with one class name and masks of 0 and 255: two classes; again after a correction."""
    folder = tmp_path / "My Cells"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(10):
        mask = np.zeros((24, 24), np.uint8)
        mask[number : number + 8, 4:12] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")
        Image.fromarray(np.repeat(mask[..., None] // 2 + number, 3, 2)).save(folder / "images" / f"{number}.png")
    (folder / "classes.txt").write_text("cell\n")
    assert run("prepare", "--own", str(folder), "--scale", "smoke") == 0
    assert (
        "my-cells: classes 0 background, 1 cell; in the masks 0 is background, 255 is cell" in capsys.readouterr().out
    )
    labels = sorted(env.split_dir("my-cells").glob("*/labels/*.png"))
    assert len(labels) == 10 and all(np.unique(np.asarray(Image.open(path))).tolist() == [0, 1] for path in labels)
    (folder / "classes.txt").write_text("nucleus\n")
    assert run("prepare", "--own", str(folder), "--scale", "smoke") == 0
    assert load_dataset("my-cells").classes == ("background", "nucleus")
    assert run("train", *set_options(size=32, width=2, depth=2, epochs=1)) == 0


# download and export


def test_download_prints_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(download, "fetch", lambda dataset: env.data_dir() / "downloads" / dataset)
    assert run("download", "pets") == 0
    assert capsys.readouterr().out == "data/downloads/pets\n"
    with pytest.raises(SystemExit, match="2"):
        run("download", "mine")


def test_own_data_from_its_folder_to_its_scores_and_classes_that_changed(tmp_path, capsys):
    root, ids = tmp_path / "own", np.repeat(np.uint8([0, 1, 2]), 10)[None].repeat(20, 0)
    for number in range(8):
        save_photo(root / "images" / f"{number}.png", 20, 30, seed=number)
        masks.write_label(root / "masks" / f"{number}.png", ids)
    (root / "classes.txt").write_text("sky\nhouse\ntree")
    custom.register(root, "mine")
    assert run("prepare", "--dataset", "mine", "--scale", "smoke") == 0
    assert run("train", "--run", "x", *set_options(width=2, depth=2, epochs=1)) == 0
    assert run("score", "--run", "x") == 0 and "f1_house=" in capsys.readouterr().out
    (root / "classes.txt").write_text("sky\ntree\nhouse")
    assert run("prepare", "--dataset", "mine", "--scale", "smoke") == 0
    assert run("score", "--run", "x") == 1
    assert "was trained on other classes (sky, house, tree): train again" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--out", "x.pt"], ["--out", "x.onnx", "--run", "x", "--weights", "w.pt"]])
def test_an_export_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(SystemExit, match="2"):
        run("export", *arguments)


def test_a_full_disk_is_one_line_and_leaves_the_file_that_was_there(tmp_path, monkeypatch, capsys):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "x.onnx").write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", full)
    assert run("export", "--out", tmp_path / "x.onnx") == 1
    assert "x.onnx: cannot be written (No space left on device); make room" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
