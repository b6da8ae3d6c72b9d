"""Drawn streets and pets: exact labels, equal bytes, the releases' own layouts."""

from pathlib import Path

import numpy as np
import pytest

from helpers import catalog
from helpers.core import files, hardware, masks
from helpers.core.registry import load_dataset
from helpers.sources import layouts, restructure
from helpers.synthetic import streets as scenes

NAMES = list(scenes.WRITERS)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def empty_street(**changes) -> scenes.Street:
    """A road of 2 x 3 m, pavements of 1 m, nothing beside it."""
    same = dict(
        road=3.0, walk=4.0, sun=0.0, light=1.0, sky=np.ones(3), lane="none", parking=False, fronts={}, things=[]
    )
    return scenes.Street(**same | changes)


VIEW = scenes.View(100, 400, (100.0, 100.0), (200.0, 50.0), (0.0, 1.0))


def test_a_pixel_of_the_ground_is_the_class_of_its_place():
    """Row 69 looks 100 * 1 / 19.5 = 5.13 m ahead, so a metre is 19.5 columns: the kerb at 3 m lies 58.5 from the
    middle, the edge line from 2.7 to 2.8 m, the pavement's end at 78."""
    canvas = scenes.Canvas(np.zeros((100, 400, 3), np.float32))
    scenes.paint_ground(empty_street(), VIEW, canvas, np.random.default_rng(0), 0.0)
    row = [scenes.FINE[i] for i in canvas.label[69, 200:300]]
    assert row[:53] == ["road"] * 53 and set(row[53:55]) <= {"road", "lane"} and row[57:59] == ["road"] * 2
    assert row[59:78] == ["sidewalk"] * 19 and row[78:] == ["terrain"] * 22
    assert (canvas.label[69, 101:200] == canvas.label[69, 299:200:-1]).all()  # the same on the left
    assert (canvas.label[:51] == 0).all()  # nothing above the horizon


def test_a_pixel_of_a_front_is_the_class_of_its_height():
    """At column 300 the front at x = 4 is 4 m away: a metre is 25 rows. A fence of 1.3 m before a park."""
    park = scenes.Front("park", -5.0, 100.0, np.full(3, 0.5), 3.0, 2.0, 0.4)
    canvas = scenes.Canvas(np.zeros((100, 400, 3), np.float32))
    scenes.paint_fronts(empty_street(fronts={1: [park]}), VIEW, canvas, np.random.default_rng(0), 0.0, 1)
    column = canvas.label[:, 300]
    # the ground is met at row 50 + 25 = 75, the fence's top 1.3 * 25 = 32.5 rows above
    assert (column[43:75] == scenes.ID["fence"]).all() and (column[:42] == scenes.ID["vegetation"]).all()
    assert (column[75:] == 0).all()


def test_what_is_near_hides_what_is_far():
    """A car 6 m away before one 12 m away: both stand on the road, and the nearer one's label wins."""
    canvas = scenes.Canvas(np.zeros((100, 400, 3), np.float32))
    for z, kind in ((12.0, "bus"), (6.0, "car")):
        scenes.PAINTERS[kind](VIEW, canvas, scenes.Thing(kind, 0.0, z, 0), z, np.random.default_rng(3))
    at = {z: VIEW.at(np.array([(0.0, 1.2)]), z)[0].astype(int) for z in (6.0, 12.0)}
    assert canvas.label[at[6.0][1], at[6.0][0]] == scenes.ID["car"]
    top = VIEW.at(np.array([(0.0, 2.5)]), 12.0)[0].astype(int)  # above the car's roof
    assert scenes.FINE[canvas.label[top[1], top[0]]] in ("bus", "truck")


def test_a_thin_pole_has_no_holes():
    for z in (8.0, 30.0, 65.0):
        canvas = scenes.Canvas(np.zeros((100, 400, 3), np.float32))
        scenes.pole(VIEW, canvas, scenes.Thing("pole", 1.0, z, 0), z, np.random.default_rng(0), 4.0)
        rows = np.flatnonzero((canvas.label == scenes.ID["pole"]).any(1))
        assert len(rows) >= 4 * 100 / z - 2 and (np.diff(rows) == 1).all()


def test_a_trimap_s_band_lies_on_both_sides():
    pet = np.zeros((240, 240), bool)
    pet[:, 120:] = True
    row = scenes.trimap(pet)[120]
    band = np.flatnonzero(row == scenes.BORDER)
    assert (row[: band[0]] == scenes.BEYOND).all() and (row[band[-1] + 1 :] == scenes.PET).all()
    assert abs(band.mean() - 119.5) <= 0.5 and 4 <= len(band) <= 12 and (np.diff(band) == 1).all()


@pytest.mark.parametrize("draw", [lambda n: scenes.draw_street(n, 3), lambda n: scenes.draw_pet(n, True)])
def test_a_scene_is_a_function_of_its_seed(draw):
    (photo, label), (again, same), (other, _) = draw(4), draw(4), draw(5)
    assert photo.dtype == label.dtype == np.uint8 and photo.shape == (*label.shape, 3)
    assert (photo == again).all() and (label == same).all()
    assert photo.shape != other.shape or (photo != other).mean() > 0.5


def test_frames_of_a_street_are_neighbours():
    """A sequence is one drive: two frames share far more than two streets do, so that a split by frame would leak."""
    first, second, elsewhere = (scenes.draw_street(*place)[1] for place in ((7, 0), (7, 1), (8, 0)))
    assert (first == second).mean() > (first == elsewhere).mean() + 0.05


def test_all_classes_of_camvid_are_drawn():
    table = scenes.camvid_ids()
    seen = np.bincount(np.concatenate([table[scenes.draw_street(n, 0)[1]].ravel() for n in range(16)]), minlength=12)
    assert (seen > 0).all() and len(seen) == 12
    rare = seen[list(catalog.CAMVID.small_classes)] / seen.sum()
    assert (rare < 0.02).all() and seen[3] > 0.2 * seen.sum()  # the road


@pytest.mark.parametrize("name", NAMES)
def test_one_process_or_two_write_the_same_release(tmp_path, monkeypatch, name):
    for cores in (1, 2):
        monkeypatch.setattr(hardware, "cores", lambda cores=cores: cores)
        scenes.WRITERS[name](tmp_path / str(cores), 3, 2, progress=False)
    written = tree(tmp_path / "1")
    assert written == tree(tmp_path / "2") and len(written) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_drawn_release_is_read_as_a_real_one(tmp_path, name, monkeypatch):
    """Found by its layout, checked: nothing is left out, and every split is as large as was asked for."""
    monkeypatch.setenv("UNET_HOME", str(tmp_path))
    release = restructure.find_release(name, (14, 5))
    assert release.source == "synthetic"
    result = restructure.restructure(name, release)
    assert not [finding for finding in result.findings if finding.severity == "error"]
    assert result.counts["test"] == 5 and result.counts["train"] + result.counts["val"] == 14
    assert min(result.counts.values()) > 0


def labels_of(name, root):
    """id -> label map, of a release as its layout reads it."""
    layout, folder = layouts.find(layouts.LAYOUTS[name], root)
    return {sample.id: layout.read(sample, load_dataset(name)) for sample in layout.list(folder).samples}


def test_camvid_s_colours_fold_into_segnet_s_ids(tmp_path):
    """The same streets in both layouts: 32 colours by their table, and ids, give equal label maps."""
    ids = scenes.write_camvid(tmp_path / "ids", 4, 2, progress=False)
    colors = scenes.write_camvid(tmp_path / "colors", 4, 2, progress=False, kaggle=True)
    layout, _ = layouts.find(layouts.LAYOUTS["camvid"], colors)
    assert layout is layouts.KAGGLE
    first, second = labels_of("camvid", ids), labels_of("camvid", colors)
    assert first.keys() == second.keys() and len(first) == 6
    assert all((first[key] == second[key]).all() for key in first)


def test_pairs_survive_their_jpeg(tmp_path):
    """Nearest colours of the JPEG give the drawn ids back but for edges; the own car and the parking strip are void."""
    scenes.write_pairs(tmp_path / "pairs", 2, 1, progress=False)
    found = labels_of("cityscapes", tmp_path / "pairs")
    exact = scenes.lookup({**{n: i for i, n in enumerate(catalog.CITYSCAPES_CLASSES)}, "lane": 0}, masks.VOID)
    for name, street in (("train_1", 5000), ("val_1", 5001)):
        _, fine = scenes.draw_street(street, 0, (256, 256), squeeze=0.5, own_car=True)
        assert (found[name] == exact[fine]).mean() > 0.93
        assert (fine[-1] == scenes.VOID).sum() > 200 and (found[name][-1] == masks.VOID).sum() > 200


def test_splits_share_no_street():
    streets = {}
    for split, street, _ in scenes.frames_of(60, 20):
        streets.setdefault(split, set()).add(street)
    assert not streets["train"] & streets["val"] and not (streets["train"] | streets["val"]) & streets["test"]
    assert sum(1 for split, *_ in scenes.frames_of(60, 20) if split == "test") == 20


def test_what_is_damaged_or_gone_is_drawn_again(tmp_path):
    root = scenes.write_pets(tmp_path, 3, 1, progress=False)
    before = tree(root)
    (root / "images" / "beagle_1.jpg").unlink()
    label = root / "annotations" / "trimaps" / "Abyssinian_1.png"
    label.write_bytes(label.read_bytes()[:200])
    kept = root / "images" / "Bengal_1.jpg"
    stamp = kept.stat().st_mtime_ns
    scenes.write_pets(tmp_path, 3, 1, progress=False)
    assert tree(root) == before and kept.stat().st_mtime_ns == stamp


def test_lists_and_trimaps_are_the_release_s(tmp_path):
    root = scenes.write_pets(tmp_path, 9, 2, progress=False)
    lines = (root / "annotations" / "trainval.txt").read_text().splitlines()
    assert lines[0] == "Abyssinian_1 1 1 1" and lines[1] == "beagle_1 2 2 1" and lines[8] == "Abyssinian_2 1 1 1"
    assert layouts.read_list(root / "annotations" / "test.txt") == ["beagle_2", "Bengal_2"]
    photo = files.read_photo(root / "images" / "beagle_1.jpg")
    label = masks.read_ids(root / "annotations" / "trimaps" / "beagle_1.png")
    assert photo.shape[:2] == label.shape and set(np.unique(label)) == {1, 2, 3}
