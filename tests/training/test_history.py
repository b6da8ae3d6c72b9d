"""A run's history: rows, notes, the best epoch, the end of patience, the printed line, the file."""

import math

import pytest
import tiny

from helpers import catalog
from helpers.training.history import History, read_history


def row(epoch, score, **more):
    f1 = {catalog.HELEN.column(name): score for name in catalog.HELEN.rows}
    classes = {f"f1_{name}": score for name in catalog.HELEN.classes}
    losses = {"loss": 1.5, "val_loss": 1.75}
    return {"epoch": epoch, "step": 2 * epoch, "lr": 1e-3, "images_per_s": 20.0} | losses | f1 | classes | more


def history(scores, **changes):
    """A history with an epoch for each score."""
    made = History(catalog.HELEN, tiny.settings(**changes))
    made.rows = [row(epoch + 1, score, note="") for epoch, score in enumerate(scores)]
    return made


def test_the_best_epoch_is_the_first_of_the_best_score():
    assert history([]).best_epoch == 0
    assert history([0.2, 0.6, 0.6, 0.1]).best_epoch == 2
    assert history([math.nan, 0.0]).best_epoch == 2  # an undefined score is below every defined one
    assert history([math.nan, math.nan]).best_epoch == 1  # but there is something to export


def test_an_epoch_at_half_size_is_never_the_best_once_one_at_full_size_is_there():
    one = history([0.9, 0.8, 0.1, 0.2], epochs=4, half_size_fraction=0.5)
    assert one.half_size_epochs == 2 and one.best_epoch == 4
    one.rows = one.rows[:2]
    assert one.best_epoch == 1


@pytest.mark.parametrize(("fraction", "epochs", "half"), [(0.0, 4, 0), (0.5, 4, 2), (0.9, 4, 3), (0.75, 2, 1)])
def test_half_size_epochs_leave_one_at_full_size(fraction, epochs, half):
    assert history([], epochs=epochs, half_size_fraction=fraction).half_size_epochs == half


def test_patience_ends_after_so_many_epochs_without_a_better_one():
    scores = [0.1, 0.5, 0.4, 0.3]
    assert [history(scores[:n], patience=2).ends_early(n) for n in range(1, 5)] == [False, False, False, True]
    assert not history(scores, patience=0).ends_early(4)
    assert not history(scores, patience=2, epochs=8, half_size_fraction=0.5).ends_early(4)  # all at half size


def test_a_note_is_a_row_of_its_own_with_the_columns_of_the_others():
    one = history([0.5])
    one.note("lr 1e-05", 1.25, 3, 1e-5)
    note = one.rows[-1]
    assert note.keys() == one.rows[0].keys() and math.isnan(note["loss"]) and math.isnan(note["f1_overall"])
    assert (note["note"], note["epoch"], note["step"], note["lr"]) == ("lr 1e-05", 1.25, 3, 1e-5)
    assert one.best_epoch == 1


def test_the_line_names_the_weakest_of_the_small_classes():
    one = history([])
    small = [catalog.HELEN.classes[i] for i in catalog.HELEN.small_classes]
    weak = row(3, 0.5, f1_overall=0.625, **{f"f1_{small[1]}": 0.25})
    line = "epoch   3/12  loss 1.500  val loss 1.750  val F1 0.625 (weakest {} {:.2f})  "
    line += "lr 1.0e-03  20 images/s  2:05 left"
    assert one.line(weak, 12, 125) == line.format(small[1], 0.25)
    weak |= {f"f1_{small[0]}": math.nan, "images_per_s": math.nan}
    assert one.line(weak, 12, 5.4) == line.format(small[0], math.nan).replace("  20 images/s  2:05", "  0:05")
    assert one.line(weak, 12, math.nan) == line.format(small[0], math.nan).replace("  20 images/s  2:05 left", "")


def test_the_file_gives_the_rows_back(tmp_path):
    one = history([0.25, math.nan])
    one.note("a, b", 2, 4, 1e-3)
    (tmp_path / "history.csv").write_text(one.to_csv())
    read = read_history(tmp_path / "history.csv")[""]
    assert [r.keys() for r in read] == [r.keys() for r in one.rows]
    for mine, theirs in zip(one.rows, read, strict=True):
        assert mine.pop("note") == theirs.pop("note")
        assert mine == pytest.approx(theirs, nan_ok=True)
    (tmp_path / "two.csv").write_text("run,epoch,note\na,1,\nb,1,\na,2,x\n")
    runs = read_history(tmp_path / "two.csv")
    assert runs["a"] == [{"epoch": 1.0, "note": ""}, {"epoch": 2.0, "note": "x"}] and len(runs["b"]) == 1
