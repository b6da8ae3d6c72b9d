"""Scores against hand-computed numbers and scikit-learn; groups, absent classes, void, folders of label maps."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from helpers import metrics
from helpers.core import masks
from helpers.core.errors import DataError
from helpers.core.registry import load_dataset

HELEN = load_dataset("helen")
SMALL = dataclasses.replace(
    HELEN,
    classes=("bg", "a", "b"),
    colors=HELEN.colors[:3],
    flip_pairs=((1, 2),),
    groups={"ab": (1, 2)},
    small_classes=(1, 2),
)
TRUTH = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 255]])
PREDICTION = torch.tensor([[0, 1, 1, 2], [0, 2, 1, 0]])
#          bg a  b     rows = truth; the void pixel is not counted
MATRIX = [[2, 1, 0], [0, 1, 1], [0, 1, 1]]


def test_confusion_by_hand():
    assert metrics.confusion(PREDICTION, TRUTH, 3).tolist() == MATRIX


def test_f1_by_hand():
    """bg: 2*2/(3+2); a: 2*1/(2+3); b: 2*1/(2+2); a or b, a taken for b being right: 2*4/(4+5)."""
    table = metrics.scores(np.array(MATRIX), SMALL)
    assert table == pytest.approx({"bg": 4 / 5, "a": 2 / 5, "b": 1 / 2, "ab": 8 / 9})
    assert metrics.mean_of_small_classes(np.array(MATRIX), SMALL) == pytest.approx((2 / 5 + 1 / 2) / 2)


def test_absent_is_nan_and_predicted_but_absent_is_zero():
    table = metrics.scores(np.array([[5, 1, 0], [0, 0, 0], [0, 0, 0]]), SMALL)
    assert table["a"] == 0 and np.isnan(table["b"]) and table["ab"] == 0
    assert metrics.mean_of_small_classes(np.array([[5, 1, 0], [0, 0, 0], [0, 0, 0]]), SMALL) == 0


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 11, (2, 5000))
    matrix = metrics.confusion(torch.from_numpy(prediction), torch.from_numpy(truth), 11).numpy()
    assert (matrix == oracle.confusion_matrix(truth, prediction)).all()
    table = metrics.scores(matrix, HELEN)
    for i, name in enumerate(HELEN.classes):
        assert table[name] == pytest.approx(oracle.f1_score(truth == i, prediction == i))
    for name, ids in HELEN.groups.items():
        assert table[name] == pytest.approx(oracle.f1_score(np.isin(truth, ids), np.isin(prediction, ids)))


def test_the_table_has_the_original_report_s_fifteen_lines_in_its_order():
    names = [*HELEN.classes, "eyes", "brows", "mouth", "overall"]
    text = metrics.lines(metrics.scores(np.eye(11, dtype=np.int64), HELEN))
    assert text.splitlines() == [f"f1_{name}=1.0000" for name in names]


def test_left_taken_for_right_is_right_in_the_group_alone():
    matrix = np.zeros((11, 11), np.int64)
    matrix[2, 3] = matrix[3, 2] = 7
    table = metrics.scores(matrix, HELEN)
    assert (table["lb"], table["rb"], table["brows"], table["overall"]) == (0, 0, 1, 1)


def test_bootstrap_of_equal_images_has_no_width():
    low, high = metrics.bootstrap(np.array([MATRIX] * 5), SMALL)["a"]
    assert low == high == pytest.approx(2 / 5)


def test_bootstrap_s_width_is_the_normal_approximation_s():
    """Images of one pixel each of class a, 30 of 100 predicted right: recall-like, so the spread is known."""
    right, wrong = [[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    matrices = np.array([right] * 30 + [wrong] * 70)
    intervals = metrics.bootstrap(matrices, SMALL, draws=4000)
    assert intervals["a"] == metrics.bootstrap(matrices, SMALL, draws=4000)["a"]
    low, high = intervals["a"]  # F1 = 2r / (1 + r) with r ~ .3 +- .0458
    r = np.array([0.3 - 1.96 * 0.0458, 0.3 + 1.96 * 0.0458])
    assert (low, high) == pytest.approx(tuple(2 * r / (1 + r)), abs=0.02)


def folders(tmp_path, truth, prediction):
    for name, label in (("truth", truth), ("prediction", prediction)):
        masks.write_label(tmp_path / name / "x.png", np.asarray(label, np.uint8))
    return tmp_path / "truth", tmp_path / "prediction"


def test_folders_of_label_maps_become_one_matrix_a_file(tmp_path):
    names, matrices = metrics.folder_matrices(*folders(tmp_path, [[0, 1, 6, 255]], [[0, 1, 3, 3]]), HELEN)
    expected = np.zeros((1, 11, 11), np.int64)
    expected[0, [0, 1, 6], [0, 1, 3]] = 1
    assert names == ["x"] and (matrices == expected).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[0, 1]], [[0], [1]], "sizes 2 x 1 and 1 x 2; predict at the photo's own size"),
        ([[0, 12]], [[0, 1]], "ids outside"),
        ([[0, 1]], [[0, 255]], "holds 255"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, truth, prediction, message):
    with pytest.raises(DataError, match=f"x.png: .*{message}"):
        metrics.folder_matrices(*folders(tmp_path, truth, prediction), HELEN)


def test_folders_that_do_not_fit_are_named(tmp_path):
    truth, prediction = folders(tmp_path, [[0]], [[0]])
    masks.write_label(truth / "y.png", np.zeros((1, 1), np.uint8))
    with pytest.raises(DataError, match="y.png is in only one of truth and prediction"):
        metrics.folder_matrices(truth, prediction, HELEN)
    assert metrics.folder_matrices(truth, prediction, HELEN, ["x"])[0] == ["x"]  # others may lie beside them
    with pytest.raises(DataError, match="nowhere holds no label PNGs"):
        metrics.folder_matrices(tmp_path / "nowhere", tmp_path / "nowhere", HELEN)


def test_iou_and_accuracy_by_hand_and_by_scikit_learn():
    """Two of eight pixels void; class 3 is nowhere: NaN, and left out of the mean."""
    truth = np.array([0, 0, 0, 1, 1, 2, 255, 255])
    guess = np.array([0, 0, 1, 1, 2, 2, 0, 1])
    matrix = metrics.confusion(torch.from_numpy(guess), torch.from_numpy(truth), 4).numpy()
    values = metrics.iou(matrix)
    assert values[:3].tolist() == [2 / 3, 1 / 3, 1 / 2] and np.isnan(values[3])
    assert float(metrics.mean_iou(matrix)) == pytest.approx((2 / 3 + 1 / 3 + 1 / 2) / 3)
    assert float(metrics.accuracy(matrix)) == pytest.approx(4 / 6)
    seen = truth != 255
    expected = oracle.jaccard_score(truth[seen], guess[seen], average=None)
    np.testing.assert_allclose(values[:3], expected)


def test_a_predicted_class_that_is_absent_has_iou_0_and_counts():
    matrix = metrics.confusion(torch.tensor([0, 1]), torch.tensor([0, 0]), 3).numpy()
    assert metrics.iou(matrix)[:2].tolist() == [0.5, 0.0]
    assert float(metrics.mean_iou(matrix)) == 0.25


def test_nothing_seen_is_nan():
    nothing = np.zeros((2, 3, 3), np.int64)
    assert np.isnan(metrics.mean_iou(nothing)).all() and np.isnan(metrics.accuracy(nothing)).all()
    assert np.isnan(metrics.bootstrap(nothing, SMALL)["a"]).all()


@pytest.mark.parametrize("name", ["helen", "camvid", "pets", "cityscapes"])
def test_the_primary_metric_of_each_image_is_the_dataset_s(name):
    dataset = load_dataset(name)
    classes = len(dataset.classes)
    matrices = np.random.default_rng(0).integers(1, 50, (3, classes, classes))
    each = metrics.primary_metric(matrices, dataset)
    for value, matrix in zip(each, matrices, strict=True):
        assert value == metrics.measures(matrix, dataset)[dataset.primary_metric]
    names = {*dataset.rows, "mean_iou", "accuracy", *(f"iou_{c}" for c in dataset.classes)}
    assert set(metrics.measures(matrices[0], dataset)) == names
