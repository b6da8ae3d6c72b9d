"""Pictures show the pixels that they are given, and come as whole PNGs."""

import dataclasses
import threading

import numpy as np
import pytest

from helpers import plots
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")
RNG = np.random.default_rng(0)
PHOTOS = [RNG.integers(0, 256, (40 + 9 * i, 60, 3), dtype=np.uint8) for i in range(3)]
LABELS = [RNG.integers(0, 11, (40 + 9 * i, 60), dtype=np.uint8) for i in range(3)]


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def keys(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_overlay_tints_each_class_marks_its_edge_and_leaves_void():
    photo, label = np.full((1, 4, 3), 100, np.uint8), np.array([[1, 1, 10, 255]], np.uint8)
    inside, edge, other_edge, void = plots.overlay(photo, label, HELEN, alpha=0.5)[0]
    assert inside.tolist() == [(100 + channel) / 2 for channel in (240, 190, 150)]
    assert edge.tolist() == list(HELEN.colors[1]) and other_edge.tolist() == list(HELEN.colors[10])
    assert void.tolist() == [100, 100, 100]


def test_error_map_marks_the_wrong_pixels_and_never_void():
    truth, guess = np.array([[0, 1, 10, 255]], np.uint8), np.array([[0, 6, 10, 3]], np.uint8)
    right, wrong, also_right, void = (tuple(c) for c in plots.error_map(truth, guess)[0].tolist())
    assert right == also_right and wrong not in (right, void)


def test_photos_and_labels_of_several_sizes_lie_in_rows():
    figure = plots.pairs(PHOTOS, LABELS, HELEN, ["one", "two", "three"])
    assert titles(figure) == ["one", "", "two", "", "three", ""]
    assert keys(figure)[1:3] == ["face", "lb  left brow"]
    sides = [axes.bbox.size.round().tolist() for axes in figure.axes]
    assert all(max(side) == 217 for side in sides) and sides[0] == sides[1]  # 4 columns of 900 pixels
    assert figure.axes[0].bbox.y0 == figure.axes[1].bbox.y0  # a photo and its label on one level


def test_predictions_have_a_row_an_image_with_its_title_and_share_of_errors(texts_fit):
    guess = LABELS[0].copy()
    guess[:4] = (guess[:4] + 1) % 11  # 4 of 40 rows
    figure = plots.predictions(PHOTOS[:2], LABELS[:2], [guess, LABELS[1]], HELEN, ["467_1  F1 $0.91$", "b"])
    assert titles(figure) == ["photo", "truth", "prediction", "errors"] * 2
    above, below = [text.get_text() for text in figure.texts]
    assert above == r"467_1  F1 \$0.91\$   10 % of the pixels wrong" and below == "b   0 % of the pixels wrong"
    side = 217
    shown = figure.axes[1].images[0].get_array()  # the truth: no colour but those of classes
    assert set(map(tuple, shown.reshape(-1, 3))) <= set(HELEN.colors) and shown.shape[1] == side
    wrong = (figure.axes[3].images[0].get_array() == (204, 0, 90)).all(-1)
    assert wrong[: wrong.shape[0] // 10].all() and wrong.mean() == pytest.approx(0.1, abs=0.02)
    texts_fit(figure)


def test_a_batch_has_each_label_under_its_photo(texts_fit):
    figure = plots.batch(np.stack([PHOTOS[0]] * 7), np.stack([LABELS[0]] * 7), HELEN)
    corners = [axes.bbox.corners()[0].round().tolist() for axes in figure.axes]
    photos, maps = corners[:5] + corners[10:12], corners[5:10] + corners[12:]
    assert all(x == x2 and y > y2 for (x, y), (x2, y2) in zip(photos, maps, strict=True))
    for width, name in ((900, "lb  left brow"), (450, "lb")):  # the long names where there is room
        figure = plots.batch(np.stack([PHOTOS[0]] * 4), np.stack([LABELS[0]] * 4), HELEN, 4, width)
        assert keys(figure)[2] == name and figure.bbox.width < width
        texts_fit(figure)


def test_classes_are_named_with_their_share(texts_fit):
    label = np.full((40, 60), 255, np.uint8)
    label[:20], label[20, :30] = 0, 6
    assert titles(plots.class_overlays(PHOTOS[0], label, HELEN)) == ["background  50 %", "nose  1.2 %"]
    figure = plots.parse(PHOTOS[0], label, HELEN)
    assert {"bg  background 50 %", "nose 1.2 %", "hair 0 %"} <= set(keys(figure))
    texts_fit(figure)
    label.flat[:11] = np.arange(11)  # every class, most of them in one pixel
    texts_fit(plots.class_overlays(PHOTOS[0], label, HELEN))


def test_resampling_frames_the_invented_ids(texts_fit):
    nearest = np.repeat(np.array([[0] * 8 + [10] * 8], np.uint8), 14, 0)
    bilinear = nearest.copy()
    bilinear[:, 7] = 5  # of no neighbour
    bilinear[0, 8] = 0  # changed, but a neighbour's
    figure = plots.resampling(nearest, nearest, bilinear, HELEN)
    assert titles(figure)[-1] == "bilinear: 12 invented ids, framed"
    assert titles(figure)[0] == "label: averaging changes 6.7 % of it"  # 15 of 224
    whole, plain, averaged = figure.axes
    assert len(whole.patches) == 1 and not plain.patches  # where the crop lies
    frames = [patch.get_bbox() for patch in averaged.patches]
    framed = [text.get_text() for text in averaged.texts if any(box.contains(*text.get_position()) for box in frames)]
    assert framed == ["5"] * 12 and len(frames) == 12
    assert [text.get_text() for text in averaged.texts].count("5") == 12
    texts_fit(figure)


def test_flips_name_left_and_right_on_the_side_where_the_label_has_them(texts_fit):
    label = np.ones((60, 120), np.uint8)
    label[15:20, 20:45], label[15:20, 75:100], label[35:40, 25:40], label[35:40, 80:95] = 2, 3, 4, 5
    figure = plots.flips(np.full((60, 120, 3), 90, np.uint8), label, HELEN)
    before, kept, traded = ({t.get_text(): t.get_position()[0] for t in axes.texts} for axes in figure.axes)
    assert before["left brow"] < before["right brow"] and before["left eye"] < before["right eye"]
    assert kept["left brow"] > kept["right brow"] and kept["left eye"] > kept["right eye"]
    assert traded["left brow"] < traded["right brow"] and traded["left eye"] < traded["right eye"]
    papers = [{t.get_bbox_patch().get_facecolor() for t in axes.texts} for axes in figure.axes]
    assert papers[0] == papers[2] != papers[1]
    texts_fit(figure)
    sideless = plots.flips(PHOTOS[0], LABELS[0] % 3, load_dataset("pets"))
    texts_fit(sideless)
    assert len(sideless.axes) == 2 and not any(axes.texts for axes in sideless.axes)
    label[:] = 1  # a class with a side, but not in this label; then in one pixel of it
    assert len(plots.flips(np.full((60, 120, 3), 90, np.uint8), label, HELEN).axes) == 2
    label[30, 119] = 4
    assert len(plots.flips(np.full((60, 120, 3), 90, np.uint8), label, HELEN).axes) == 3


def test_feature_maps_show_the_channels_that_differ_most_each_to_its_own_range(texts_fit):
    left, top = np.zeros((8, 8)), np.zeros((8, 8))
    left[:, :4], top[:4] = 9, 0.01
    maps = np.stack([left, 0.99 * left, top])  # the second tells nothing new
    figure = plots.feature_maps(PHOTOS[0], {"in": maps, "down1": maps[:, ::2, ::2]})
    channels = ["channel 0", "channel 2", "channel 1"]
    assert titles(figure) == ["in: 3×8×8", *channels, "down1: 3×4×4", *channels]
    shown = figure.axes[2].images[0].get_array()
    assert shown[0, 0].sum() > 600 and shown[-1, 0].sum() < 20  # bright and dark, small as the numbers are
    texts_fit(figure)
    texts_fit(plots.feature_maps(PHOTOS[0], {"down4": np.ones((1024, 16, 16)), "up4": np.ones((64, 256, 256))}))


def test_receptive_field_boxes_hold_what_they_say(texts_fit):
    gradient = np.zeros((40, 60))
    gradient[10, 20], gradient[10, 24], gradient[19, 20] = 50, 46, 4  # at 0, 4 and 9 pixels
    figure = plots.receptive_field(PHOTOS[0], gradient, (10, 20), 101)
    picture, curve = figure.axes
    most, limit = picture.patches
    assert (most.get_width(), most.get_xy()) == (9, (16, 6))  # 4 to each side hold 96 %
    assert (limit.get_width(), limit.get_xy()) == (101, (-30, -40))
    np.testing.assert_allclose(curve.lines[0].get_ydata()[[0, 3, 4, 8, 9]], [0.5, 0.5, 0.96, 0.96, 1])
    assert picture.get_xlim()[0] < -30 and picture.get_ylim()[0] > 61
    assert "95 % lies within 9 × 9" in curve.texts[0].get_text()
    texts_fit(figure)


def test_a_dollar_in_a_class_name_is_a_dollar():
    dataset = dataclasses.replace(load_dataset("pets"), classes=("a$b$", "background", "border"))
    assert keys(plots.pairs(PHOTOS[:1], [LABELS[0] % 3], dataset))[0] == r"a\$b\$"
    assert titles(plots.class_overlays(PHOTOS[0], LABELS[0] * 0, dataset)) == [r"a\$b\$  100 %"]  # once, not twice
    assert len(plots.png(plots.confusion(np.ones((3, 3), int), dataset))) > 1000


def test_the_same_input_gives_the_same_png_in_any_thread():
    found = []

    def draw():
        found.append(plots.png(plots.predictions(PHOTOS, LABELS, LABELS, HELEN)))

    draw()
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert found[0] == found[1] and found[0][:4] == b"\x89PNG"


def test_save_is_whole(tmp_path):
    plots.save(plots.dice_example(np.eye(4) * 0.5, np.eye(4), 0.25), tmp_path / "a" / "d.png")
    assert (tmp_path / "a" / "d.png").read_bytes()[:4] == b"\x89PNG" and len(list((tmp_path / "a").iterdir())) == 1
