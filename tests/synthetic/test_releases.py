"""Synthetic releases: the real ones' own layouts, equal bytes from any number of processes, repaired when damaged."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import catalog
from helpers.core import env, files, hardware, masks
from helpers.core.registry import load_dataset
from helpers.sources import restructure
from helpers.synthetic import faces, releases, streets

NAMES = list(releases.WRITERS)
HELEN = load_dataset("helen")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_one_process_or_two_write_the_same_release(tmp_path, monkeypatch, name):
    for cores in (1, 2):
        monkeypatch.setattr(hardware, "cores", lambda cores=cores: cores)
        release = releases.WRITERS[name](tmp_path / str(cores), 3, 2, progress=False)
        assert release == tmp_path / str(cores) / ("helenstar_release" if name == "helen" else "")
    written = tree(tmp_path / "1")
    assert written == tree(tmp_path / "2") and len(written) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_synthetic_release_is_read_as_a_real_one(tmp_path, name):
    """Found by its layout and checked: nothing is left out, and every split is as large as was asked for."""
    release = restructure.find_release(name, (14, 5))
    assert release.source == "synthetic"
    counts = restructure.restructure(name, release).counts
    assert counts["test"] == 5 and counts["train"] + counts["val"] == 14 and min(counts.values()) > 0


def test_the_faces_release_s_layout_and_content(tmp_path):
    release = releases.write_helen(tmp_path, 2, 1, progress=False)
    ids = {s: [releases.sample_id(releases.face_seed(s, i)) for i in range(n)] for s, n in (("train", 2), ("test", 1))}
    expected = {f"{s}/{i}_{kind}" for s in ids for i in ids[s] for kind in ("image.jpg", "label.png", "viz.jpg")}
    assert set(tree(release)) == expected
    image, label = faces.draw_face(releases.face_seed("test", 0))
    name = ids["test"][0]
    assert (masks.read_label(release / "test" / f"{name}_label.png", 11) == label).all()
    with (
        Image.open(release / "test" / f"{name}_label.png") as png,
        Image.open(release / "test" / f"{name}_image.jpg") as jpg,
    ):
        assert png.mode == "L" and jpg.format == "JPEG" and jpg.size == png.size
    assert np.abs(files.read_photo(release / "test" / f"{name}_image.jpg").astype(int) - image).mean() < 6


def test_the_blended_picture_by_hand():
    image, label = np.full((1, 2, 3), 100, np.uint8), np.array([[0, 10]], np.uint8)
    expected = [[int(0.45 * 100 + 0.55 * c) for c in HELEN.colors[i]] for i in (0, 10)]
    assert np.abs(releases.blended(image, label)[0].astype(int) - expected).max() <= 1


def test_no_two_faces_share_a_name():
    seeds = {releases.face_seed(split, i) for split in ("train", "test") for i in range(5000)}
    assert len(seeds) == len({releases.sample_id(seed) for seed in seeds}) == 10000


@pytest.mark.parametrize("name", ["helen", "pets"])
def test_a_second_run_repairs_what_is_missing_or_cut_and_leaves_the_rest(tmp_path, name):
    releases.WRITERS[name](tmp_path, 4, 1, progress=False)
    before = tree(tmp_path)
    pictures = [path for path in sorted(before) if not path.endswith(".txt")]
    (tmp_path / pictures[0]).unlink()
    for path in (pictures[4], pictures[8]):  # of another sample each
        (tmp_path / path).write_bytes(before[path][: len(before[path]) // 2])
    times = {path: (tmp_path / path).stat().st_mtime_ns for path in before if (tmp_path / path).exists()}
    releases.WRITERS[name](tmp_path, 4, 1, progress=False)
    assert tree(tmp_path) == before
    untouched = [path for path, time in times.items() if (tmp_path / path).stat().st_mtime_ns == time]
    assert any(path in pictures for path in untouched)


def label_maps(monkeypatch, home: Path, name: str, release: Path) -> dict[str, np.ndarray]:
    """File name -> label map of the release as 01 prepares it."""
    monkeypatch.setenv("UNET_HOME", str(home))
    monkeypatch.setenv("RELEASE", str(release))
    restructure.restructure(name, restructure.find_release(name, (2, 1)))
    paths = sorted(env.split_dir(name).rglob("labels/*.png"))
    return {path.name: masks.read_label(path, len(load_dataset(name).classes)) for path in paths}


def test_camvid_s_colours_fold_into_segnet_s_ids(tmp_path, monkeypatch):
    """The same streets in both layouts: 32 colours by their table, and ids, give equal label maps."""
    ids = releases.write_camvid(tmp_path / "ids", 4, 2, progress=False)
    colors = releases.write_camvid(tmp_path / "colors", 4, 2, progress=False, kaggle=True)
    assert (colors / "class_dict.csv").read_text().startswith("name,r,g,b\n")
    first = label_maps(monkeypatch, tmp_path / "a", "camvid", ids)
    second = label_maps(monkeypatch, tmp_path / "b", "camvid", colors)
    assert first.keys() == second.keys() and len(first) == 6
    assert all((first[key] == second[key]).all() for key in first)


def test_pairs_survive_their_jpeg(tmp_path, monkeypatch):
    """Nearest colours of the JPEG give the exact ids back but for edges; the own car and the parking strip are void."""
    release = releases.write_cityscapes(tmp_path / "pairs", 2, 1, progress=False)
    found = label_maps(monkeypatch, tmp_path, "cityscapes", release)
    exact = releases.lookup({n: i for i, n in enumerate(catalog.CITYSCAPES_CLASSES)} | {"lane": 0}, masks.VOID)
    assert len(found) == 3
    for street, frame in ((5000, 0), (5000, 1), (5001, 0)):
        _, fine = streets.draw_street(street, frame, (256, 256), squeeze=0.5, own_car=True)
        best = max(found.values(), key=lambda label: (label == exact[fine]).mean())
        assert (best == exact[fine]).mean() > 0.93
        assert (fine[-1] == streets.VOID).sum() > 200 and (best[-1] == masks.VOID).sum() > 200


def test_splits_share_no_street():
    frames = releases.frames_of({"train": 54, "val": 6, "test": 20})
    own = {split: {street for name, _, street, _ in frames if name == split} for split in ("train", "val", "test")}
    assert not own["train"] & own["val"] and not (own["train"] | own["val"]) & own["test"]
    assert sum(split == "test" for split, *_ in frames) == 20


def test_lists_and_trimaps_are_the_pets_release_s(tmp_path):
    root = releases.write_pets(tmp_path, 9, 2, progress=False)
    lines = (root / "annotations" / "trainval.txt").read_text().splitlines()
    assert lines[0] == "Abyssinian_1 1 1 1" and lines[1] == "beagle_1 2 2 1" and lines[8] == "Abyssinian_2 1 1 1"
    assert (root / "annotations" / "test.txt").read_text() == "beagle_2 2 2 1\nBengal_2 3 1 1\n"
    photo = files.read_photo(root / "images" / "beagle_1.jpg")
    label = masks.read_ids(root / "annotations" / "trimaps" / "beagle_1.png")
    assert photo.shape[:2] == label.shape and set(np.unique(label)) == {1, 2, 3}
