"""Pictures show the pixels that they are given, and come as whole PNGs."""

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


def test_overlay_tints_each_class_marks_its_edge_and_leaves_void():
    photo, label = np.full((1, 4, 3), 100, np.uint8), np.array([[1, 1, 10, 255]], np.uint8)
    inside, edge, other_edge, void = plots.overlay(photo, label, HELEN, alpha=0.5)[0]
    assert inside.tolist() == [(100 + channel) / 2 for channel in (240, 190, 150)]
    assert edge.tolist() == list(HELEN.colors[1]) and other_edge.tolist() == list(HELEN.colors[10])
    assert void.tolist() == [100, 100, 100]
    with pytest.raises(ValueError, match="differ in size"):
        plots.overlay(photo, label[:, :3], HELEN)


def test_error_map_marks_the_wrong_pixels_and_never_void():
    truth, guess = np.array([[0, 1, 10, 255]], np.uint8), np.array([[0, 6, 10, 3]], np.uint8)
    right, wrong, also_right, void = (tuple(c) for c in plots.error_map(truth, guess)[0].tolist())
    assert right == also_right and wrong not in (right, void)


def test_photos_and_labels_of_several_sizes_lie_in_rows():
    figure = plots.predictions(PHOTOS, LABELS, LABELS, HELEN, ["a", "b", "c"])
    assert titles(figure) == ["photo", "true label", "prediction", "overlay", "errors"] + [""] * 10
    assert [text.get_text() for text in figure.texts] == ["a", "b", "c"]
    figure = plots.pairs(PHOTOS, LABELS, HELEN, ["one", "two", "three"])
    assert titles(figure) == ["one", "", "two", "", "three", ""]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(HELEN.classes)
    sides = [(axes.bbox.width.round(), axes.bbox.height.round()) for axes in figure.axes]
    assert all(max(side) == 217 for side in sides) and sides[0] == sides[1]  # 4 columns of 900 pixels


def test_a_batch_has_each_label_under_its_photo():
    figure = plots.batch(np.stack([PHOTOS[0]] * 7), np.stack([LABELS[0]] * 7), HELEN)
    corners = [axes.bbox.corners()[0].round().tolist() for axes in figure.axes]
    photos, maps = corners[:5] + corners[10:12], corners[5:10] + corners[12:]
    assert all(x == x2 and y > y2 for (x, y), (x2, y2) in zip(photos, maps, strict=True))


def test_classes_are_named_with_their_share():
    label = np.full((40, 60), 255, np.uint8)
    label[:20], label[20, :30] = 0, 6
    assert titles(plots.class_overlays(PHOTOS[0], label, HELEN)) == ["bg  50 %", "nose  1.2 %"]
    legend = plots.parse(PHOTOS[0], label, HELEN).legends[0]
    assert {"bg 50 %", "nose 1.2 %", "hair 0 %"} <= {text.get_text() for text in legend.get_texts()}


def test_resampling_marks_where_averaging_changed_the_id():
    nearest, bilinear = np.array([[0, 10, 0, 10]], np.uint8), np.array([[0, 5, 0, 10]], np.uint8)
    figure = plots.resampling(np.array([[0, 10]], np.uint8), nearest, bilinear, HELEN)
    assert titles(figure)[-1] == "changed by averaging: 25 %"


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
