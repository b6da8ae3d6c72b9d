"""A reader's own folder becomes a dataset: registered, listed, its masks read as ids."""

import unicodedata

import numpy as np
import pytest
from PIL import Image
from test_layouts import save

from helpers import preprocess
from helpers.core import choice, env, files
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
    assert row.classes == ("house", "tree")
    assert [f.reason for f in validation.examine("mine")] == ["46.67% of their pixels are void"]
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


# What masks of one or two classes mean ----------------------------------------------------------------------------


def reread(root, row=None, number=0, **options):
    """The ids of one mask, after register."""
    row = row or custom.register(root, "mine", **options)
    return custom.read_own(custom.list_own(root).samples[number], row)[0, [0, 8, 16, 24]].tolist()


def reasons(name="mine"):
    return {finding.file: finding.reason for finding in validation.examine(name)}


def prepare(name="mine"):
    return restructure.restructure(name, restructure.find_release(name, (4, 2)))


@pytest.mark.parametrize(
    ("levels", "ids"),
    [((0, 255, 0, 255), [0, 1, 0, 1]), ((0, 1), [0, 1, 0, 0]), ((0, 1, 255), [0, 1, 255, 0]), ((0, 38), [0, 1, 0, 0])],
)
def test_a_single_name_gets_a_background_before_it(tmp_path, capsys, levels, ids):
    root = folder(tmp_path / "d", 4, levels, "cat\n")
    assert reread(root) == ids and load_dataset("mine").classes == ("background", "cat")
    assert "classes 0 background, 1 cat; in the masks 0 is background" in capsys.readouterr().out
    assert reasons() == {}


def test_a_single_name_whose_masks_differ_is_refused(tmp_path):
    root = folder(tmp_path / "d", 4, (0, 255), "cat")
    save(root / "masks" / "002.png", mask((0, 1)))
    with pytest.raises(DataError, match=r"d: the object is 1 in 002.png and 255 in 000.png: save all masks alike"):
        custom.register(root, "mine")


@pytest.mark.parametrize("classes", ["bg\ncell", "cell"])
def test_fractions_of_two_classes_count_from_a_half_on(tmp_path, classes):
    root = folder(tmp_path / "d", 4, classes=classes)
    for path in (root / "masks").iterdir():
        save(path.with_suffix(".tif"), np.array([0, 0.4, 0.5, 1], np.float32)[mask((0, 1, 2, 3))])
        path.unlink()
    assert reread(root) == [0, 0, 1, 1] and "lie between 0 and 1: the object is from 0.5 on" in reasons()["000.tif"]
    (root / "classes.txt").write_text("a\nb\nc")
    custom.register(root, "mine")
    assert "holds fractions (0 to 1), not class ids" in reasons()["000.tif"]


@pytest.mark.parametrize("classes", ["bg\ncat", "cat"])
def test_soft_edges_get_a_threshold_proposed_and_taken(tmp_path, classes):
    root = folder(tmp_path / "d", 4, (0, 30, 127, 128), classes)
    for path in (root / "masks").iterdir():
        soft = mask((0, 30, 127, 128))
        soft[10:] = np.linspace(0, 255, 30).astype(np.uint8)
        save(path, soft)
    custom.register(root, "mine")
    assert "register with threshold=128 if the object is from there on" in reasons()["000.png"]
    assert reread(root, threshold=128) == [0, 0, 0, 1]
    assert "of its pixels lie between 0 and 255: the object is from 128 on" in reasons()["000.png"]
    with pytest.raises(DataError, match="give one of them"):
        custom.register(root, "mine", threshold=128, levels={0: "bg", 255: "cat"})


def test_between_two_levels_the_nearer_counts_on_edges_alone(tmp_path):
    root = folder(tmp_path / "d", 4, (0, 3, 250, 255), "bg\ncat")
    assert reread(root, levels={0: "bg", 255: "cat"}) == [0, 0, 1, 1]
    save(root / "masks" / "000.png", mask((0, 100, 255)))
    with pytest.raises(DataError, match="grey levels 100 are not in `levels`"):
        reread(root, load_dataset("mine"))


def test_levels_count_beside_a_table_of_colours(tmp_path):
    root = folder(tmp_path / "d", 4, (0, 255))
    (root / "class_dict.csv").write_text("name,r,g,b\nbg,0,0,0\ncat,255,255,255\n")
    assert reread(root, levels={0: "cat", 255: "bg"}) == [1, 0, 1, 1]


# What files cannot mean -------------------------------------------------------------------------------------------


def test_classes_that_no_mask_holds_and_much_void_are_said(tmp_path):
    custom.register(folder(tmp_path / "d", 8, (1, 2), "Pixel Value, Class\nbg\ncat\ndog"), "mine")
    assert "no mask holds Pixel Value, Class (0), dog (3): correct classes.txt" in reasons()["labels"]
    custom.register(folder(tmp_path / "e", 8, (255, 0, 255), "bg\ncat\ndog"), "other")
    found = [f.reason for f in prepare("other").findings if f.file == "labels"]
    assert found[0] == "73.33% of their pixels are void"
    assert "no mask holds cat (1), dog (2): 255 is void; if it is a class, register with levels=" in found[1]


def test_a_palette_of_its_own_makes_a_mask_bad(tmp_path):
    root = folder(tmp_path / "d", 6, (0, 1, 2))
    for number in range(6):
        picture = Image.fromarray(mask((0, 1, 2)))
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] if number != 3 else [0, 0, 0, 0, 255, 0, 255, 0, 0])
        picture.save(root / "masks" / f"{number:03}.png")
    custom.register(root, "mine")
    assert "its palette has #00ff00 for id 1: save all with one, or register levels=" in reasons()["003.png"]
    with pytest.raises(DataError, match="1 of 6 samples are bad"):
        prepare()


def test_white_objects_among_masks_of_ids_are_no_void(tmp_path):
    root = folder(tmp_path / "d", 6)
    save(root / "masks" / "003.png", mask((0, 255)))
    custom.register(root, "mine")
    assert reasons()["003.png"].startswith("holds 255 (void) and one class, others several classes and no 255")
    save(root / "masks" / "002.png", mask((0, 1, 255)))  # 255 is void elsewhere, too
    assert "only one class in it (sky), and 255 is void" in reasons()["003.png"]


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_more_than_one_page_asks_which(tmp_path, kind):
    root = folder(tmp_path / "d", 4)
    (root / kind / ("000.jpg" if kind == "images" else "000.png")).unlink()
    pages = [Image.fromarray(mask()) for _ in range(3)]
    pages[0].save(root / kind / "000.tif", save_all=True, append_images=pages[1:])
    custom.register(root, "mine")
    assert "it holds 3 pictures, and which one is meant is not said" in reasons()["000.tif"]


def test_transparency_in_a_mask_is_refused_in_ids_and_in_colours(tmp_path):
    for root in (folder(tmp_path / "ids", 4), colored(tmp_path / "colours", 4)):
        rgb = np.asarray(Image.open(root / "masks" / "000.png").convert("RGB"))
        save(root / "masks" / "000.png", np.dstack([rgb, np.where(mask() == 1, 0, 255).astype(np.uint8)]))
        custom.register(root, "mine")
        assert "160 pixels are transparent; fill them" in reasons()["000.png"]


@pytest.mark.parametrize(("stated", "white"), [(0, 4095), (8190, 8190)])
def test_photos_of_twelve_bits_are_scaled_by_one_range_that_is_kept(tmp_path, capsys, stated, white):
    root, deep = folder(tmp_path / "d", 6), np.full((20, 30), 4095, np.uint16)
    deep[:, :10] = 0
    for path in (root / "images").iterdir():
        path.unlink()
        deep[-1, -1] = 800 * int(path.stem)  # no photo twice
        save(path.with_suffix(".tif"), deep if path.stem == "003" else deep // 8)
    row = custom.register(root, "mine", white=stated)
    assert row.white == white and f"in the photos {white} is white" in capsys.readouterr().out
    assert make_settings("mine", "tuned", "smoke").white == white  # goes into checkpoints and exports
    prepare()
    kept = {p.stem: files.read_photo(p) for p in env.split_dir("mine").rglob("images/*.png")}
    values = [round(255 * 4095 / white), round(255 * 511 / white)]
    assert [kept[stem][0, [0, 20], 0].tolist() for stem in ("003", "000")] == [[0, values[0]], [0, values[1]]]
    assert (files.read_photo(root / "images" / "000.tif", row.white) == kept["000"]).all()  # as predict reads it
    save(root / "images" / "001.tif", deep * 3)
    custom.register(root, "mine", white=4095)
    assert "its values go from 0 to 12285, outside 0 to white=4095" in reasons()["001.tif"]


# Names and folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "VALIDATION", "testing")])
def test_splits_by_other_names(tmp_path, names, inside):
    root = tmp_path / "d"
    for split in (*names, "holdout"):
        for kind, suffix, picture in (("images", "jpg", photo()), ("masks", "png", mask())):
            save((root / split / kind if inside else root / kind / split) / f"{split}.{suffix}", picture)
    (root / "classes.txt").write_text("a\nb\nc")
    custom.register(root, "mine")
    found = {item.id: item.split for item in custom.list_own(root).samples}
    assert found == dict(zip(names, ("train", "val", "test"), strict=True))
    assert "is in no train, val or test, and is not read" in reasons()["holdout"]


def test_sub_folders_are_mirrored_and_names_differ_in_spelling(tmp_path):
    root = tmp_path / "d"
    save(root / "images" / "a" / (unicodedata.normalize("NFD", "été") + ".jpg"), photo())
    save(root / "masks" / "a" / "été.png", mask())
    save(root / "images" / "b" / "IMG_1.JPG", photo())
    save(root / "masks" / "b" / "img_1_mask.png", mask())
    save(root / "images" / "b" / "IMG_2.JPG", photo())
    (root / "classes.txt").write_text("a\nb\nc")
    custom.register(root, "mine")
    assert [(s.id, s.label.name) for s in custom.list_own(root).samples] == [
        ("a_été", "été.png"),
        ("b_IMG_1", "img_1_mask.png"),
    ]
    save(root / "masks" / "in colours" / "c.png", mask())
    found = {finding.file: finding for finding in validation.examine("mine")}
    assert found["IMG_2.JPG"].reason.startswith("no mask of this name; put IMG_2.png")
    assert found["c.png"].reason.startswith("no image of this name") and found["c.png"].severity == "left out"


def test_photos_without_a_mask_are_left_out_by_name(tmp_path):
    root = folder(tmp_path / "d", 12)
    for number in range(4):
        save(root / "images" / f"todo{number}.jpg", photo())
    custom.register(root, "mine")
    result = prepare()
    assert sum(result.counts.values()) == 12
    assert {f.file for f in result.findings} == {f"todo{number}.jpg" for number in range(4)}


def test_one_image_alone_is_refused(tmp_path):
    custom.register(folder(tmp_path / "d", 1), "mine")
    with pytest.raises(DataError, match="d holds one sound sample: give two or more"):
        prepare()


def test_two_images_are_for_train_and_val_and_the_message_says_so(tmp_path, capsys):
    custom.register(folder(tmp_path / "d", 2), "mine")
    result = prepare()
    assert result.counts == {"train": 1, "val": 1, "test": 0} and "no sound pair" in result.findings[0].reason
    assert preprocess.open_arrays("mine", 32).keys() == {"train", "val"}
    assert "too few images for a test split" in capsys.readouterr().out


@pytest.mark.parametrize("inside", [True, False])
def test_one_mask_a_class_is_read_as_such(tmp_path, inside):
    root = folder(tmp_path / "d", 3, classes="background\nskin\nlong hair")
    for number in range(3):
        (root / "masks" / f"{number:03}.png").unlink()
        for name, levels in (("skin", (0, 255, 255, 0)), ("long_hair", (0, 0, 255, 255))):
            place = root / "masks" / name / f"{number:03}.png" if inside else root / "masks" / f"{number:03}_{name}.png"
            save(place, mask(levels))
    assert reread(root) == [0, 1, 2, 2]  # where both are, the later in classes.txt
    found = validation.examine("mine")
    assert [f.reason for f in found if f.file.startswith("000") and "two masks" in f.reason] == [
        "160 pixels are in two masks: the later in classes.txt counts"
    ]
    assert sum("read as the mask of skin alone" in f.reason for f in found) == 3
    (root / "classes.txt").write_text("skin\nlong hair")
    assert reread(root) == [0, 1, 2, 2] and load_dataset("mine").classes == ("background", "skin", "long hair")
    first = prepare()
    assert (first.written, prepare().kept) == (6, 6)
    changed = next((root / "masks").rglob("*002*hair*" if not inside else "*hair*/002*"))
    save(changed, mask((0, 0, 0, 255)))
    assert prepare().written == 1  # of all masks of a sample the time and size are compared


# A correction takes effect ----------------------------------------------------------------------------------------


def test_a_corrected_table_counts_with_the_next_command(tmp_path):
    root = colored(tmp_path / "d", table=TABLE.replace("Tree,0,128,0\n", ""))
    custom.register(root, "mine", flip_pairs=[("sky", "Building")])
    assert "add them to class_dict.csv" in reasons()["000.png"]
    (root / "class_dict.csv").write_text(TABLE)
    assert reasons() == {} and load_dataset("mine").classes == ("sky", "Building", "Tree")
    assert load_dataset("mine").flip_pairs == ((0, 1),)
    prepare()
    preprocess.open_arrays("mine", 32)
    (root / "class_dict.csv").write_text(TABLE.replace("0,0,255", "255,0,0", 1).replace("ing,255,0,0", "ing,0,0,255"))
    assert reasons() == {}
    with pytest.raises(DataError, match="prepared before the classes, colours or levels of its masks changed"):
        preprocess.open_arrays("mine", 32)
    assert prepare().written == 4
    assert preprocess.open_arrays("mine", 32)["train"].labels[0, 0, 0] == 1


def test_a_folder_of_pictures_that_fits_no_layout_is_named(tmp_path):
    save(env.data_dir() / "street" / "photos" / "a.png", photo())
    assert "data/street holds pictures, but there should be train/N.jpg" in (
        restructure.find_release("cityscapes", (2, 1)).where
    )


# Other tools' folders ---------------------------------------------------------------------------------------------


def test_voc_as_cvat_writes_it(tmp_path):
    root, colors = tmp_path / "d", np.array([(0, 0, 0), (128, 0, 0), (0, 128, 0)], np.uint8)
    for number in range(6):
        save(root / "JPEGImages" / f"{number}.jpg", photo())
        if number < 5:  # most photos of VOC have no mask
            save(root / "SegmentationClass" / f"{number}.png", colors[mask()])
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\ndog:0,128,0::\n"
    )
    row = custom.register(root, "mine")
    assert (row.classes, row.colors[1]) == (("background", "cat", "dog"), (128, 0, 0))
    assert reread(root, row) == [0, 1, 2, 0]
    assert list(reasons()) == ["5.jpg"]
    for split, names in (("train", "0\n1\n2\n"), ("val", "3\n4\n")):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(names)
    assert [s.split for s in custom.list_own(root).samples] == ["train"] * 3 + ["test"] * 2  # val is scored
    assert prepare().counts == {"train": 2, "val": 1, "test": 2}
