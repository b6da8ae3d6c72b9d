"""Losses on logits f32[B,C,H,W] and targets int64[B,H,W] with ids in [0,C) or 255 (void, left out)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .masks import VOID


def class_sums(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pixels of p*t, p and t for each image and class: three f32[B,C].

    p = soft-max of the logits, t = the target as 0/1. Taken from ids: no one-hot float image is made.
    """
    p = logits.float().softmax(1).flatten(2)  # [B,C,N]
    ids = target.flatten(1)  # [B,N]
    seen = (ids != VOID).to(p.dtype)
    ids = ids.where(ids != VOID, 0)
    p_true = p.gather(1, ids[:, None]).squeeze(1) * seen  # probability of the true class, 0 on void
    zeros = p.new_zeros(p.shape[:2])
    overlap = zeros.scatter_add(1, ids, p_true)
    truth = zeros.scatter_add(1, ids, seen)
    predicted = torch.einsum("bcn,bn->bc", p, seen)
    return overlap, predicted, truth


def dice_seed(logits: Tensor, target: Tensor) -> Tensor:
    """The write-up's Dice -> scalar in [0, B*C]: sum over images and classes of 1 - pt / (.7 p + .3 t + 1e-7).

    A class that an image lacks adds 1 and no gradient. Source: the project's write-up, after J. Jordan.
    """
    overlap, predicted, truth = class_sums(logits, target)
    return (1 - overlap / (0.7 * predicted + 0.3 * truth + 1e-7)).sum()


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice -> scalar in [0,1]: mean of 1 - 2 pt / (p + t) over the classes that each image holds."""
    overlap, predicted, truth = class_sums(logits, target)
    present = truth > 0
    terms = 1 - 2 * overlap / (predicted + truth).clamp_min(1e-7)
    return (terms * present).sum() / present.sum().clamp_min(1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the pixels that are not void -> scalar >= 0 (0 if all are void)."""
    total = F.cross_entropy(logits.float(), target, ignore_index=VOID, reduction="sum")
    return total / (target != VOID).sum().clamp_min(1)


def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Dice + cross-entropy -> scalar >= 0: Dice keeps the small classes, cross-entropy the calibration."""
    return dice(logits, target) + cross_entropy(logits, target)


LOSSES = {"dice_seed": dice_seed, "dice": dice, "cross_entropy": cross_entropy, "dice_ce": dice_ce}
