"""A reader's own folder becomes a dataset, and the doctor says what is wrong with it."""

import numpy as np
import pytest
from PIL import Image
from test_layouts import save

from helpers import catalog, env, own, preprocess, restructure
from helpers.errors import DataError, UNetError

RNG = np.random.default_rng(0)


def photo():
    return RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def mask(levels=(0, 1, 2)):
    ids = np.full((20, 30), levels[0], np.uint8)
    for number, level in enumerate(levels[1:], 1):
        ids[:, 8 * number : 8 * number + 8] = level
    return ids


def folder(root, count=12, levels=(0, 1, 2), classes="sky\nhouse\ntree\n"):
    for number in range(count):
        save(root / "images" / f"{number:03}.jpg", photo())
        save(root / "masks" / f"{number:03}.png", mask(levels))
    (root / "classes.txt").write_text(classes)
    return root


def said(name="mine"):
    return {remark.file: remark for remark in own.examine(name)}


def test_one_call_and_the_six_notebooks_functions_know_it(tmp_path):
    row = own.register(folder(tmp_path / "d"), "mine", groups={"things": ["house", "tree"]})
    assert (
        catalog.dataset("mine") == row and row.classes == ("sky", "house", "tree") and row.groups == {"things": (1, 2)}
    )
    result = restructure.restructure("mine", restructure.find_release("mine", (4, 2)))
    assert all(result.counts.values()) and sum(result.counts.values()) == 12
    arrays = preprocess.open_arrays("mine", catalog.settings("mine", "tuned", "smoke").shape)
    assert set(np.unique(arrays["train"].labels)) == {0, 1, 2} and env.chosen_dataset() == "mine"
    assert said() == {}


def test_left_and_right_trade_places(tmp_path):
    row = own.register(folder(tmp_path / "d"), "mine", swaps=[("house", "tree")])
    assert row.swaps == ((1, 2),) and catalog.dataset("mine").swaps == ((1, 2),)


def test_colours_by_class_dict_with_void(tmp_path):
    root = folder(tmp_path / "d")
    (root / "classes.txt").unlink()
    (root / "class_dict.csv").write_text("name,r,g,b\nsky, 0, 0, 255\nhouse,255,0,0\nvoid,0,0,0\n")
    for path in (root / "masks").iterdir():
        colors = np.zeros((20, 30, 3), np.uint8)
        colors[:, :10], colors[:, 10:20] = (0, 0, 255), (255, 0, 0)
        save(path, colors)
    row = own.register(root, "mine")
    assert row.classes == ("sky", "house") and row.colors == ((0, 0, 255), (255, 0, 0))
    ids = own.read_own(own.list_own(root).items[0], row)
    assert ids[0, [0, 10, 20]].tolist() == [0, 1, 255]
    save(root / "masks" / "003.png", np.full((20, 30, 3), 9, np.uint8))
    assert "colours that are in no table: (9, 9, 9) on 600 pixels" in said()["003.png"].reason


@pytest.mark.parametrize("inside", [True, False])
def test_splits_are_as_the_folders_say(tmp_path, inside):
    root = tmp_path / "d"
    for split in ("train", "val", "test"):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            place = root / split / kind if inside else root / kind / split
            save(place / f"{split}.{suffix}", photo() if kind == "images" else mask())
    (root / "classes.txt").write_text("a\nb\nc")
    own.register(root, "mine")
    assert {item.id: item.split for item in own.list_own(root).items} == {s: s for s in ("train", "val", "test")}


def test_the_draw_is_eight_one_one_and_leaves_no_split_empty():
    splits = list(own.draw_splits([str(i) for i in range(2000)]).values())
    assert 150 < splits.count("test") < 250 and 150 < splits.count("val") < 250
    for count in range(3, 9):
        assert set(own.draw_splits([f"x{i}" for i in range(count)]).values()) == {"train", "val", "test"}


def test_grey_levels_that_are_no_ids_get_a_mapping_proposed_and_taken(tmp_path):
    root = folder(tmp_path / "d", levels=(0, 127, 255))
    own.register(root, "mine")
    reason = said()["000.png"].reason
    assert "grey levels 127 are no ids of 3 classes" in reason
    assert "levels={0: 'sky', 127: 'house', 255: 'tree'}" in reason
    own.register(root, "mine", levels={0: "sky", 127: "house", 255: ""})
    assert said() == {}
    ids = own.read_own(own.list_own(root).items[0], catalog.dataset("mine"))
    assert ids[0, [0, 8, 16]].tolist() == [0, 1, 255]


def test_the_doctor_names_what_people_get_wrong(tmp_path):
    root = folder(tmp_path / "d", 16)
    Image.fromarray(mask()).save(root / "masks" / "001.jpg", quality=95)
    (root / "masks" / "001.png").unlink()
    save(root / "masks" / "002.png", mask()[:10])
    (root / "masks" / "003.png").unlink()
    save(root / "masks" / "004.png", np.ones((20, 30), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(root / "images" / "005.jpg", exif=exif)
    (root / "images" / "notes.txt").write_text("x")
    own.register(root, "mine")
    found = said()
    assert "saved as JPEG" in found["001.jpg"].reason or "no ids" in found["001.jpg"].reason
    assert "mask 30 x 10, image 30 x 20" in found["002.png"].reason and found["002.png"].bad
    assert found["003.jpg"].reason == "no label of this name" and found["003.jpg"].bad
    assert "only one class in it (house)" in found["004.png"].reason and not found["004.png"].bad
    assert "turned as the image's EXIF says" in found["005.png"].reason and not found["005.png"].bad
    assert "not a photo" in found["notes.txt"].reason
    assert set(found) == {"001.jpg", "002.png", "003.jpg", "004.png", "005.png", "notes.txt"}


def test_the_same_photo_in_train_and_test_is_kept_in_test_alone(tmp_path):
    root, twin = tmp_path / "d", photo()
    for split in ("train", "val", "test"):
        for number in range(24):
            save(root / split / "images" / f"{split}{number}.png", photo())
            save(root / split / "masks" / f"{split}{number}.png", mask())
    save(root / "train" / "images" / "train0.png", twin)
    save(root / "test" / "images" / "test0.png", twin)
    (root / "classes.txt").write_text("a\nb\nc")
    own.register(root, "mine")
    found = restructure.scan(restructure.find_release("mine", (4, 2)), "mine")
    (problem,) = [p for p in found.problems if p.bad]
    assert problem.split == "train" and "same photo as test0_image.png in test" in problem.reason


@pytest.mark.parametrize(
    ("name", "classes", "match"),
    [
        ("helen", "a\nb", "cannot be a dataset's name"),
        ("../evil", "a\nb", "cannot be a dataset's name"),
        ("mine", "a\na", "class 'a' is there twice"),
        ("mine", "", "0 classes"),
        ("mine", None, "neither classes.txt .* nor class_dict.csv"),
    ],
)
def test_what_cannot_be_registered_is_named(tmp_path, name, classes, match):
    root = folder(tmp_path / "d", 2, classes=classes or "")
    if classes is None:
        (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=match):
        own.register(root, name)


def test_unknown_names_and_damaged_rows(tmp_path):
    with pytest.raises(UNetError, match="or register your own"):
        catalog.dataset("mine")
    with pytest.raises(DataError, match="'roof' is no class of d: choose of sky, house, tree"):
        own.register(folder(tmp_path / "d", 2), "mine", groups={"g": ["roof"]})
    own.register(tmp_path / "d", "mine")
    (env.data_dir() / "datasets" / "mine.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        catalog.dataset("mine")
