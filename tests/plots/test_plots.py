"""Figures show the numbers that they are given."""

import math
import threading

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from helpers import catalog, unet
from helpers.core.errors import DataError
from helpers.core.masks import UnknownColor
from helpers.core.registry import load_dataset
from helpers.plots import everything

HELEN = load_dataset("helen")
RNG = np.random.default_rng(0)
PHOTOS = [RNG.integers(0, 256, (40 + 9 * i, 60, 3), dtype=np.uint8) for i in range(3)]
LABELS = [RNG.integers(0, 11, (40 + 9 * i, 60), dtype=np.uint8) for i in range(3)]


def history(epochs=5, start=0.2):
    return [
        {"epoch": e, "step": 10 * e, "loss": 3 / e, "lr": 1e-3 / e, "f1_overall": start + 0.1 * e, "note": ""}
        | {f"f1_{name}": 0.05 * e for name in HELEN.classes}
        for e in range(1, epochs + 1)
    ]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_colorize_gives_the_catalogue_s_colours_and_refuses_the_rest():
    label = np.arange(11, dtype=np.uint8)[None]
    assert [tuple(c) for c in everything.colorize(label, HELEN)[0].tolist()] == list(HELEN.colors)
    void = everything.colorize(np.array([[255]], np.uint8), HELEN)[0, 0]
    assert tuple(void) not in HELEN.colors
    with pytest.raises(DataError, match="11"):
        everything.colorize(np.array([[11]], np.uint8), HELEN)


def test_error_map_marks_the_wrong_pixels_and_never_void():
    truth, guess = np.array([[0, 1, 10, 255]], np.uint8), np.array([[0, 6, 10, 3]], np.uint8)
    right, wrong, also_right, void = (tuple(c) for c in everything.error_map(truth, guess)[0].tolist())
    assert right == also_right and wrong not in (right, void)


def test_a_figure_shows_photos_and_labels_of_other_sizes():
    one_row = everything.predictions(PHOTOS[:1], LABELS[:1], LABELS[:1], HELEN)
    assert len(everything.predictions(PHOTOS, LABELS, LABELS, HELEN).axes) == 3 * len(one_row.axes)
    assert len(everything.pairs(PHOTOS, LABELS, HELEN).axes) >= 6
    names = [text.get_text() for text in everything.pairs(PHOTOS, LABELS, HELEN).legends[0].get_texts()]
    assert names == list(HELEN.classes)


def test_bars_have_the_scores_height_and_the_intervals_length():
    scores = {"bg": 0.9, "face": 0.5, "nose": math.nan}
    figure = everything.f1_bars(scores, {"bg": (0.8, 0.95), "face": (0.4, 0.6)}, {"bg": 0.7})
    heights = [patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert heights[:2] == [0.9, 0.5] and math.isnan(heights[2])
    assert {"0.900", "0.500", "absent"} <= set(texts(figure))
    bars = figure.axes[0].collections[0].get_segments()
    assert [sorted(segment[:, 1].round(6)) for segment in bars[:2]] == [[0.8, 0.95], [0.4, 0.6]]


def test_confusion_shows_shares_of_the_rows():
    matrix = np.zeros((11, 11), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[1, 1] = 30, 10, 7
    assert {"0.75", "0.25", "1.00"} <= set(texts(everything.confusion(matrix, HELEN)))


def test_curves_draw_each_run_and_mark_each_note():
    rows = history()
    note = {**dict.fromkeys(rows[0], math.nan), "epoch": 2.5, "step": 25, "lr": 1e-4, "note": "lr 1e-04"}
    figure = everything.curves({"a": [*rows[:2], note, *rows[2:]], "b": history(start=0.1)}, HELEN)
    for axes in figure.axes:
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in dashed] == [2.5]
        assert "lr 1e-04" in [text.get_text() for text in axes.texts]
    losses = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert len(losses) == 2 and losses[0].get_ydata().tolist() == [
        3 / e for e in range(1, 6)
    ]  # the note breaks no line


@pytest.mark.parametrize("rows", [[], history(1)])
def test_short_histories_draw(rows):
    assert len(everything.png(everything.curves(rows, HELEN))) > 1000
    if not rows:
        assert any("no epoch" in text.get_text() for text in everything.curves(rows, HELEN).texts)


def noted(*changes):
    rows = history(10)
    blank = dict.fromkeys(rows[0], math.nan)
    return rows + [blank | {"epoch": epoch, "step": 10 * epoch, "lr": 1e-4, "note": note} for epoch, note in changes]


def test_changes_that_lie_close_are_all_written_on_every_curve():
    """Three within a text's width stand at three heights; of several at one step the last one counts."""
    rows = noted((4.0, "lr 0.1"), (4.0, "lr 0.001"), (4.1, "lr 0.0003"), (4.2, "lr 0.0001"))
    for axes in [*everything.curves(rows, HELEN).axes, *everything.class_curves(rows, HELEN).axes]:
        notes = [text for text in axes.texts if text.get_text().startswith("lr")]
        assert [text.get_text() for text in notes] == ["lr 0.001", "lr 0.0003", "lr 0.0001"]
        assert len({text.get_position()[1] for text in notes}) == 3
        assert sum(line.get_linestyle() == "--" for line in axes.lines) == 3


def test_the_trace_is_drawn_between_the_epochs():
    """The thin loss, and the rate in place of the epochs' last ones; it alone is enough for a first curve."""
    trace = [[0.5, 3.0, 1e-3], [1.0, 2.0, 1e-3], [1.5, 1.5, 1e-4]]
    for rows in (history(2), []):
        loss, *_, rate = everything.curves(rows, HELEN, trace).axes
        assert [2.0 in line.get_ydata() and len(line.get_xdata()) == 3 for line in loss.lines][-1]
        np.testing.assert_array_equal(rate.lines[0].get_xydata(), [[x, lr] for x, _, lr in trace])
        low, high = rate.get_ylim()
        assert low < 1e-4 and high > 1e-3


def test_a_sweep_shows_its_suggestion_and_hides_the_end():
    rates = np.geomspace(1e-5, 1, 20)
    losses = np.concatenate([np.linspace(3, 1, 19), [50.0]])
    figure = everything.lr_finder(rates, losses, 3e-3)
    (axes,) = figure.axes
    assert axes.lines[1].get_xdata()[0] == 3e-3 and any("3.0e-03" in text for text in texts(figure))
    assert axes.get_ylim()[1] == pytest.approx(3.9) and axes.get_xscale() == "log"


def test_directions_are_shares_of_the_strongest_in_falling_order():
    figure = everything.directions({"gradient": np.array([1.0, 4.0, 2.0]), "orthogonal": np.array([0.9, 0.9, 0.9])})
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3] and {"gradient", "orthogonal"} <= set(texts(figure))


def test_class_curves_name_every_class_with_its_last_value():
    shown = texts(everything.class_curves(history(), HELEN))
    assert all(f"{name} 0.250" in shown for name in HELEN.classes)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_architecture_has_a_box_a_block_and_no_text_on_another(depth):
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(11, depth=depth), torch.empty(1, 3, 256, 256))
    figure = everything.architecture(rows)
    boxes = [patch.get_gid() for patch in figure.axes[0].patches if patch.get_gid()]
    assert sorted(boxes) == sorted(["photo", *[row["name"] for row in rows]])
    figure.canvas.draw()
    drawn = [*figure.axes[0].texts, *figure.texts]
    extents = [text.get_window_extent().shrunk(0.98, 0.9) for text in drawn]
    pairs = [(a, b) for i, a in enumerate(extents) for b in extents[i + 1 :]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_shares_bars_have_the_shares_length():
    values = np.linspace(0.01, 0.3, 11)
    widths = [patch.get_width() for patch in everything.shares(values, HELEN).axes[0].patches]
    assert np.allclose(sorted(widths), sorted(values)) or np.allclose(np.ptp(widths), np.ptp(values))


def test_the_same_input_gives_the_same_png_in_any_thread():
    found = []

    def draw():
        found.append(everything.png(everything.predictions(PHOTOS, LABELS, LABELS[::1], HELEN)))

    draw()
    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert found[0] == found[1] and found[0][:4] == b"\x89PNG"


def test_save_is_whole(tmp_path):
    everything.save(everything.dice_example(np.eye(4) * 0.5, np.eye(4), 0.25), tmp_path / "a" / "d.png")
    assert (tmp_path / "a" / "d.png").read_bytes()[:4] == b"\x89PNG" and len(list((tmp_path / "a").iterdir())) == 1


def test_resampling_marks_where_averaging_changed_the_id():
    nearest, bilinear = np.array([[0, 10, 0, 10]], np.uint8), np.array([[0, 5, 0, 10]], np.uint8)
    figure = everything.resampling(np.array([[0, 10]], np.uint8), nearest, bilinear, HELEN)
    shown = [*texts(figure), *[axes.get_title() for axes in figure.axes], *[text.get_text() for text in figure.texts]]
    assert "changed by averaging: 25 %" in shown


def test_every_axes_of_the_curves_lies_within_the_figure():
    rows = [row | {"accuracy": 0.9} for row in history()]
    for runs in (rows, history(), {"a": rows, "b": rows}):
        figure = everything.curves(runs, HELEN)
        for axes in figure.axes:
            assert axes.bbox.y0 > 0 and axes.bbox.y1 < figure.bbox.height - 20  # room for a legend
    assert [axes.get_ylabel() for axes in everything.curves(rows, HELEN).axes][2] == "validation\naccuracy"


def test_swatches_show_a_colour_of_several_files_once_beside_its_nearest():
    building, sky = catalog.Row("Building", (128, 0, 0), "b"), catalog.Row("Sky", (128, 128, 128), "s")
    rows = [UnknownColor(f"{i}.png", (64, 192, 128), 700, sky, 91.0) for i in range(2)]
    figure = everything.swatches([UnknownColor("c.png", (130, 0, 0), 900, building, 2.0), *rows])
    shown = texts(figure)
    assert shown[3:] == [
        *("64, 192, 128   #40c080", "1,400 px in 2 files", "Sky, 91 off", "a class missing from the table?"),
        *("130, 0, 0   #820000", "900 px in c.png", "Building, 2 off", "most likely Building: repaint it"),
    ]
    faces = [tuple(np.rint(255 * np.array(patch.get_facecolor()[:3])).astype(int)) for patch in figure.axes[0].patches]
    assert faces == [(64, 192, 128), (128, 128, 128), (130, 0, 0), (128, 0, 0)]
    many = [UnknownColor("a.png", (i, 0, 0), 99 - i, building, 128.0 - i) for i in range(15)]
    assert len(everything.swatches(many).axes[0].patches) == 24 and "and 3 more" in texts(everything.swatches(many))
    assert any("is in the table" in text.get_text() for text in everything.swatches([]).texts)


def test_no_text_of_the_swatches_is_cut_or_lies_on_another():
    row = catalog.Row("A_very_long_class_name_of_someone", (1, 2, 3), "x")
    rows = [
        UnknownColor("a_very_long_file_name_of_someone.png", (255, 255, i), 10**7, row, 1e2 * (i % 2))
        for i in range(13)
    ]
    figure = everything.swatches(rows)
    figure.canvas.draw()
    extents = [text.get_window_extent().shrunk(0.98, 0.9) for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[i + 1 :])
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in extents)
