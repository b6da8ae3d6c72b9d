"""Image and label move together; left and right trade places; random numbers depend on the sample alone."""

import math

import numpy as np
import pytest
import torch

from helpers import augment
from helpers.core import files, masks
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")


def batch(count=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 11, (count, size, size), generator=generator, dtype=torch.uint8)


def mirror(images, labels):
    """Every sample mirrored, and not changed otherwise: float32[B,3,H,W] in 0..1, uint8[B,H,W]."""
    chosen = [number for number in range(50) if augment.uniform(0, 0, np.array([number]), 10)[0, 9] < 0.5]
    change = augment.Augment(HELEN.flip_pairs, 0, 1, seed=0, strength=0.0)
    x, ids = change(images, labels, np.array(chosen[: len(images)]), epoch=0)
    return x, ids.to(torch.uint8)


def test_to_float_by_hand():
    images = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)  # one pixel
    torch.testing.assert_close(augment.to_float(images, 0, 1).flatten(), torch.tensor([0.0, 1.0, 0.2]))
    torch.testing.assert_close(augment.to_float(images, 0.5, 0.25).flatten(), torch.tensor([-2.0, 2.0, -1.2]))


def test_a_mirror_swaps_left_and_right_ids_and_nothing_else():
    images, labels = batch()
    labels[0, :4] = 255
    x, swapped = mirror(images, labels)
    torch.testing.assert_close(x, augment.to_float(images.flip(2), 0, 1), rtol=0, atol=1e-5)
    pairs = {0: 0, 1: 1, 2: 3, 3: 2, 4: 5, 5: 4, 6: 6, 7: 7, 8: 8, 9: 9, 10: 10, 255: 255}
    for was, now in pairs.items():
        assert ((labels.flip(2) == was) == (swapped == now)).all()
    assert (mirror(images, swapped)[1] == labels).all()


def is_viewer_left(label):
    """Whether each left id lies to the left of its right partner, where both are seen."""
    columns = np.arange(label.shape[1])
    for left, right in HELEN.flip_pairs:
        if (label == left).any() and (label == right).any():
            middle = [(columns * (label == i)).sum() / (label == i).sum() for i in (left, right)]
            yield middle[0] < middle[1]


@pytest.mark.parametrize("number", range(5))
def test_left_is_left_in_a_mirrored_real_face(real_data, number):
    path = sorted((real_data / "faces/helenstar_release/test").glob("*_label.png"))[number]
    label = masks.read_label(path, 11)
    photo = files.read_photo(path.with_name(path.name.replace("_label.png", "_image.jpg")))
    _, swapped = mirror(torch.tensor(photo)[None], torch.tensor(label)[None])
    assert all(is_viewer_left(label)) and all(is_viewer_left(swapped[0].numpy()))
    assert not all(is_viewer_left(label[:, ::-1]))  # without the swap it would be wrong
    counts, after = np.bincount(label.ravel(), minlength=11), np.bincount(swapped.numpy().ravel(), minlength=11)
    assert after.tolist() == counts[[0, 1, 3, 2, 5, 4, 6, 7, 8, 9, 10]].tolist()


def test_image_and_label_land_on_the_same_pixels():
    """A label drawn into the image as a grey value comes out of the warp where the label does."""
    labels = torch.zeros(1, 64, 64, dtype=torch.uint8)
    labels[:, 20:40, 10:50] = 10
    images = (labels[..., None].float() * 25).to(torch.uint8).expand(-1, -1, -1, 3)
    theta = augment.affine(torch.tensor([[0.9, 0.1, 0.7, 0.4]]), 64, 64)
    moved, label = augment.warp(augment.to_float(images, 0, 1), labels, theta)
    inside = moved[0, 0] > 0.5 * 250 / 255
    seen = label[0] != 255
    assert ((label[0] == 10) == inside)[seen].float().mean() > 0.99
    assert (label == 10).any() and (label == 0).any()


@pytest.mark.parametrize(("rows", "columns"), [(90, 120), (144, 192), (200, 80)])
def test_a_turn_is_no_shear_on_photos_of_any_sides(rows, columns):
    """In pixels the map is a turn by the angle times the zoom, to the rounding of float32: nothing is skewed."""
    theta = augment.affine(torch.tensor([[1.0, 0.75, 0.5, 0.5]]), rows, columns)[0].double()
    sides = torch.diag(torch.tensor([columns, rows], dtype=torch.float64))
    pixels = sides @ theta[:, :2] @ sides.inverse()
    angle, zoom = math.radians(augment.TURN), math.sqrt(1 + augment.SCALE)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    torch.testing.assert_close(pixels, turn * zoom, rtol=0, atol=1e-6)


def test_what_comes_from_outside_is_void_and_no_id_is_invented():
    labels = torch.full((1, 32, 32), 10, dtype=torch.uint8)
    theta = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])  # a quarter of the image comes from beyond its right edge
    _, label = augment.warp(torch.zeros(1, 3, 32, 32), labels, theta)
    assert (label[0, :, :24] == 10).all() and (label[0, :, 24:] == 255).all()


def test_random_numbers_depend_on_each_of_their_three_and_on_no_other_sample():
    one = augment.uniform(3, 2, np.array([9]), 10)
    assert one.dtype == np.float32 and 0 <= one.min() and one.max() < 1
    assert (augment.uniform(3, 2, np.array([8, 9]), 10)[1] == one[0]).all()
    assert (one[0] == np.random.default_rng((3, 2, 9)).random(10, np.float32)).all()
    for seed, epoch, sample in ((4, 2, 9), (3, 1, 9), (3, 2, 10)):
        assert (augment.uniform(seed, epoch, np.array([sample]), 10) != one).all()


def test_a_sample_is_changed_alike_in_any_batch():
    images, labels = batch(4)
    change = augment.Augment(HELEN.flip_pairs, 0.5, 0.25, seed=3)
    x, y = change(images, labels, np.array([7, 8, 9, 10]), epoch=2)
    one_x, one_y = change(images[2:3], labels[2:3], np.array([9]), epoch=2)
    torch.testing.assert_close(one_x[0], x[2])
    assert (one_y[0] == y[2]).all() and set(y.unique().tolist()) <= {*range(11), 255}
    assert not torch.equal(change(images, labels, np.array([7, 8, 9, 10]), epoch=3)[0], x)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_recolor_stays_in_range(value):
    x = augment.recolor(torch.rand(2, 3, 8, 8), torch.full((2, 5), value))
    assert 0 <= x.min() and x.max() <= 1


def test_strength_scales_how_far_not_whether_it_is_mirrored():
    """At strength 0.5 a turn is half as far; at 0 only the flip remains, to the last bit."""
    images, labels = batch(16)
    none = augment.Augment(HELEN.flip_pairs, 0, 1, 4, strength=0.0)(images, labels, np.arange(16), 1)
    mirrored = augment.uniform(4, 1, np.arange(16), 10)[:, 9] < 0.5
    swapped = augment.flip_table(HELEN.flip_pairs)[labels.flip(2).long()]
    assert 0 < mirrored.sum() < 16
    for i, turned in enumerate(mirrored):
        want, ids = (images.flip(2), swapped) if turned else (images, labels)
        assert (none[1][i] == ids[i]).all()
        torch.testing.assert_close(none[0][i], augment.to_float(want[i][None], 0, 1)[0], rtol=0, atol=1e-5)
    whole, half = (augment.affine(0.5 + (torch.tensor([[0.9, 0.5, 0.5, 0.5]]) - 0.5) * s, 9, 9) for s in (1.0, 0.5))
    angle = [math.atan2(theta[0, 1, 0], theta[0, 0, 0]) for theta in (whole, half)]
    assert angle[0] == pytest.approx(2 * angle[1]) and angle[0] == pytest.approx(0.8 * math.radians(augment.TURN))


def test_halving_takes_means_of_pixels_and_one_of_their_ids():
    """By hand on 2 x 4 pixels; on the whole no outline moves."""
    images = torch.tensor([[[0, 10, 4, 4], [20, 30, 4, 8]]], dtype=torch.uint8)[..., None].repeat(1, 1, 1, 3)
    labels = torch.tensor([[[1, 2, 5, 6], [3, 4, 7, 8]]], dtype=torch.uint8)
    small, ids = augment.halve(images, labels)
    assert small[0, 0, :, 0].tolist() == [15, 5] and ids.tolist() == [[[1, 8]]]
    stripes = (torch.arange(64) // 9 % 2).to(torch.uint8).expand(1, 64, 64)
    _, ids = augment.halve(stripes[..., None].repeat(1, 1, 1, 3), stripes)
    assert abs(ids.float().mean() - stripes.float().mean()) < 0.01
    _, odd = augment.halve(torch.zeros(1, 5, 7, 3, dtype=torch.uint8), torch.zeros(1, 5, 7, dtype=torch.uint8))
    assert odd.shape == (1, 2, 3)
