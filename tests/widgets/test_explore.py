"""Things to play with: numbers by hand, a picture that answers each control, and a sentence where there is nothing."""

import base64
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from IPython.core.formatters import DisplayFormatter

from helpers import catalog, predict, preprocess, unet, widgets
from helpers.widgets import explore

TRUTH = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]], np.uint8)
NO_ARRAYS = preprocess.Arrays(np.zeros((0, 8, 8, 3), np.uint8), np.zeros((0, 8, 8), np.uint8), [], "")


@pytest.fixture(scope="module")
def segmenter():
    torch.manual_seed(0)
    settings = tiny.settings()
    return predict.Segmenter(unet.build(settings, 11), settings, "cpu")


@pytest.fixture
def texts(monkeypatch):
    """All that stands in the last picture drawn, in one string."""
    found = []

    def png(figure, draw=explore.plots.png):
        words = [*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, axes.title))]
        assert all(text.get_fontsize() * figure.dpi / 72 >= 11 for text in words)
        found[:] = ["\n".join(text.get_text() for text in words)]
        return draw(figure)

    monkeypatch.setattr(explore.plots, "png", png)
    return lambda: found[0]


def turn(explorer, number, value):
    """Set a control; whether the picture is another one then."""
    before = explorer.picture.value
    explorer.controls[number].value = value
    return explorer.picture.value != before


def test_dice_by_clicks(texts):
    """Truth and prediction of four pixels: two in common, then three, then none."""
    one = widgets.dice_grid(torch.from_numpy(TRUTH))
    _, grid, clear = one.controls
    assert [pixel.description for pixel in grid.children[4:8]] == ["TN", "FN", "TP", "FP"]
    assert "= 4 / 8\n= 0.500" in texts() and "= 2 / 6\n= 0.333" in texts() and "= 12 / 16\n= 0.750" in texts()
    [grid.children[number].click() for number in (5, 7)]
    assert "= 6 / 8\n= 0.750" in texts() and "= 3 / 5\n= 0.600" in texts() and "= 14 / 16\n= 0.875" in texts()
    clear.click()  # as accurate as the first prediction, and no pixel of the class is found
    assert "= 0 / 4\n= 0.000" in texts() and "= 12 / 16\n= 0.750" in texts()


def test_dice_of_nothing(texts):
    widgets.dice_grid(np.zeros((4, 4)))
    assert texts().count("no score") == 2 and "16 / 16\n= 1.000" in texts()


def test_augmentation(texts):
    one = widgets.augmentation(tiny.arrays()["train"], catalog.HELEN, sample=3)
    assert "sample 3" in texts() and "strength 1, epoch 0" in texts()
    assert turn(one, 0, 2.0) and turn(one, 1, 5) and "strength 2, epoch 5" in texts()
    widgets.augmentation(NO_ARRAYS, catalog.HELEN)
    assert "no sample 0" in texts()


def test_feature_maps(segmenter, texts):
    """32 px, width 4, depth 2: 4 channels of 32 x 32, at the bottom 16 of 8 x 8, at the end 11 logits."""
    one = widgets.feature_maps(segmenter, tiny.sample(0)[0])
    assert list(one.controls[0].options) == ["in", "down1", "down2", "up1", "up2", "out"]
    assert "in, channel 0: 32 x 32" in texts() and one.controls[1].max == 3
    assert turn(one, 0, "down2") and "down2, channel 0: 8 x 8" in texts()
    assert turn(one, 1, 15) and "channel 15" in texts()
    assert turn(one, 0, "out") and one.controls[1].value == 10 and "out, hair: 32 x 32" in texts()
    assert not any(part._forward_hooks for part in segmenter.model.modules())


def test_errors(texts):
    """The first guess is right (F1 1), the second finds one of the nose's two pixels: F1 2/3; the third has no nose."""
    truths = [np.full((2, 2), 1, np.uint8) for _ in range(3)]
    truths[0][0], truths[1][0] = 6, 6
    guesses = [truth.copy() for truth in truths]
    guesses[1][0, 0] = 1
    one = widgets.errors(np.zeros((3, 2, 2, 3), np.uint8), truths, guesses, catalog.HELEN)
    assert "None of the 3 images has 'lb'" in texts()
    assert turn(one, 0, "nose") and one.controls[2].max == 2
    assert "1. nose F1 0.67" in texts() and "2. nose F1 1.00" in texts() and "3." not in texts()
    assert turn(one, 1, "best first") and "1. nose F1 1.00" in texts()
    assert turn(one, 2, 2) and "2. nose F1 0.67" in texts() and "1. nose" not in texts()
    widgets.errors([], [], [], catalog.HELEN)
    assert "None of the 0 images" in texts()


def test_confidence(texts):
    """Predicted face, face (p = .8) and hair, hair (p = 1), in truth face, void, hair, bg."""
    logits = torch.full((1, 11, 2, 2), -100.0)
    logits[0, 1, 0], logits[0, 0, 0], logits[0, 10, 1] = np.log(4), 0, 100
    fake = SimpleNamespace(settings=SimpleNamespace(shape=(2, 2)), dataset=catalog.HELEN, logits=lambda _: logits)
    photo, truth = np.zeros((2, 2, 3), np.uint8), np.array([[1, 255], [10, 0]], np.uint8)
    one = widgets.confidence(fake, photo, truth)
    assert "50.0% of the pixels have a probability of at least 0.90; 50.0% of them are right" in texts()
    assert turn(one, 0, 0.5) and "100.0% of the pixels" in texts() and "; 66.7% of them" in texts()
    widgets.confidence(fake, photo, np.full_like(truth, 255))
    assert "none can be scored" in texts()
    widgets.confidence(fake, photo)
    assert "right" not in texts() and "largest probability" in texts()


def test_what_a_notebook_keeps():
    """The widget, and for a reader without a kernel its picture."""
    one = widgets.dice_grid(TRUTH)
    data, _ = DisplayFormatter().format(one)
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == one.model_id
    assert base64.b64decode(data["image/png"]) == one.picture.value
