"""Losses against numbers worked out by hand, and void."""

import math

import pytest
import torch
from torch.nn import functional as F

from helpers import losses

# Two pixels, two classes: the logits ln 3 and 0 make probabilities 3/4 and 1/4.
LOGITS = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)
TARGET = torch.tensor([[[0, 1]]])
# class 0: p = 3/4, 1/2, t = 1, 0: pt = 3/4, p = 5/4, t = 1;  class 1: p = 1/4, 1/2, t = 0, 1: pt = 1/2, p = 3/4, t = 1


def test_the_sums_by_hand():
    overlap, predicted, truth = losses.class_sums(LOGITS, TARGET)
    torch.testing.assert_close(overlap, torch.tensor([[0.75, 0.5]]))
    torch.testing.assert_close(predicted, torch.tensor([[1.25, 0.75]]))
    torch.testing.assert_close(truth, torch.tensor([[1.0, 1.0]]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dice", ((1 - 1.5 / 2.25) + (1 - 1.0 / 1.75)) / 2),
        ("dice_original", (1 - 0.75 / (0.7 * 1.25 + 0.3)) + (1 - 0.5 / (0.7 * 0.75 + 0.3))),
        ("cross_entropy", (math.log(4 / 3) + math.log(2)) / 2),
        # p of the truth is 3/4 and 1/2: weights (1/4)^2 and (1/2)^2, pixel by pixel
        ("focal", 0.8 * (math.log(4 / 3) / 16 + math.log(2) / 4) / 2),
        # the mean cross-entropy is ln(8/3) / 2, so exp(-CE) = sqrt(3/8): one weight for all
        ("focal_original", 0.8 * (1 - math.sqrt(3 / 8)) ** 2 * math.log(8 / 3) / 2),
    ],
)
def test_losses_by_hand(name, expected):
    assert losses.LOSSES[name](LOGITS, TARGET).item() == pytest.approx(expected, rel=1e-5)


def test_of_absent_classes_the_original_dice_adds_one_each_and_dice_leaves_them_out():
    logits = torch.full((3, 4, 8, 8), -20.0)
    logits[:, 0] = 20.0
    target = torch.zeros(3, 8, 8, dtype=torch.int64)
    assert losses.dice_original(logits, target).item() == pytest.approx(3 * 3, abs=1e-4)  # 3 images x 3 absent classes
    assert losses.dice(logits, target).item() == pytest.approx(0, abs=1e-5)


def test_dice_equals_the_one_hot_formula():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 9, 7, generator=generator)
    target = torch.randint(0, 4, (3, 9, 7), generator=generator)
    p, t = logits.softmax(1), F.one_hot(target, 4).movedim(-1, 1)
    by_hand = 1 - 2 * (p * t).sum((2, 3)) / (p + t).sum((2, 3))  # every class is in every image here
    torch.testing.assert_close(losses.dice(logits, target), by_hand.mean())


def test_balanced_cross_entropy_by_hand():
    """Three pixels of class 0, one of class 1, each class's mean counts the same; class 2 is absent."""
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0] = math.log(2)  # probabilities 1/2, 1/4, 1/4 everywhere
    target = torch.tensor([[[0, 0], [0, 1]]])
    assert losses.balanced_cross_entropy(logits, target).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    expected = losses.dice(logits, target) + (0.2 * 1.5 + 0.8 * 1.25) * math.log(2)
    torch.testing.assert_close(losses.dice_ce(logits, target), expected)


def test_a_lost_small_class_is_found_by_the_balanced_term():
    """One pixel in 4096 of a class that the network gives no chance: its gradient there."""
    grads = {}
    for name in ("dice", "cross_entropy", "dice_ce"):
        logits = torch.zeros(1, 2, 64, 64)
        logits[:, 1] = -10.0
        logits.requires_grad_()
        target = torch.zeros(1, 64, 64, dtype=torch.int64)
        target[0, 5, 5] = 1
        losses.LOSSES[name](logits, target).backward()
        grads[name] = -logits.grad[0, 1, 5, 5].item()
    assert grads["dice"] < 1e-3 and grads["cross_entropy"] < 1e-3 and grads["dice_ce"] > 0.05


def test_the_two_focal_losses_agree_where_all_pixels_are_alike():
    logits, target = LOGITS[..., :1].expand(2, 2, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
    torch.testing.assert_close(losses.focal(logits, target), losses.focal_original(logits, target))


def test_focal_keeps_its_digits_where_a_pixel_is_nearly_right():
    """CE = 1e-4: 1 - exp(-CE) in single precision would keep three digits. The oracle: double precision."""
    ce = torch.tensor(1e-4)
    assert losses.focus(ce).item() == pytest.approx(0.8 * math.expm1(-ce.item()) ** 2 * ce.item(), rel=1e-6, abs=0)


@pytest.mark.parametrize("name", ["focal", "focal_original"])
@pytest.mark.parametrize(("size", "expected"), [(-1e4, 0.8 * 1e4), (1e4, 0.0), (-1e30, 0.8 * 1e30), (1e30, 0.0)])
def test_focal_of_extreme_logits_is_finite(name, size, expected):
    """Logits 0 and size, the truth the second: CE is -size where size is far below 0, and 0 far above."""
    logits = torch.tensor([0.0, size]).reshape(1, 2, 1, 1).requires_grad_()
    loss = losses.LOSSES[name](logits, torch.ones(1, 1, 1, dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6) and logits.grad.isfinite().all()
    assert logits.grad.flatten().tolist() == (pytest.approx([0.8, -0.8]) if size < 0 else [0.0, 0.0])


@pytest.mark.parametrize("name", losses.LOSSES)
def test_void_pixels_do_not_count(name):
    """The loss of an image whose lower half is void is the loss of its upper half; no gradient reaches void."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 5, 8, 6, generator=generator, requires_grad=True)
    target = torch.randint(0, 5, (2, 8, 6), generator=generator)
    target[:, 4:] = 255
    loss = losses.LOSSES[name](logits, target)
    torch.testing.assert_close(loss, losses.LOSSES[name](logits[:, :, :4], target[:, :4]))
    loss.backward()
    assert (logits.grad[:, :, 4:] == 0).all() and (logits.grad[:, :, :4] != 0).any()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_all_void_is_zero_and_moves_nothing(name):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = losses.LOSSES[name](logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss == 0 and (logits.grad == 0).all()
