"""Arrays are built once, opened after that, never trusted unseen."""

import os
import shutil

import numpy as np
import pytest
import tiny
from PIL import Image

from helpers import preprocess
from helpers.core import env, files, masks
from helpers.core.errors import DataError


@pytest.fixture
def arrays():
    tiny.prepare()
    return preprocess.open_arrays("helen", 32)


def refuse(*arguments, **named):
    raise AssertionError("built again")


def test_a_label_keeps_its_exact_ids_through_resizing():
    label = np.kron(np.arange(11, dtype=np.uint8).reshape(1, 11), np.ones((50, 40), np.uint8))
    for size in (32, 64, 100, 128):
        assert set(np.unique(preprocess.resize_label(label, size))) == set(range(11))


def test_real_labels_keep_their_ids(real_data):
    for path in sorted((real_data / "faces/helenstar_release/test").glob("*_label.png"))[:20]:
        label = masks.read_label(path, 11)
        assert set(np.unique(preprocess.resize_label(label, 128))) <= set(np.unique(label))


def test_nearest_takes_the_pixel_at_the_centre():
    label = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert preprocess.resize_label(label, 2).tolist() == [[5, 7], [13, 15]]
    assert preprocess.resize_label(label, 8)[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_arrays_hold_the_resized_files(arrays):
    photo = files.read_photo(env.split_dir("helen") / "val/images/001.jpg")
    label = masks.read_label(env.split_dir("helen") / "val/labels/001.png", 11)
    assert arrays["val"].ids == ["000", "001", "002"]
    assert (arrays["val"].images[1] == preprocess.resize_photo(photo, 32)).all()
    assert (arrays["val"].labels[1] == preprocess.resize_label(label, 32)).all()
    assert arrays["train"].images.shape == (8, 32, 32, 3) and arrays["train"].images.dtype == np.uint8


def test_the_second_run_only_opens(arrays, monkeypatch):
    monkeypatch.setattr(preprocess, "build", refuse)
    again = preprocess.open_arrays("helen", 32)
    assert all((again[s].labels == arrays[s].labels).all() for s in preprocess.SPLITS)


def test_a_changed_photo_builds_its_split_alone(arrays, monkeypatch):
    Image.new("RGB", (48, 48), "red").save(env.split_dir("helen") / "val/images/001.jpg")
    built, build = [], preprocess.build
    monkeypatch.setattr(preprocess, "build", lambda d, split, s: (built.append(split), build(d, split, s)))
    assert preprocess.open_arrays("helen", 32)["val"].images[1, 16, 16].tolist() == [254, 0, 0]
    assert built == ["val"]


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "about.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_damaged_arrays_are_built_again(arrays, name, harm):
    path = env.array_dir("helen", (32, 32)) / "train" / name
    good = np.array(arrays["train"].images)
    data = bytearray(path.read_bytes())
    del arrays
    data[-20 if name == "about.json" else -5] ^= 0x7
    path.unlink()
    if harm != "delete":
        path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    assert (preprocess.open_arrays("helen", 32)["train"].images == good).all()


def test_an_interrupted_build_leaves_nothing(monkeypatch):
    tiny.prepare()
    monkeypatch.setattr(preprocess, "about", refuse)
    with pytest.raises(AssertionError):
        preprocess.build("helen", "train", 32)
    assert not list(env.array_dir("helen", (32, 32)).iterdir())


def test_the_same_files_give_the_same_bytes(arrays):
    folder = env.array_dir("helen", (32, 32))
    first = {p.name: p.read_bytes() for p in (folder / "train").iterdir()}
    shutil.rmtree(folder)
    preprocess.open_arrays("helen", 32)
    assert first == {p.name: p.read_bytes() for p in (folder / "train").iterdir()}


def test_no_data_names_the_notebook():
    with pytest.raises(DataError, match="run notebook 01"):
        preprocess.open_arrays("helen", 32)


@pytest.mark.parametrize("text", ['{"complete": false}', "{}", None])
def test_a_half_copied_split_is_not_trained_on(text):
    tiny.prepare()
    manifest = env.split_dir("helen") / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(DataError, match="half copied: run notebook 01 again"):
        preprocess.open_arrays("helen", 32)


def test_what_a_system_leaves_is_no_photo(arrays):
    (env.split_dir("helen") / "val/images/.DS_Store").write_bytes(b"x")
    (env.split_dir("helen") / "val/images/._001.jpg").write_bytes(b"x")
    assert preprocess.read_arrays("helen", "val", 32).ids == ["000", "001", "002"]


def test_a_photo_without_a_label_is_named(arrays):
    os.remove(env.split_dir("helen") / "train/labels/003.png")
    with pytest.raises(DataError, match=r"003.*run notebook 01 again"):
        preprocess.open_arrays("helen", 32)


def test_class_shares_by_hand():
    labels = np.array([[[0, 0, 1, 255]], [[1, 1, 2, 2]]], np.uint8)
    arrays = preprocess.Arrays(np.zeros((2, 1, 4, 3), np.uint8), labels, ["a", "b"], "")
    assert preprocess.class_shares(arrays, 3) == pytest.approx([2 / 7, 3 / 7, 2 / 7])
