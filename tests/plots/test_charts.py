"""Charts show the numbers that they are given."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from helpers import catalog, plots
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")
BUILDING, SKY = catalog.Row("Building", (128, 0, 0), "b"), catalog.Row("Sky", (128, 128, 128), "s")


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def unknown(file, color, pixels, nearest, distance):
    """A row as the validation report has it."""
    code = "#" + bytes(color).hex()
    return SimpleNamespace(file=file, color=color, pixels=pixels, nearest=nearest, distance=distance, hex=code)


def test_bars_have_the_scores_height_and_the_intervals_length():
    scores = {"bg": 0.9, "face": 0.5, "nose": math.nan}
    figure = plots.f1_bars(scores, {"bg": (0.8, 0.95), "face": (0.4, 0.6)}, {"bg": 0.7})
    heights = [patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert heights[:2] == [0.9, 0.5] and math.isnan(heights[2])
    assert {"0.900", "0.500", "absent"} <= set(texts(figure))
    bars = figure.axes[0].collections[0].get_segments()
    assert [sorted(segment[:, 1].round(6)) for segment in bars[:2]] == [[0.8, 0.95], [0.4, 0.6]]


def test_confusion_shows_shares_of_the_rows():
    matrix = np.zeros((11, 11), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[1, 1] = 30, 10, 7
    assert {"0.75", "0.25", "1.00"} <= set(texts(plots.confusion(matrix, HELEN)))


def test_shares_bars_end_at_the_shares_and_name_them():
    values = np.array([0.5, 0.25, 0.125, 0.0625, 0.03, 0.02, 0.01, 0.002, 0.0005, 0.0, 0.0])
    figure = plots.shares(values, HELEN)
    ends = [patch.get_x() + patch.get_width() for patch in figure.axes[0].patches]
    assert ends == pytest.approx([*values[:9], 0.00025, 0.00025])  # no bar where there is nothing
    assert texts(figure) == ["50 %", "25 %", "12 %", "6.2 %", "3 %", "2 %", "1 %", "0.2 %", "0.05 %", "0 %", "0 %"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(HELEN.classes)


def test_lr_finder_shows_its_suggestion_and_hides_the_end():
    rates = np.geomspace(1e-5, 1, 20)
    losses = np.concatenate([np.linspace(3, 1, 19), [50.0]])
    figure = plots.lr_finder(rates, losses, 3e-3)
    (axes,) = figure.axes
    assert axes.lines[1].get_xdata()[0] == 3e-3 and any("3.0e-03" in text for text in texts(figure))
    assert axes.get_ylim()[1] == pytest.approx(3.9) and axes.get_xscale() == "log"


def test_directions_are_shares_of_the_strongest_in_falling_order():
    figure = plots.directions({"gradient": np.array([1.0, 4.0, 2.0]), "orthogonal": np.array([0.9, 0.9, 0.9])})
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3] and {"gradient", "orthogonal"} <= set(texts(figure))


def test_swatches_show_a_colour_of_several_files_once_beside_its_nearest():
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


def test_no_text_of_the_swatches_is_cut_or_lies_on_another():
    row = catalog.Row("A_very_long_class_name_of_someone", (1, 2, 3), "x")
    rows = [
        unknown("a_very_long_file_name_of_someone.png", (255, 255, i), 10**7, row, 1e2 * (i % 2)) for i in range(13)
    ]
    figure = plots.swatches(rows)
    figure.draw_without_rendering()
    extents = [text.get_window_extent().shrunk(0.98, 0.9) for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(extents) for b in extents[i + 1 :])
    assert all(0 <= box.x0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in extents)
