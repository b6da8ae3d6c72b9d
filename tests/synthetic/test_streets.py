"""Synthetic streets: the class of each pixel by hand, and what the frames of a street share."""

import numpy as np

from helpers import catalog
from helpers.synthetic import releases
from helpers.synthetic import streets as scenes
from helpers.synthetic.canvas import Canvas


def empty_street(**changes) -> scenes.Street:
    """A road of 2 x 3 m, pavements of 1 m, nothing beside it."""
    same = dict(
        road=3.0, walk=4.0, sun=0.0, light=1.0, sky=np.ones(3), lane="none", parking=False, fronts={}, things=[]
    )
    return scenes.Street(**same | changes)


VIEW = scenes.View((100.0, 100.0), (200.0, 50.0), (0.0, 1.0))


def test_a_pixel_of_the_ground_is_the_class_of_its_place():
    """Row 69 looks 100 * 1 / 19.5 = 5.13 m ahead, so a metre is 19.5 columns: the kerb at 3 m lies 58.5 from the
    middle, the edge line from 2.7 to 2.8 m, the pavement's end at 78."""
    canvas = Canvas(np.zeros((100, 400, 3), np.float32))
    scenes.paint_ground(empty_street(), VIEW, canvas, np.random.default_rng(0), 0.0)
    row = [scenes.FINE[i] for i in canvas.label[69, 200:300]]
    assert row[:53] == ["road"] * 53 and set(row[53:55]) <= {"road", "lane"} and row[57:59] == ["road"] * 2
    assert row[59:78] == ["sidewalk"] * 19 and row[78:] == ["terrain"] * 22
    assert (canvas.label[69, 101:200] == canvas.label[69, 299:200:-1]).all()  # the same on the left
    assert (canvas.label[:51] == 0).all()  # nothing above the horizon


def test_a_pixel_of_a_front_is_the_class_of_its_height():
    """At column 300 the front at x = 4 is 4 m away: a metre is 25 rows. A fence of 1.3 m before a park."""
    park = scenes.Front("park", -5.0, 100.0, np.full(3, 0.5), 3.0, 2.0, 0.4)
    canvas = Canvas(np.zeros((100, 400, 3), np.float32))
    scenes.paint_fronts(empty_street(fronts={1: [park]}), VIEW, canvas, np.random.default_rng(0), 0.0, 1)
    column = canvas.label[:, 300]
    # the ground is met at row 50 + 25 = 75, the fence's top 1.3 * 25 = 32.5 rows above
    assert (column[43:75] == scenes.ID["fence"]).all() and (column[:42] == scenes.ID["vegetation"]).all()
    assert (column[75:] == 0).all()


def test_what_is_near_hides_what_is_far():
    """A car 6 m away before one 12 m away: both stand on the road, and the nearer one's label wins."""
    canvas = Canvas(np.zeros((100, 400, 3), np.float32))
    for z, kind in ((12.0, "bus"), (6.0, "car")):
        scenes.PAINTERS[kind](VIEW, canvas, scenes.Thing(kind, 0.0, z, 0), z, np.random.default_rng(3))
    at = {z: VIEW.at(np.array([(0.0, 1.2)]), z)[0].astype(int) for z in (6.0, 12.0)}
    assert canvas.label[at[6.0][1], at[6.0][0]] == scenes.ID["car"]
    top = VIEW.at(np.array([(0.0, 2.5)]), 12.0)[0].astype(int)  # above the car's roof
    assert scenes.FINE[canvas.label[top[1], top[0]]] in ("bus", "truck")


def test_a_thin_pole_has_no_holes():
    for z in (8.0, 30.0, 65.0):
        canvas = Canvas(np.zeros((100, 400, 3), np.float32))
        scenes.pole(VIEW, canvas, scenes.Thing("pole", 1.0, z, 0), z, np.random.default_rng(0), 4.0)
        rows = np.flatnonzero((canvas.label == scenes.ID["pole"]).any(1))
        assert len(rows) >= 4 * 100 / z - 2 and (np.diff(rows) == 1).all()


def test_a_street_is_a_function_of_its_seed():
    (photo, label), (again, same), (other, _) = (scenes.draw_street(seed, 3) for seed in (4, 4, 5))
    assert photo.dtype == label.dtype == np.uint8 and photo.shape == (*label.shape, 3) == (360, 480, 3)
    assert (photo == again).all() and (label == same).all() and (photo != other).mean() > 0.5


def test_frames_of_a_street_are_neighbours():
    """A sequence is one drive: two frames share far more than two streets do, so that a split by frame would leak."""
    first, second, elsewhere = (scenes.draw_street(*place)[1] for place in ((7, 0), (7, 1), (8, 0)))
    assert (first == second).mean() > (first == elsewhere).mean() + 0.05


def test_all_classes_of_camvid_are_drawn():
    table = releases.camvid_table(colors=False)
    seen = np.bincount(np.concatenate([table[scenes.draw_street(n, 0)[1]].ravel() for n in range(16)]), minlength=12)
    assert (seen > 0).all() and len(seen) == 12
    rare = seen[list(catalog.CAMVID.small_classes)] / seen.sum()
    assert (rare < 0.02).all() and seen[3] > 0.2 * seen.sum()  # the road
