"""Losses on logits f32[B,C,H,W] and targets int64[B,H,W] with ids in [0,C) or 255 (void, left out).

Each is built from sums and counts over the batch, which are added up over all ranks in distributed training.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .catalog import VOID
from .core import distributed


def ids_and_valid_mask(target: Tensor) -> tuple[Tensor, Tensor]:
    """int64[B,H,W] -> ids int64[B,N] with void as 0, and f32[B,N]: 1 on valid pixels, 0 on void."""
    ids = target.flatten(1)
    valid_mask = ids != VOID
    return ids.where(valid_mask, 0), valid_mask.float()


def class_sums(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the pixels of p*t, p and t for each image and class: three f32[B,C].

    p = soft-max of the logits, t = the target as 0 or 1, indexed by id: no one-hot float image is needed.
    """
    p = logits.float().softmax(1).flatten(2)  # [B,C,N]
    ids, valid_mask = ids_and_valid_mask(target)
    p_true = p.gather(1, ids[:, None]).squeeze(1) * valid_mask  # probability of the true class, 0 on void
    zeros = p.new_zeros(p.shape[:2])
    overlap = zeros.scatter_add(1, ids, p_true)
    truth = zeros.scatter_add(1, ids, valid_mask)
    predicted = torch.einsum("bcn,bn->bc", p, valid_mask)
    return overlap, predicted, truth


def dice_original(logits: Tensor, target: Tensor) -> Tensor:
    """The original report's Dice -> scalar in [0, B*C]: sum over images and classes of 1 - pt / (.7 p + .3 t + 1e-7).

    A class that an image lacks adds 1 and no gradient; an image of nothing but void adds nothing. After J. Jordan.
    """
    overlap, predicted, truth = class_sums(logits, target)
    terms = 1 - overlap / (0.7 * predicted + 0.3 * truth + 1e-7)
    has_label = truth.sum(1, keepdim=True) > 0
    return distributed.all_reduce_sum((terms * has_label).sum()[None])[0]


def dice(logits: Tensor, target: Tensor) -> Tensor:
    """Soft Dice -> scalar in [0,1]: mean of 1 - 2 pt / (p + t) over the classes present in each image."""
    overlap, predicted, truth = class_sums(logits, target)
    present = truth > 0
    terms = 1 - 2 * overlap / (predicted + truth).clamp_min(1e-7)
    return batch_mean((terms * present).sum(), present.sum())


def batch_mean(total: Tensor, count: Tensor) -> Tensor:
    """Sum and count over this rank's images -> mean over the whole batch; 0 if the count is 0."""
    total, count = distributed.all_reduce_sum(torch.stack((total, count.to(total.dtype))))
    return total / count.clamp_min(1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the valid pixels -> scalar >= 0 (0 if all are void)."""
    total = F.cross_entropy(logits.float(), target, ignore_index=VOID, reduction="sum")
    return batch_mean(total, (target != VOID).sum())


def balanced_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy, averaged within each class of each image, then over the classes present -> scalar >= 0.

    Every class weighs the same, so a pixel's weight is inverse to the size of its class in the image.
    """
    nll = F.cross_entropy(logits.float(), target, ignore_index=VOID, reduction="none").flatten(1)
    ids, valid_mask = ids_and_valid_mask(target)
    zeros = nll.new_zeros(logits.shape[:2])
    total, count = zeros.scatter_add(1, ids, nll), zeros.scatter_add(1, ids, valid_mask)
    return batch_mean((total / count.clamp_min(1)).sum(), (count > 0).sum())


def dice_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Dice + cross-entropy, a fifth of it balanced over the classes -> scalar >= 0.

    Where p of a small class is near 0, the gradient of Dice vanishes (it is multiplied by p) and that of the plain
    cross-entropy is tiny, so the network may never learn the class. The balanced term has a gradient there.
    A fifth: on 63 validation portraits F1 overall .887, with a half .873 (577 real ones, 16 epochs at demo size).
    """
    return dice(logits, target) + 0.8 * cross_entropy(logits, target) + 0.2 * balanced_cross_entropy(logits, target)


def focus(ce: Tensor) -> Tensor:
    """Cross-entropy -> 0.8 (1 - exp(-ce))^2 ce, of the same shape: pixels that are nearly right hardly count.

    Lin et al. 2017 (arXiv 1708.02002), alpha 0.8 and gamma 2; exp(-ce) is the probability of the true class.
    """
    return 0.8 * torch.expm1(-ce).square() * ce  # expm1: exact where ce is near 0


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Mean of `focus` over the valid pixels -> scalar >= 0 (0 if all are void)."""
    nll = F.cross_entropy(logits.float(), target, ignore_index=VOID, reduction="none")  # 0 on void
    return batch_mean(focus(nll).sum(), (target != VOID).sum())


def focal_original(logits: Tensor, target: Tensor) -> Tensor:
    """The original report's focal loss on CamVid: `focus` of the batch's mean cross-entropy -> scalar >= 0.

    One factor for the whole batch: all pixels weigh the same, and the steps shrink as the loss falls.
    """
    return focus(cross_entropy(logits, target))


NAMED = (dice_original, dice, cross_entropy, balanced_cross_entropy, dice_ce, focal, focal_original)
LOSSES = {loss.__name__: loss for loss in NAMED}
