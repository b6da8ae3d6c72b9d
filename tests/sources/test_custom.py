"""A reader's own folder becomes a dataset, and the validation report says what is wrong with it."""

import numpy as np
import pytest
from PIL import Image
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


def said(name="mine"):
    return {finding.file: finding for finding in validation.examine(name)}


def test_one_call_and_the_six_notebooks_functions_know_it(tmp_path):
    row = custom.register(folder(tmp_path / "d"), "mine", groups={"things": ["house", "tree"]})
    assert load_dataset("mine") == row and row.classes == ("sky", "house", "tree") and row.groups == {"things": (1, 2)}
    result = restructure.restructure("mine", restructure.find_release("mine", (4, 2)))
    assert all(result.counts.values()) and sum(result.counts.values()) == 12
    arrays = preprocess.open_arrays("mine", make_settings("mine", "tuned", "smoke").shape)
    assert set(np.unique(arrays["train"].labels)) == {0, 1, 2} and choice.chosen_dataset() == "mine"
    assert said() == {}


def test_bad_samples_are_explained_by_examine_not_by_a_download(tmp_path):
    """One mask in twelve of another size: the message names validation.examine, which takes a path as text, too."""
    root = folder(tmp_path / "d")
    save(root / "masks" / "003.png", mask((0, 1, 2))[:5])
    custom.register(root, "mine")
    with pytest.raises(DataError, match=r'1 of 12 .*or validation.examine\("mine"\) says') as caught:
        restructure.restructure("mine", restructure.find_release("mine", (4, 2)))
    assert "download" not in str(caught.value)
    assert said("mine").keys() == said(str(root)).keys() == {"003.png"}


def test_left_and_right_trade_places(tmp_path):
    row = custom.register(folder(tmp_path / "d"), "mine", flip_pairs=[("house", "tree")])
    assert row.flip_pairs == ((1, 2),) and load_dataset("mine").flip_pairs == ((1, 2),)


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
    assert "colours that are in no table: (9, 9, 9) on 600 pixels = #090909 (16 off void)" in said()["003.png"].reason


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


def test_grey_levels_that_are_no_ids_get_a_mapping_proposed_and_taken(tmp_path):
    root = folder(tmp_path / "d", levels=(0, 127, 255))
    custom.register(root, "mine")
    reason = said()["000.png"].reason
    assert "grey levels 127 are no ids of 3 classes" in reason
    assert "levels={0: 'sky', 127: 'house', 255: 'tree'}" in reason
    custom.register(root, "mine", levels={0: "sky", 127: "house", 255: ""})
    assert said() == {}
    ids = custom.read_own(custom.list_own(root).samples[0], load_dataset("mine"))
    assert ids[0, [0, 8, 16]].tolist() == [0, 1, 255]


def test_the_report_names_what_people_get_wrong(tmp_path):
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
    custom.register(root, "mine")
    found = said()
    assert "saved as JPEG" in found["001.jpg"].reason or "no ids" in found["001.jpg"].reason
    assert "label 30 x 10, photo 30 x 20" in found["002.png"].reason and found["002.png"].severity == "error"
    assert (
        "no mask of this name; put 003.png into masks/" in found["003.jpg"].reason
        and found["003.jpg"].severity == "error"
    )
    assert "only one class in it (house)" in found["004.png"].reason and found["004.png"].severity == "warning"
    assert "turned as the photo's EXIF says" in found["005.png"].reason and found["005.png"].severity == "warning"
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


# ---- what readers get wrong, as the validation report says it ----

COLORS = np.array([(0, 0, 255), (255, 0, 0), (0, 128, 0)], np.uint8)
TABLE = "name,r,g,b\nsky,0,0,255\nBuilding,255,0,0\nTree,0,128,0\n"


def colored(root, count=4, table=TABLE):
    folder(root, count)
    (root / "classes.txt").unlink()
    (root / "class_dict.csv").write_text(table)
    for path in (root / "masks").iterdir():
        save(path, COLORS[mask()])
    return root


def reasons(root):
    """The validation report on a folder that is not registered: file -> reason; nothing is kept of it."""
    found = validation.examine(root)
    assert not (env.data_dir() / "datasets").exists()
    return {finding.file: finding.reason for finding in found}


def smooth(large):
    return np.asarray(Image.fromarray(large).resize((30, 20), Image.Resampling.BICUBIC))


def disc(inside, outside):
    """A disc at eight times the size of a mask, uint8[160,240] or [160,240,3]."""
    y, x = np.mgrid[:160, :240]
    return np.where(((y - 80) ** 2 + (x - 120) ** 2 < 4900).reshape(160, 240, *[1] * np.ndim(inside)), inside, outside)


def test_strange_colours_come_with_their_nearest_row(tmp_path):
    root = colored(tmp_path / "d")
    wrong = COLORS[mask()]
    wrong[:2], wrong[2] = (64, 192, 128), (253, 0, 0)
    save(root / "masks" / "001.png", wrong)
    assert "(64, 192, 128) on 60 pixels = #40c080 (157 off Tree); (253, 0, 0)" in reasons(root)["001.png"]
    first, second = validation.unknown_colors(root)
    assert (first.file, first.color, first.pixels, first.hex) == ("001.png", (64, 192, 128), 60, "#40c080")
    assert (second.nearest.name, second.distance) == ("Building", 2.0)
    assert validation.unknown_colors(folder(tmp_path / "ids", 3)) == []


def test_smoothed_masks_are_called_so_and_their_colours_not_listed_all(tmp_path):
    root = colored(tmp_path / "d")
    save(root / "masks" / "001.png", smooth(disc(COLORS[1], COLORS[0]).astype(np.uint8)))
    reason = reasons(root)["001.png"]
    assert "anti-aliased or resized with smoothing; export without it" in reason and len(reason) < 300
    save(folder(tmp_path / "ids", 4) / "masks" / "001.png", smooth(disc(200, 0).astype(np.uint8)))
    reason = reasons(tmp_path / "ids")["001.png"]
    assert "anti-aliased or resized with smoothing; export without it" in reason and len(reason) < 300


def test_a_jpeg_mask_is_reported_once_with_the_remedy(tmp_path):
    root = folder(tmp_path / "d", 4, levels=(0, 1))
    for text in ("classes", "colours"):
        (root / "masks" / "001.png").unlink(missing_ok=True)
        Image.fromarray(RNG.integers(0, 9, (20, 30), dtype=np.uint8)).save(root / "masks" / "001.jpg")
        (finding,) = [r for r in validation.examine(root) if r.file == "001.jpg"]
        assert "JPEG has blurred them; export the mask as PNG" in finding.reason and finding.severity == "error", text
        root = colored(tmp_path / "colours")


@pytest.mark.parametrize("registered", [False, True])
def test_white_on_black_of_two_classes_is_not_void(tmp_path, registered):
    root = folder(tmp_path / "d", 4, (0, 255), "bg\ncat\n")
    assert "if it is 'cat', register with levels={0: 'bg', 255: 'cat'}" in reasons(root)["000.png"]
    custom.register(root, "mine", levels={0: "bg", 255: "cat"} if registered else {0: "bg", 1: "cat", 255: ""})
    assert all("only one class" in finding.reason for finding in said().values()) and bool(said()) != registered


def test_one_mapping_is_proposed_for_all_masks(tmp_path):
    root = folder(tmp_path / "d", 4, (0, 127, 254))
    save(root / "masks" / "001.png", mask((127, 254)))
    save(root / "masks" / "002.png", mask((254,)))
    mapping = "levels={0: 'sky', 127: 'house', 254: 'tree'}"
    assert [mapping in reason for reason in reasons(root).values()] == [True] * 4
    (root / "masks" / "003.png").unlink()
    Image.fromarray(mask() * 100).save(root / "masks" / "003.jpg", quality=60)  # what blurs one mask hides no mapping
    assert [mapping in reason for _, reason in sorted(reasons(root).items())] == [True] * 3 + [False]
    row = custom.register(root, "mine")
    item = next(item for item in custom.list_own(root).samples if item.id == "002")
    with pytest.raises(DataError, match="validation.examine says which levels all masks have"):
        custom.read_own(item, row)


def test_void_among_the_classes_is_no_class(tmp_path):
    root = folder(tmp_path / "d", 4, (0, 1, 2, 255), "Void\nhouse\ntree\n")
    row = custom.register(root, "mine")
    assert row.classes == ("house", "tree") and said() == {}
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
        (TABLE + ",1,2,3\n", r"the colour \(1, 2, 3\) has no name"),
        (TABLE.replace("name,r,g,b", "name,b,g,r"), "heading has b, g, r; put the columns in the order name,r,g,b"),
        (TABLE.replace(",", ";"), "line 2 is no `name,r,g,b`"),
        ("name,r,g,b\nvoid,0,0,255\n", "0 classes besides void"),
        ("Tür,0,0,255\n", "class_dict.csv: is not UTF-8; save it again"),
    ],
)
def test_tables_that_would_mislead_are_refused(tmp_path, table, match):
    root = colored(tmp_path / "d")
    (root / "class_dict.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(DataError, match=match):
        custom.register(root, "mine")


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA", "I;16"])
def test_ids_are_read_of_every_mode(tmp_path, mode):
    root = folder(tmp_path / "d", 4)
    for path in (root / "masks").iterdir():
        picture = Image.fromarray(mask().astype(np.uint16) if mode == "I;16" else mask())
        if mode == "P":
            picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        (picture if mode in ("P", "I;16") else picture.convert(mode)).save(path)
    assert reasons(root) == {}


def test_ids_for_colours_colours_for_ids_and_transparency_are_told_apart(tmp_path):
    root = colored(tmp_path / "d")
    save(root / "masks" / "000.png", mask())
    clear = np.dstack([COLORS[mask()], np.full((20, 30), 255, np.uint8)])
    clear[:2] = 0
    save(root / "masks" / "001.png", clear)
    found = reasons(root)
    assert "they look like ids; replace class_dict.csv by classes.txt" in found["000.png"]
    assert "60 pixels are transparent; fill them" in found["001.png"]
    save(folder(tmp_path / "ids", 4) / "masks" / "001.png", COLORS[mask()])
    assert "or replace classes.txt by class_dict.csv" in reasons(tmp_path / "ids")["001.png"]


@pytest.mark.parametrize("make", [folder, colored])
def test_swapped_folders_are_seen(tmp_path, make):
    root = make(tmp_path / "d", 4)
    for old, new in (("images", "x"), ("masks", "images"), ("x", "masks")):
        (root / old).rename(root / new)
    assert "is a photo, and 000.png in images/ is its mask: exchange images/ and masks/" in reasons(root)["000.jpg"]


@pytest.mark.parametrize(("name", "there"), [("Masks", "Masks/"), ("labels", "labels/"), (None, "none"), ("", "")])
def test_a_folder_without_images_and_masks_is_refused(tmp_path, name, there):
    root = tmp_path / "d"
    if name:
        (folder(root, 2) / "masks").rename(root / name)
    elif name is None:
        root.mkdir()
    with pytest.raises(DataError, match="d: is no folder" if name == "" else f"no images/ beside masks/ .*{there}"):
        custom.register(root, "mine")


def test_names_that_do_not_fit_are_helped_on(tmp_path):
    root = folder(tmp_path / "d", 6)
    for number, name in enumerate(("000_gt.png", "001_mask.png", "002_MASK.PNG", "003.npy")):
        (root / "masks" / f"{number:03}.png").rename(root / "masks" / name)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / kind / f"004.{suffix}").rename(root / kind / f"left_L.{suffix}")
    save(root / "images" / "005.png", photo())
    found = reasons(root)
    assert "if it is the mask of 000.jpg, call it 000.png" in found["000_gt.png"]
    assert "is no picture" in found["003.npy"] and "same name as 005.jpg" in found["005.png"]
    assert set(found) == {"000_gt.png", "000.jpg", "003.npy", "003.jpg", "005.png"}
    for path in (root / "masks").iterdir():
        path.unlink()
    assert "no image has a mask" in reasons(root)["d"]


def test_splits_that_count_from_one_each_are_no_twins_but_the_same_photo_is(tmp_path):
    root = tmp_path / "d"
    for split in ("train", "val", "test"):
        for number in range(3):
            save(root / split / "images" / f"{number}.png", photo())
            save(root / split / "masks" / f"{number}.png", mask())
    (root / "classes.txt").write_text("a\nb\nc")
    assert reasons(root) == {} and {item.id for item in custom.list_own(root).samples} >= {"train_0", "val_0", "test_2"}
    (root / "train/images/1.png").write_bytes((root / "test/images/2.png").read_bytes())
    assert "same photo as 2.png in test; kept in test alone" in reasons(root)["1.png"]


def test_turned_photos_void_masks_and_damaged_photos_are_named(tmp_path):
    root, exif = folder(tmp_path / "d", 5), Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(photo()).save(root / "images" / "000.jpg", exif=exif)
    save(root / "masks" / "001.png", np.ascontiguousarray(mask().T))
    save(root / "masks" / "002.png", mask((255,)))
    (root / "images" / "003.jpg").write_bytes((root / "images" / "003.jpg").read_bytes()[:300])
    found = reasons(root)
    assert "turned by EXIF (3): look at both" in found["000.png"] and "turned by 90 degrees" in found["001.png"]
    assert "nothing but void" in found["002.png"] and "cannot be read as a photo" in found["003.jpg"]
