"""Curves hold the history's numbers, and every note is written."""

import math

import numpy as np
import pytest

from helpers import plots
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")


def history(epochs=5, start=0.2):
    return [
        dict(epoch=e, step=10 * e, loss=3 / e, val_loss=4 / e, lr=1e-3 / e, f1_overall=start + 0.1 * e, note="")
        | {f"f1_{name}": 0.05 * e for name in HELEN.classes}
        for e in range(1, epochs + 1)
    ]


def noted(*changes, epochs=10):
    """A history, and behind it a row for each (epoch, note)."""
    rows = history(epochs)
    blank = dict.fromkeys(rows[0], math.nan)
    return rows + [blank | {"epoch": epoch, "step": 10 * epoch, "lr": 1e-4, "note": note} for epoch, note in changes]


def test_curves_draw_each_run_and_mark_each_note():
    *rows, note = noted((2.5, "lr 1e-04"), epochs=5)
    figure = plots.curves({"a": [*rows[:2], note, *rows[2:]], "b": history(start=0.1)}, HELEN)
    for axes in figure.axes:
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in dashed] == [2.5]
        assert "lr 1e-04" in [text.get_text() for text in axes.texts]
    training, other = (line for line in figure.axes[0].lines if line.get_linestyle() == "-")
    assert training.get_xydata().tolist() == [[e - 0.5, 3 / e] for e in range(1, 6)]  # the middle; no gap at the note
    validation, other = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    assert validation.get_xydata().tolist() == [[e, 4 / e] for e in range(1, 6)]


@pytest.mark.parametrize("rows", [[], history(1)])
def test_short_histories_draw(rows):
    assert len(plots.png(plots.curves(rows, HELEN))) > 1000
    if not rows:
        assert any("no epoch" in text.get_text() for text in plots.curves(rows, HELEN).texts)


def test_changes_that_lie_close_are_all_written_on_every_curve():
    """Three within a text's width stand at three heights; of several at one step the last one counts."""
    rows = noted((4.0, "lr 0.1"), (4.0, "lr 0.001"), (4.1, "lr 0.0003"), (4.2, "lr 0.0001"))
    for axes in plots.curves(rows, HELEN).axes:
        notes = [text for text in axes.texts if text.get_text().startswith("lr")]
        assert [text.get_text() for text in notes] == ["lr 0.001", "lr 0.0003", "lr 0.0001"]
        assert len({text.get_position()[1] for text in notes}) == 3
        assert sum(line.get_linestyle() == "--" for line in axes.lines) == 3


def test_the_trace_is_drawn_between_the_epochs():
    """The thin loss, and the rate in place of the epochs' last ones; it alone is enough for a first curve."""
    trace = [[0.5, 3.0, 1e-3], [1.0, 2.0, 1e-3], [1.5, 1.5, 1e-4]]
    for rows in (history(2), []):
        loss, *_, rate = plots.curves(rows, HELEN, trace).axes
        assert [2.0 in line.get_ydata() and len(line.get_xdata()) == 3 for line in loss.lines][-1]
        np.testing.assert_array_equal(rate.lines[0].get_xydata(), [[x, lr] for x, _, lr in trace])
        low, high = rate.get_ylim()
        assert low < 1e-4 and high > 1e-3


def test_every_axes_of_the_curves_lies_within_the_figure():
    rows = [row | {"accuracy": 0.9} for row in history()]
    for runs in (rows, history(), {"a": rows, "b": rows}):
        figure = plots.curves(runs, HELEN)
        figure.draw_without_rendering()
        for axes in figure.axes:
            assert axes.bbox.y0 > 0 and axes.bbox.y1 < figure.bbox.height - 20  # room for a legend
    assert [axes.get_ylabel() for axes in plots.curves(rows, HELEN).axes][2] == "validation pixel accuracy"


def test_scores_lie_on_a_log_scale_of_the_error():
    """.5 is a third as high as .875; the label says the score itself; 1 has a place, too."""
    _, score, _ = plots.curves([row | {"f1_overall": 1.0} for row in history()], HELEN).axes
    height = score.transData.transform([(0, y) for y in (0, 0.5, 0.75, 0.875)])[:, 1]
    np.testing.assert_allclose(np.diff(height), height[1] - height[0], rtol=1e-6)
    assert {"0", "0.5", "0.9", "0.99"} <= {label.get_text() for label in score.get_yticklabels()}
    assert np.isfinite(score.transData.transform((1, 1.0))).all() and score.get_ylim()[1] > 0.999


def test_class_curves_have_a_chart_a_class_with_its_last_value_and_the_weakest_marked(texts_fit):
    rows = noted((4.0, "lr 0.1"), (4.0, "lr 0.001"), (4.1, "half"))
    rows[:10] = [row | {"f1_lb": 0.04 * row["epoch"]} for row in rows[:10]]
    figure = plots.class_curves(rows, HELEN)
    assert [axes.get_title("left") for axes in figure.axes][1:4] == ["face", "lb  left brow", "rb  right brow"]
    assert [axes.get_title("right") for axes in figure.axes] == ["0.500"] * 2 + ["0.400"] + ["0.500"] * 8
    weights = [axes._left_title.get_fontweight() for axes in figure.axes]
    assert weights.index("bold") == 2 and weights.count("bold") == 1
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    for axes in figure.axes:
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [4.0, 4.1]
    mean, brow = figure.axes[2].lines[:2]
    np.testing.assert_allclose(brow.get_ydata(), 0.04 * np.arange(1, 11))
    np.testing.assert_allclose(mean.get_ydata(), (10 * 0.05 + 0.04) / 11 * np.arange(1, 11))
    assert figure.texts[0].get_text().endswith("dashed: lr 0.001 (4), half (4.1)")
    texts_fit(figure)
