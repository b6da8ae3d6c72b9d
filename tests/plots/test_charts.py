"""Charts show the numbers that they are given."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import catalog, plots
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")
BUILDING, SKY = catalog.Row("Building", (128, 0, 0), "b"), catalog.Row("Sky", (128, 128, 128), "s")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def keys(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def unknown(file, color, pixels, nearest, distance):
    """A row as the validation report has it."""
    code = "#" + bytes(color).hex()
    return SimpleNamespace(file=file, color=color, pixels=pixels, nearest=nearest, distance=distance, hex=code)


def test_dots_stand_at_the_scores_the_best_first_and_the_groups_below(texts_fit):
    scores = {"bg": 0.5, "face": 0.9, "nose": math.nan, "lb": 0.7, "eyes": 0.95}
    reported = {"report": {"face": 0.65, "eyes": 0.7}}
    figure = plots.f1_dots(scores, HELEN, {"bg": (0.4, 0.6), "face": (0.8, 0.95)}, reported, "here")
    (axes,) = figure.axes
    assert names(axes) == ["face", "lb  left brow", "bg  background", "nose", "eyes"]
    assert axes.get_yticks().tolist() == [0, 1, 2, 3, 5]  # the groups a row apart
    drawn = [line for line in axes.lines if len(line.get_xdata())]  # without the legend's
    dots = {(line.get_xdata()[0], line.get_ydata()[0]) for line in drawn if line.get_marker() in "os"}
    assert {(0.9, 0), (0.7, 1), (0.5, 2), (0.95, 5)} <= dots
    spans = [(list(line.get_xdata()), line.get_ydata()[0]) for line in drawn if line.get_marker() == "None"]
    assert ([0.8, 0.95], 0) in spans and ([0.4, 0.6], 2) in spans
    (marks,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert marks.get_xdata()[0] == 0.65 and marks.get_ydata()[0] == 0
    assert {"0.900   0.800 to 0.950", "0.700", "absent"} <= set(texts(figure))
    assert axes.get_xlim() == pytest.approx((0.38, 1))  # from .88, or lower where an interval is
    assert plots.f1_dots({"face": 0.9}, HELEN).axes[0].get_xlim() == pytest.approx((0.88, 1))
    texts_fit(figure)


def test_confusion_gives_the_errors_a_scale_of_their_own(texts_fit):
    matrix = np.zeros((11, 11), np.int64)
    matrix[0, :3], matrix[1, 1], matrix[2, 2], matrix[2, 0] = (950, 42, 8), 7, 999, 1
    figure = plots.confusion(matrix, HELEN)
    (axes,) = figure.axes
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown[0, 0] == "95" and shown[1, 0] == "4.2" and shown[2, 0] == "0.8" and shown[1, 1] == "100"
    assert shown[0, 2] == "0.1" and (3, 3) not in shown  # no pixel of the left eye: a grey row
    image = axes.images[0]
    assert image.get_array().mask[0, 0] and image.norm.vmax == pytest.approx(1.6 * 0.042)
    assert names(axes)[2:4] == ["lb  left brow", "rb  right brow"]
    texts_fit(figure)
    for name in ("pets", "camvid32"):
        count = len(load_dataset(name).classes)
        texts_fit(plots.confusion(np.full((count, count), 5), load_dataset(name)))


def test_shares_bars_end_at_the_shares_and_name_them(texts_fit):
    values = np.array([0.5, 0.25, 0.125, 0.0625, 0.03, 0.02, 0.01, 0.002, 0.0005, 0.0, 0.0])
    figure = plots.shares(values, HELEN)
    ends = [patch.get_x() + patch.get_width() for patch in figure.axes[0].patches]
    assert ends == pytest.approx([*values[:9], 0.00025, 0.00025])  # no bar where there is nothing
    assert texts(figure) == ["50 %", "25 %", "12 %", "6.2 %", "3 %", "2 %", "1 %", "0.2 %", "0.05 %", "0 %", "0 %"]
    texts_fit(figure)
    assert names(figure.axes[0])[2:4] == ["lb  left brow", "rb  right brow"]


def test_lr_finder_marks_both_rates_and_hides_the_end(texts_fit):
    losses = np.array([*np.linspace(3, 1, 19), 50.0])
    figure = plots.lr_finder(np.geomspace(1e-5, 1, 20), losses, 3e-3, 0.3)
    (axes,) = figure.axes
    assert [line.get_xdata()[0] for line in axes.lines[1:]] == [3e-3, 0.3]
    assert keys(figure) == ["the loss falls fastest: 0.003", "the recipe: 0.3"]
    assert axes.get_ylim()[1] == pytest.approx(3.9 + 0.05 * 2.9) and axes.get_xscale() == "log"
    texts_fit(figure)


def test_loss_runs_end_where_their_losses_do(texts_fit):
    falling, flat = np.linspace(4, 1, 30), np.full(30, 4.0)
    figure = plots.loss_runs({"1e-5 $low$": flat, "3e-3": falling, "1": np.array([4.0, 9.0, np.nan])})
    (axes,) = figure.axes
    assert axes.get_ylim() == (0, 6)
    np.testing.assert_allclose([line.get_ydata() for line in axes.lines[:2]], 4)
    assert axes.lines[5].get_ydata()[1] == pytest.approx((9 + 0.7 * 4) / 1.7)  # the mean of two, the older less
    assert keys(figure) == [r"1e-5 \$low\$", "3e-3", "1"]
    texts_fit(figure)


def test_skip_costs_say_what_is_lost(texts_fit):
    figure = plots.skip_costs({"whole": 0.95, "without level 0": 0.81, "without level 1": 0.96})
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.95, 0.81, 0.96]
    assert texts(figure) == ["0.950", "0.810   \N{MINUS SIGN}0.140", "0.960   +0.010"]
    texts_fit(figure)


def test_directions_are_shares_of_the_strongest_in_falling_order(texts_fit):
    figure = plots.directions({"gradient": np.array([1.0, 4.0, 2.0]), "orthogonal": np.array([0.9, 0.9, 0.9])})
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3] and {"gradient", "orthogonal"} <= set(texts(figure))
    kinds = "gradient (SGD)", "its signs (Adam's first step)", "Muon"
    texts_fit(plots.directions(dict(zip(kinds, np.geomspace((1, 1, 1), (0.1, 0.2, 0.6), 64).T, strict=True))))


def test_the_dice_example_shows_the_sums(texts_fit):
    figure = plots.dice_example(np.eye(4) * 0.5, np.eye(4), 0.25)
    assert [axes.get_xlabel() for axes in figure.axes] == ["sum 2.00", "sum 4.00", "sum 2.00"]
    texts_fit(figure)


def test_swatches_show_a_colour_of_several_files_once_beside_its_nearest(texts_fit):
    rows = [unknown(f"{i}.png", (64, 192, 128), 700, SKY, 91.0) for i in range(2)]
    figure = plots.swatches([unknown("c.png", (130, 0, 0), 900, BUILDING, 2.0), *rows])
    shown = texts(figure)
    assert shown[3:] == [
        *("64, 192, 128   #40c080", "1,400 px in 2 files", "Sky, 91 off", "a class missing from the table?"),
        *("130, 0, 0   #820000", "900 px in c.png", "Building, 2 off", "most likely Building: repaint it"),
    ]
    faces = [tuple(np.rint(255 * np.array(patch.get_facecolor()[:3])).astype(int)) for patch in figure.axes[0].patches]
    assert faces == [(64, 192, 128), (128, 128, 128), (130, 0, 0), (128, 0, 0)]
    many = [unknown("a.png", (i, 0, 0), 99 - i, BUILDING, 128.0 - i) for i in range(15)]
    assert len(plots.swatches(many).axes[0].patches) == 24 and "and 3 more" in texts(plots.swatches(many))
    assert any("is in the table" in text.get_text() for text in plots.swatches([]).texts)
    row = catalog.Row("A_very_long_class_name_of_someone", (1, 2, 3), "x")
    rows = [unknown("a_very_long_$file$_name.png", (255, 255, i), 10**7, row, 1e2 * (i % 2)) for i in range(13)]
    texts_fit(plots.swatches(rows))
