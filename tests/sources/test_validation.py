"""The validation report names each fault of a reader's own images and masks, and the remedy."""

import numpy as np
import pytest
from PIL import Image
from test_custom import COLORS, colored, folder, mask, photo
from test_layouts import save

from helpers.core import env
from helpers.core.errors import DataError
from helpers.core.registry import load_dataset
from helpers.sources import custom, restructure, validation

RNG = np.random.default_rng(0)


def said(name="mine"):
    return {finding.file: finding for finding in validation.examine(name)}


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


def test_bad_samples_are_explained_by_examine_not_by_a_download(tmp_path):
    """One mask in twelve of another size: the message names validation.examine, which takes a path as text, too."""
    root = folder(tmp_path / "d")
    save(root / "masks" / "003.png", mask((0, 1, 2))[:5])
    custom.register(root, "mine")
    with pytest.raises(DataError, match=r'1 of 12 .*or validation.examine\("mine"\) says') as caught:
        restructure.restructure("mine", restructure.find_release("mine", (4, 2)))
    assert "download" not in str(caught.value)
    assert said("mine").keys() == said(str(root)).keys() == {"003.png"}


def test_grey_levels_that_are_no_ids_get_a_mapping_proposed_and_taken(tmp_path):
    root = folder(tmp_path / "d", levels=(0, 127, 255))
    custom.register(root, "mine")
    reason = said()["000.png"].reason
    assert "grey levels 127 are no ids of 3 classes" in reason
    assert "levels={0: 'sky', 127: 'house', 255: 'tree'}" in reason
    custom.register(root, "mine", levels={0: "sky", 127: "house", 255: ""})
    assert [finding.reason[:22] for finding in said().values()] == ["no mask holds tree (2)"]
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
    assert "colours that nobody chose" in found["001.jpg"].reason or "no ids" in found["001.jpg"].reason
    assert "label 30 x 10, photo 30 x 20" in found["002.png"].reason and found["002.png"].severity == "error"
    assert "no mask of this name; put 003.png into masks/" in found["003.jpg"].reason
    assert found["003.jpg"].severity == "left out"
    assert "only one class in it (house)" in found["004.png"].reason and found["004.png"].severity == "warning"
    assert "turned as the photo's EXIF says" in found["005.png"].reason and found["005.png"].severity == "warning"
    assert "not a picture" in found["notes.txt"].reason
    assert set(found) == {"001.jpg", "002.png", "003.jpg", "004.png", "005.png", "notes.txt"}


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
    found = said()
    assert ("labels" in found and "no mask holds cat (1)" in found.pop("labels").reason) != registered
    assert all("only one class" in finding.reason for finding in found.values()) and bool(found) != registered


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


def test_names_that_do_not_fit_are_helped_on(tmp_path):
    root = folder(tmp_path / "d", 6)
    for number, name in enumerate(("000_gt.png", "001_mask.png", "002_MASK.PNG", "003.npy")):
        (root / "masks" / f"{number:03}.png").rename(root / "masks" / name)
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        (root / kind / f"004.{suffix}").rename(root / kind / f"left_L.{suffix}")
    save(root / "images" / "005.png", photo())
    found = reasons(root)
    assert "if it is the mask of 000.jpg, call it 000.png" in found["000_gt.png"]
    assert "not a picture" in found["003.npy"] and "same name as 005.jpg" in found["005.png"]
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
