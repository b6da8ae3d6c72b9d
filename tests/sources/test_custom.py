"""A reader's own folder becomes a dataset: registered, listed, its masks read as ids."""

import numpy as np
import pytest
from test_layouts import save

from helpers import preprocess
from helpers.core import choice, env
from helpers.core.errors import DataError, UNetError
from helpers.core.registry import load_dataset
from helpers.settings import make_settings
from helpers.sources import custom, restructure, validation

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


def test_one_call_and_the_six_notebooks_functions_know_it(tmp_path):
    pairs, groups = [("house", "tree")], {"things": ["house", "tree"]}
    row = custom.register(folder(tmp_path / "d"), "mine", flip_pairs=pairs, groups=groups)
    assert load_dataset("mine") == row and row.classes == ("sky", "house", "tree")
    assert row.flip_pairs == ((1, 2),) and row.groups == {"things": (1, 2)}
    result = restructure.restructure("mine", restructure.find_release("mine", (4, 2)))
    assert all(result.counts.values()) and sum(result.counts.values()) == 12
    arrays = preprocess.open_arrays("mine", make_settings("mine", "tuned", "smoke").shape)
    assert set(np.unique(arrays["train"].labels)) == {0, 1, 2} and choice.chosen_dataset() == "mine"
    assert validation.examine("mine") == []


def test_colours_by_class_dict_with_void(tmp_path):
    root = folder(tmp_path / "d")
    (root / "classes.txt").unlink()
    (root / "class_dict.csv").write_text("name,r,g,b\nsky, 0, 0, 255\nhouse,255,0,0\nvoid,0,0,0\n")
    for path in (root / "masks").iterdir():
        colors = np.zeros((20, 30, 3), np.uint8)
        colors[:, :10], colors[:, 10:20] = (0, 0, 255), (255, 0, 0)
        save(path, colors)
    row = custom.register(root, "mine")
    assert row.classes == ("sky", "house") and row.colors == ((0, 0, 255), (255, 0, 0))
    ids = custom.read_own(custom.list_own(root).samples[0], row)
    assert ids[0, [0, 10, 20]].tolist() == [0, 1, 255]
    save(root / "masks" / "003.png", np.full((20, 30, 3), 9, np.uint8))
    with pytest.raises(DataError, match=r"no table: \(9, 9, 9\) on 600 pixels = #090909 \(16 off void\): add them"):
        custom.read_own(custom.list_own(root).samples[3], row)


@pytest.mark.parametrize("inside", [True, False])
def test_splits_are_as_the_folders_say(tmp_path, inside):
    root = tmp_path / "d"
    for split in ("train", "val", "test"):
        for kind, suffix in (("images", "jpg"), ("masks", "png")):
            place = root / split / kind if inside else root / kind / split
            save(place / f"{split}.{suffix}", photo() if kind == "images" else mask())
    (root / "classes.txt").write_text("a\nb\nc")
    custom.register(root, "mine")
    assert {item.id: item.split for item in custom.list_own(root).samples} == {s: s for s in ("train", "val", "test")}


def test_the_draw_is_eight_one_one_and_leaves_no_split_empty():
    splits = list(custom.draw_splits([str(i) for i in range(2000)]).values())
    assert 150 < splits.count("test") < 250 and 150 < splits.count("val") < 250
    for count in range(3, 9):
        assert set(custom.draw_splits([f"x{i}" for i in range(count)]).values()) == {"train", "val", "test"}


def test_the_same_photo_in_train_and_test_is_kept_in_test_alone(tmp_path):
    root, twin = tmp_path / "d", photo()
    for split in ("train", "val", "test"):
        for number in range(24):
            save(root / split / "images" / f"{split}{number}.png", photo())
            save(root / split / "masks" / f"{split}{number}.png", mask())
    save(root / "train" / "images" / "train0.png", twin)
    save(root / "test" / "images" / "test0.png", twin)
    (root / "classes.txt").write_text("a\nb\nc")
    custom.register(root, "mine")
    found = restructure.scan(restructure.find_release("mine", (4, 2)), "mine")
    (finding,) = [f for f in found.findings if f.severity == "error"]
    assert finding.split == "train" and "same photo as test0.png in test" in finding.reason


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
        custom.register(root, name)


def test_unknown_names_and_damaged_rows(tmp_path):
    with pytest.raises(UNetError, match="or register your own"):
        load_dataset("mine")
    with pytest.raises(DataError, match="'roof' is no class of d: choose of sky, house, tree"):
        custom.register(folder(tmp_path / "d", 2), "mine", groups={"g": ["roof"]})
    custom.register(tmp_path / "d", "mine")
    (env.data_dir() / "datasets" / "mine.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        load_dataset("mine")


COLORS = np.array([(0, 0, 255), (255, 0, 0), (0, 128, 0)], np.uint8)
TABLE = "name,r,g,b\nsky,0,0,255\nBuilding,255,0,0\nTree,0,128,0\n"


def colored(root, count=4, table=TABLE):
    folder(root, count)
    (root / "classes.txt").unlink()
    (root / "class_dict.csv").write_text(table)
    for path in (root / "masks").iterdir():
        save(path, COLORS[mask()])
    return root


def test_void_among_the_classes_is_no_class(tmp_path):
    root = folder(tmp_path / "d", 4, (0, 1, 2, 255), "Void\nhouse\ntree\n")
    row = custom.register(root, "mine")
    assert row.classes == ("house", "tree") and validation.examine("mine") == []
    assert custom.read_own(custom.list_own(root).samples[0], row)[0, [0, 8, 16, 24]].tolist() == [255, 0, 1, 255]
    row = custom.register(colored(tmp_path / "c", table=TABLE.replace("Tree", "Unlabelled")), "mine")
    assert row.classes == ("sky", "Building")


@pytest.mark.parametrize("text", ["\ufeffsky\r\n\r\nhouse\r\ntree\r\n\r\n", "sky\nhouse \n tree"])
def test_blank_lines_boms_and_line_ends_are_no_matter(tmp_path, text):
    root = folder(tmp_path / "d", 4)
    (root / "classes.txt").write_bytes(text.encode())
    assert custom.register(root, "mine").classes == ("sky", "house", "tree")


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (TABLE + "Door,255,0,0\n", "'Building' and 'Door' have the same colour"),
        (TABLE + ",1,2,3\n", "line 5 is no `name,r,g,b`"),
        (TABLE.replace("name,r,g,b", "name,b,g,r"), "line 1 is no `name,r,g,b`"),
        (TABLE.replace(",", ";"), "line 1 is no `name,r,g,b`"),
        ("name,r,g,b\nvoid,0,0,255\n", "0 classes besides void"),
        ("Tür,0,0,255\n", "class_dict.csv: is not UTF-8; save it again"),
    ],
)
def test_tables_that_would_mislead_are_refused(tmp_path, table, match):
    root = colored(tmp_path / "d")
    (root / "class_dict.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(DataError, match=match):
        custom.register(root, "mine")


@pytest.mark.parametrize(("name", "there"), [("Masks", "Masks/"), ("labels", "labels/"), (None, "none"), ("", "")])
def test_a_folder_without_images_and_masks_is_refused(tmp_path, name, there):
    root = tmp_path / "d"
    if name:
        (folder(root, 2) / "masks").rename(root / name)
    elif name is None:
        root.mkdir()
    with pytest.raises(DataError, match="d: is no folder" if name == "" else f"no images/ beside masks/ .*{there}"):
        custom.register(root, "mine")


def test_environment_names_another_folder_of_a_registered_dataset(tmp_path, monkeypatch):
    custom.register(folder(tmp_path / "d"), "mine")
    monkeypatch.setenv("RELEASE", str(folder(tmp_path / "more" / "images_of_today", 4).parent))
    found = restructure.find_release("mine", (4, 2))
    assert (found.root, found.layout) == (tmp_path / "more" / "images_of_today", custom.OWN)
    monkeypatch.setenv("RELEASE", str(tmp_path / "d" / "images"))
    with pytest.raises(DataError, match="holds no release of mine: there should be images/ and masks/"):
        restructure.find_release("mine", (4, 2))
