"""Photos and labels as the network takes them: uint8 -> float, and random changes that move both together.

Every random number is a function of (seed, epoch, sample), so nothing has to be saved to continue a run exactly,
and a sample is changed in the same way whatever batch or process it comes in.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .catalog import VOID

TURN, SCALE, SHIFT = 15.0, 0.20, 0.08  # degrees; +-20 % of size; +-8 % of the side
BRIGHT, CONTRAST, TINT = 0.20, 0.25, 0.08  # shift and gain in units of 0..1; gain of a single colour


def to_float(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8[B,H,W,3] in 0..255 -> float32[B,3,H,W], (x / 255 - mean) / std."""
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def to_ids(labels: Tensor) -> Tensor:
    """uint8[B,H,W] -> int64[B,H,W], as the losses take them."""
    return labels.to(torch.int64)


def halve(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """uint8[B,H,W,3], uint8[B,H,W] -> half as many rows and columns: means of 2 x 2 pixels, and one of their four ids.

    Of the ids alternately the upper left and the lower right one, so that on the whole no outline moves.
    """
    means = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), 2).add_(0.5).to(torch.uint8).permute(0, 2, 3, 1)
    upper_left, lower_right = labels[:, :-1:2, :-1:2], labels[:, 1::2, 1::2]
    row, column = (torch.arange(side, device=labels.device) for side in upper_left.shape[1:])
    return means, torch.where((row[:, None] + column) % 2 == 1, lower_right, upper_left)


def flip_table(flip_pairs: tuple[tuple[int, int], ...]) -> Tensor:
    """Pairs of ids that trade places in a mirror -> uint8[256] lookup table."""
    table = torch.arange(256, dtype=torch.uint8)
    for a, b in flip_pairs:
        table[a], table[b] = b, a
    return table


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The same tensor there; to a GPU from page-locked memory, so that the copy does not wait for the GPU's work."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def uniform(seed: int, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """Random numbers in [0,1): float32[len(samples), count], each row a function of (seed, epoch, sample) alone."""
    generators = [np.random.default_rng((seed, epoch, int(sample))) for sample in samples]
    return np.stack([generator.random(count, np.float32) for generator in generators])


def affine(u: Tensor, rows: int, columns: int) -> Tensor:
    """Random numbers f32[B,>=4] in [0,1) -> f32[B,2,3] maps from output to input coordinates for grid_sample."""
    angle = (u[:, 0] * 2 - 1) * math.radians(TURN)
    zoom = torch.exp((u[:, 1] * 2 - 1) * math.log(1 + SCALE))
    shift = (u[:, 2:4] * 2 - 1) * 2 * SHIFT  # grid_sample's coordinates run from -1 to 1
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    # those coordinates do so on either side, however long: a turn of pixels takes the ratio of the sides along
    across, down = -sin * (rows / columns), sin * (columns / rows)
    return torch.stack((cos, across, shift[:, 0], down, cos, shift[:, 1]), 1).view(-1, 2, 3)


def warp(images: Tensor, labels: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """f32[B,3,H,W], uint8[B,H,W] -> the same moved, int64[B,H,W]; what comes from outside is reflected / void."""
    if images.device.type == "mps":  # before torch 2.11 grid_sample read other layouts wrongly there
        images = images.contiguous()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    shifted = labels[:, None].float() - VOID  # outside, grid_sample pads with 0, which then is void
    moved = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return images, (moved[:, 0] + VOID).long()


def recolor(images: Tensor, u: Tensor) -> Tensor:
    """Brightness, contrast and tint of f32[B,3,H,W] in 0..1 by random numbers f32[B,5] -> clamped to 0..1."""
    signed = (u * 2 - 1)[:, :, None, None]
    gain = (1 + signed[:, 1:2] * CONTRAST) * (1 + signed[:, 2:5] * TINT)
    middle = images.mean((1, 2, 3), keepdim=True)
    return ((images - middle) * gain + middle + signed[:, :1] * BRIGHT).clamp_(0, 1)


class Augment:
    """Random mirror, turn, zoom, shift and colour for whole batches on their device.

    strength: 1 as far as TURN and its like say, a half half as far; a mirror is a mirror, and swaps left and right ids.
    """

    def __init__(
        self, flip_pairs: tuple[tuple[int, int], ...], mean: float, std: float, seed: int, strength: float = 1.0
    ):
        self.table, self.mean, self.std, self.seed, self.strength = flip_table(flip_pairs), mean, std, seed, strength

    def __call__(self, images: Tensor, labels: Tensor, samples: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """uint8[B,H,W,3], uint8[B,H,W], sample numbers [B] -> float32[B,3,H,W] normalised, int64[B,H,W]."""
        u = to_device(torch.from_numpy(uniform(self.seed, epoch, samples, 10)), images.device)
        mirrored, u = u[:, 9] < 0.5, 0.5 + (u - 0.5) * self.strength  # 0.5: no change
        theta = affine(u, *labels.shape[1:])
        theta[:, 0] *= torch.where(mirrored, -1, 1)[:, None]  # the column that a pixel is taken from
        x, ids = warp(to_float(images, 0, 1), labels, theta)
        self.table = self.table.to(ids.device)  # copied once
        ids = torch.where(mirrored[:, None, None], self.table[ids].long(), ids)
        return (recolor(x, u[:, 4:9]) - self.mean) / self.std, ids
