"""The U-Net by its blocks: DoubleConv, Down, Up, UNet. It returns logits; soft-max is left to the losses."""

import contextlib
import itertools
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .core.errors import UNetError

NORMS = ("batch", "none")
UPS = ("transpose", "nearest", "bilinear")


def check_choice(what: str, name: str, known: Collection[str]) -> None:
    """UNetError that names the choices if `name` is none of them."""
    if name not in known:
        raise UNetError(f"no {what} called {name!r}: choose one of {', '.join(known)}")


def upsample(up: str, cin: int, cout: int) -> nn.Module:
    """Double the size: f32[B,cin,h,w] -> f32[B,cout,2h,2w]. "transpose" is the paper's learned up-convolution.

    The others resize features (never labels) and convolve them. 3x3, as in Odena et al. 2016 (doi
    10.23915/distill.00003): a padded 2x2 convolution has no centre and would shift features against the skip.
    """
    check_choice("up", up, UPS)
    if up == "transpose":
        return nn.ConvTranspose2d(cin, cout, 2, stride=2)
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=up), nn.Conv2d(cin, cout, 3, padding=1))


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each followed by a norm and LeakyReLU: f32[B,cin,H,W] -> f32[B,cout,H,W].

    slope 0: ReLU. padded False: f32[B,cout,H-4,W-4].
    """

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05, padded: bool = True):
        super().__init__()
        check_choice("norm", norm, NORMS)
        layers: list[nn.Module] = []
        for channels in (cin, cout):
            layers += [
                nn.Conv2d(channels, cout, 3, padding=int(padded), bias=norm == "none"),  # a norm would undo the bias
                nn.BatchNorm2d(cout) if norm == "batch" else nn.Identity(),
                nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Down(nn.Module):
    """Halve the size, then DoubleConv: f32[B,cin,H,W] -> f32[B,cout,H//2,W//2]; 4 less where it is not padded."""

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05, padded: bool = True):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.conv = DoubleConv(cin, cout, norm, slope, padded)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


class Up(nn.Module):
    """Double the size, join with `skip` from the way down, then DoubleConv.

    x f32[B,cin,h,w], skip f32[B,cout,H,W] with H in (2h, 2h+1) -> f32[B,cout,H,W].
    padded False: skip with H >= 2h, cropped to its middle as in the paper -> f32[B,cout,2h-4,2w-4].
    """

    def __init__(
        self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05, up: str = "transpose", padded: bool = True
    ):
        super().__init__()
        self.up = upsample(up, cin, cout)
        self.conv = DoubleConv(2 * cout, cout, norm, slope, padded)
        self.padded = padded

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        more_rows, more_columns = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
        if not self.padded:
            skip = skip[..., more_rows // 2 :, more_columns // 2 :][..., : x.shape[-2], : x.shape[-1]]
        elif more_rows or more_columns:  # an odd size loses a row or column when it is halved: pad it back
            x = F.pad(x, (0, more_columns, 0, more_rows), mode="replicate")
        return self.conv(torch.cat((skip, x), dim=1))


class UNet(nn.Module):
    """Photo f32[B,3,H,W] -> logits f32[B,classes,H,W], for any H and W of at least 2**depth.

    Ronneberger et al. 2015 (arXiv 1505.04597) with padded convolutions, so that the output has the input's size.
    padded False: as in the paper; only some sizes fit (`unpadded_side`), and 572 x 572 gives 388 x 388.
    """

    def __init__(
        self,
        classes: int,
        width: int = 64,
        depth: int = 4,
        norm: str = "batch",
        slope: float = 0.05,
        up: str = "transpose",
        padded: bool = True,
    ):
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]  # 64 128 256 512 1024
        levels = list(itertools.pairwise(channels))
        self.enter = DoubleConv(3, width, norm, slope, padded)
        self.downs = nn.ModuleList(Down(wide, deep, norm, slope, padded) for wide, deep in levels)
        self.ups = nn.ModuleList(Up(deep, wide, norm, slope, up, padded) for wide, deep in reversed(levels))
        self.out = nn.Conv2d(width, classes, 1)
        self.padded = padded

    def forward(self, x: Tensor) -> Tensor:
        least = 2 ** len(self.downs) if self.padded else 1
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[-2:]) < least:
            raise ValueError(f"UNet takes [B,3,H,W] with H and W of at least {least}, got {list(x.shape)}")
        if not self.padded:
            check_unpadded(x.shape[-2], x.shape[-1], len(self.downs))
        features = [self.enter(x)]
        for down in self.downs:
            features.append(down(features[-1]))
        x = features.pop()
        for up in self.ups:
            x = up(x, features.pop())
        return self.out(x)


def build(settings: Any, classes: int) -> UNet:
    """The network that a settings.Settings describes."""
    return UNet(classes, settings.width, settings.depth, settings.norm, settings.slope, settings.up)


def unpadded_side(side: int, depth: int = 4) -> int:
    """Input side of an unpadded network -> output side; 0 where an odd side would be halved or nothing is left.

    Two 3x3 convolutions take 4 away, on every level. With n = 2**depth the lowest level ends with (side + 4) / n - 8,
    and the way up turns m into n m - 4 (n - 1).
    """
    n = 2**depth
    return max(0, side + 8 - 12 * n) if (side + 4) % n == 0 else 0


def check_unpadded(rows: int, columns: int, depth: int) -> None:
    """UNetError if an unpadded network cannot take that size; it names some that fit."""
    if not (unpadded_side(rows, depth) and unpadded_side(columns, depth)):
        n = 2**depth
        fitting = ", ".join(str(k * n - 4) for k in range(12, 16))
        fault = f"{rows} x {columns} does not fit a UNet of depth {depth} without padding"
        raise UNetError(f"{fault}: give sides of k * {n} - 4 pixels ({fitting}, ...)")


def count_parameters(module: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def trace(model: UNet, x: Tensor) -> list[dict]:
    """Follow a batch f32[B,3,H,W] through the blocks: one row each with name, input, output (shapes), params."""
    levels = range(1, len(model.downs) + 1)
    names = ["in", *[f"down{i}" for i in levels], *[f"up{i}" for i in levels], "out"]
    rows: list[dict] = []

    def note(block: nn.Module, inputs: tuple, output: Tensor) -> None:
        shapes = {"input": tuple(inputs[0].shape), "output": tuple(output.shape)}
        rows.append({"name": names[len(rows)]} | shapes | {"params": count_parameters(block)})

    with contextlib.ExitStack() as hooks:
        for block in (model.enter, *model.downs, *model.ups, model.out):
            hooks.callback(block.register_forward_hook(note).remove)
        model(x)
    return rows


def receptive_field(depth: int = 4, up: str = "transpose") -> int:
    """Side, in pixels, of the square of the photo that one output pixel can see at most.

    Followed backwards: two 3x3 convolutions widen a square by 4; on the way up a square of side n comes from at most
    n // 2 + 1 pixels of the level below; on the way down each pixel comes from 2. The 3x3 convolution of "nearest"
    and "bilinear" widens by 2 more; "bilinear" blends two pixels into each, so that n come from at most n // 2 + 2.
    """
    resize, blend = 2 * (up != "transpose"), int(up == "bilinear")
    side = 1
    for _ in range(depth):
        side = (side + 4 + resize) // 2 + 1 + blend
    side += 4  # the bottleneck
    for _ in range(depth):
        side = 2 * side + 4
    return side
