"""Photos and labels as the network takes them: uint8 -> float, and random changes that move both together.

Every random number is a function of (seed, epoch, sample), so nothing has to be saved to continue a run exactly,
and a sample is changed in the same way whatever batch or process it comes in.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .core.masks import VOID

TURN, SCALE, SHIFT = 15.0, 0.20, 0.08  # degrees; +-20 % of size; +-8 % of the side
BRIGHT, CONTRAST, TINT = 0.20, 0.25, 0.08  # shift and gain in units of 0..1; gain of a single colour


def to_float(images: Tensor, mean: float, std: float) -> Tensor:
    """uint8[B,H,W,3] in 0..255 -> float32[B,3,H,W], (x / 255 - mean) / std."""
    x = images.permute(0, 3, 1, 2).to(torch.float32)
    return (x / 255 - mean) / std


def to_ids(labels: Tensor) -> Tensor:
    """uint8[B,H,W] -> int64[B,H,W], as the losses take them."""
    return labels.to(torch.int64)


def halve(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """uint8[B,H,W,3], uint8[B,H,W] -> half as many rows and columns: means of 2 x 2 pixels, and one of their four ids.

    Of the ids alternately the upper left and the lower right one, so that on the whole no outline moves.
    """
    rows, columns = labels.shape[1] // 2 * 2, labels.shape[2] // 2 * 2
    x = images[:, :rows, :columns].permute(0, 3, 1, 2).float()
    means = F.avg_pool2d(x, 2).add_(0.5).to(torch.uint8).permute(0, 2, 3, 1)
    first, last = labels[:, 0:rows:2, 0:columns:2], labels[:, 1:rows:2, 1:columns:2]
    row, column = (torch.arange(side // 2, device=labels.device) for side in (rows, columns))
    return means, torch.where((row[:, None] + column) % 2 == 1, last, first)


def flip_table(flip_pairs: tuple[tuple[int, int], ...]) -> Tensor:
    """Pairs of ids that trade places in a mirror -> uint8[256] lookup table."""
    table = torch.arange(256, dtype=torch.uint8)
    for a, b in flip_pairs:
        table[a], table[b] = b, a
    return table


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The same there; to a card from page-locked memory, so that nothing waits for what the card still has to do."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def flip(images: Tensor, labels: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror uint8[B,H,W,3] and uint8[B,H,W] left to right; left and right ids trade places by a `flip_table`."""
    return images.flip(2), table[labels.flip(2).long()]


def uniform(seed: int, epoch: int, samples: np.ndarray, count: int) -> np.ndarray:
    """Stateless random numbers in [0,1): float64[len(samples), count], from splitmix64 of (seed, epoch, sample)."""
    with np.errstate(over="ignore"):  # the hash is meant to wrap around
        key = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(epoch) * np.uint64(0xD1342543DE82EF95)
        x = mix(key + np.asarray(samples, np.uint64)[:, None] * np.uint64(0xA0761D6478BD642F))
        x = mix(x + np.arange(1, count + 1, dtype=np.uint64)[None] * np.uint64(0xE7037ED1A0B428DB))
    return (x >> np.uint64(11)) * 2.0**-53


def mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser on uint64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def affine(u: Tensor, rows: int, columns: int) -> Tensor:
    """Random numbers f32[B,>=4] in [0,1) -> f32[B,2,3] maps from output to input coordinates for grid_sample."""
    angle = (u[:, 0] * 2 - 1) * math.radians(TURN)
    zoom = torch.exp((u[:, 1] * 2 - 1) * math.log(1 + SCALE))
    shift = (u[:, 2:4] * 2 - 1) * 2 * SHIFT  # grid_sample's coordinates run from -1 to 1
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    # those coordinates do so on either side, however long: a turn of pixels takes the ratio of the sides along
    across, down = -sin * (rows / columns), sin * (columns / rows)
    return torch.stack((torch.stack((cos, across, shift[:, 0]), 1), torch.stack((down, cos, shift[:, 1]), 1)), 1)


def warp(images: Tensor, labels: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Move f32[B,3,H,W] bilinearly and uint8[B,H,W] by nearest pixel; what comes from outside is reflected / void."""
    if images.device.type == "mps":  # before torch 2.11 grid_sample read other layouts wrongly there
        images = images.contiguous()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    shifted = labels[:, None].float() - VOID  # outside, grid_sample pads with 0, which then is void
    moved = F.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return images, (moved[:, 0] + VOID).to(torch.uint8)


def recolor(images: Tensor, u: Tensor) -> Tensor:
    """Brightness, contrast and tint of f32[B,3,H,W] in 0..1 by random numbers f32[B,5] -> clamped to 0..1."""
    signed = (u * 2 - 1)[:, :, None, None]
    bright, contrast = signed[:, 0:1] * BRIGHT, 1 + signed[:, 1:2] * CONTRAST
    tint = 1 + signed[:, 2:5] * TINT
    middle = images.mean((1, 2, 3), keepdim=True)
    return ((images - middle) * contrast * tint + middle + bright).clamp_(0, 1)


class Augment:
    """Random flip, turn, zoom, shift and colour for whole batches on their device.

    strength: 1 as far as TURN and its like say, a half half as far; a flip is a flip.
    """

    def __init__(
        self, flip_pairs: tuple[tuple[int, int], ...], mean: float, std: float, seed: int, strength: float = 1.0
    ):
        self.table, self.mean, self.std, self.seed, self.strength = flip_table(flip_pairs), mean, std, seed, strength

    def __call__(self, images: Tensor, labels: Tensor, samples: np.ndarray, epoch: int) -> tuple[Tensor, Tensor]:
        """uint8[B,H,W,3], uint8[B,H,W], sample numbers [B] -> float32[B,3,H,W] normalised, int64[B,H,W]."""
        u = to_device(torch.from_numpy(uniform(self.seed, epoch, samples, 10)).float(), images.device)
        self.table = self.table.to(labels.device)  # copied once
        mirrored, u = (u[:, 9] < 0.5)[:, None, None], 0.5 + (u - 0.5) * self.strength  # 0.5: no change
        flipped, swapped = flip(images, labels, self.table)
        labels = torch.where(mirrored, swapped, labels)
        images = torch.where(mirrored[..., None], flipped, images)
        x, labels = warp(to_float(images, 0, 1), labels, affine(u, *labels.shape[1:]))
        return (recolor(x, u[:, 4:9]) - self.mean) / self.std, to_ids(labels)
