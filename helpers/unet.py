"""The U-Net by its blocks: DoubleConv, Down, Up, OutConv, UNet. Returns logits, never soft-max."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .core.errors import UNetError

NORMS = {"batch": nn.BatchNorm2d, "none": nn.Identity}


def transposed(cin: int, cout: int) -> nn.Module:
    """The paper's up-convolution, learned whole: f32[B,cin,h,w] -> f32[B,cout,2h,2w]."""
    return nn.ConvTranspose2d(cin, cout, 2, stride=2)


def resized(mode: str) -> Callable[[int, int], nn.Module]:
    """Features (never labels) resized by `mode`, then a convolution: f32[B,cin,h,w] -> f32[B,cout,2h,2w].

    3x3, as in Odena et al. 2016 (doi 10.23915/distill.00003): a 2x2 one has no centre, and padded to keep the size it
    would shift the features by half a pixel against the skip that they are joined with.
    """

    def make(cin: int, cout: int) -> nn.Module:
        return nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(cin, cout, 3, padding=1))

    return make


UPS = {"transpose": transposed, "nearest": resized("nearest"), "bilinear": resized("bilinear")}


def choose(what: str, name: str, known: dict) -> Callable:
    """The entry of that name; UNetError names the choices."""
    if name not in known:
        raise UNetError(f"no {what} called {name!r}: choose one of {', '.join(known)}")
    return known[name]


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each followed by a norm and LeakyReLU: f32[B,cin,H,W] -> f32[B,cout,H,W].

    slope 0: ReLU. padded False: f32[B,cout,H-4,W-4].
    """

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05, padded: bool = True):
        super().__init__()
        layers = []
        for channels in (cin, cout):
            layers += [
                nn.Conv2d(channels, cout, 3, padding=int(padded), bias=norm == "none"),  # a norm would undo the bias
                choose("norm", norm, NORMS)(cout),
                nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Down(nn.Module):
    """Half the size, then DoubleConv: f32[B,cin,H,W] -> f32[B,cout,H//2,W//2]; 4 less where it is not padded."""

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05, padded: bool = True):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.conv = DoubleConv(cin, cout, norm, slope, padded)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


class Up(nn.Module):
    """Twice the size, joined with `skip` from the way down, then DoubleConv.

    x f32[B,cin,h,w], skip f32[B,cout,H,W] with H in (2h, 2h+1) -> f32[B,cout,H,W].
    padded False: skip with H >= 2h -> f32[B,cout,2h-4,2w-4]; what doubles the size loses nothing, as in the paper.
    """

    def __init__(
        self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05, up: str = "transpose", padded: bool = True
    ):
        super().__init__()
        self.up = choose("up", up, UPS)(cin, cout)
        self.conv = DoubleConv(2 * cout, cout, norm, slope, padded)
        self.padded = padded

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        more_rows, more_columns = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
        if not self.padded:  # the middle of skip: what lies around it was lost by x on its way
            skip = skip[..., more_rows // 2 :, more_columns // 2 :][..., : x.shape[-2], : x.shape[-1]]
        elif more_rows or more_columns:  # 1 where an odd size was halved, else 0
            x = F.pad(x, (0, more_columns, 0, more_rows), mode="replicate")
        return self.conv(torch.cat((skip, x), dim=1))


class OutConv(nn.Conv2d):
    """One 1x1 convolution: features f32[B,width,H,W] -> logits f32[B,classes,H,W]."""

    def __init__(self, width: int, classes: int):
        super().__init__(width, classes, 1)


class UNet(nn.Module):
    """Photo f32[B,3,H,W] -> logits f32[B,classes,H,W], for any H and W of at least 2**depth.

    Ronneberger et al. 2015 (arXiv 1505.04597) with padded convolutions, so that the output has the input's size.
    padded False: without, as in the paper; only some sizes fit (`unpadded_side`), and 572 x 572 gives 388 x 388.
    """

    def __init__(
        self, classes: int, width: int = 64, depth: int = 4, norm: str = "batch", slope: float = 0.05,
        up: str = "transpose", padded: bool = True,
    ):  # fmt: skip
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]  # 64 128 256 512 1024
        steps = list(zip(channels, channels[1:], strict=False))
        self.enter = DoubleConv(3, width, norm, slope, padded)
        self.downs = nn.ModuleList(Down(wide, deep, norm, slope, padded) for wide, deep in steps)
        self.ups = nn.ModuleList(Up(deep, wide, norm, slope, up, padded) for wide, deep in reversed(steps))
        self.out = OutConv(width, classes)
        self.padded = padded

    def forward(self, x: Tensor) -> Tensor:
        least = 2 ** len(self.downs) if self.padded else 1
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[-2:]) < least:
            raise ValueError(f"UNet takes [B,3,H,W] with H and W of at least {least}, got {list(x.shape)}")
        if not self.padded:
            check_unpadded(*x.shape[-2:], len(self.downs))
        features = [self.enter(x)]
        for down in self.downs:
            features.append(down(features[-1]))
        x = features.pop()
        for up in self.ups:
            x = up(x, features.pop())
        return self.out(x)


def build(settings, classes: int) -> UNet:
    """The network that `settings` (catalog.Settings) describe."""
    return UNet(classes, settings.width, settings.depth, settings.norm, settings.slope, settings.up)


def unpadded_side(side: int, depth: int = 4) -> int:
    """Side of an unpadded network's input -> of its output; 0 where an odd one would be halved or nothing is left."""
    for _ in range(depth):
        side -= 4  # two 3x3 convolutions
        if side % 2:
            return 0
        side //= 2
    side -= 4
    for _ in range(depth):
        side = 2 * side - 4
    return max(side, 0)


def check_unpadded(rows: int, columns: int, depth: int) -> None:
    """UNetError if an unpadded network cannot take that size: which side does not fit, and the nearest that do."""
    faults = []
    for name, side in (("H", rows), ("W", columns)):
        if not unpadded_side(side, depth):
            below = next((s for s in range(side - 1, 0, -1) if unpadded_side(s, depth)), None)
            above = next(s for s in itertools.count(side + 1) if unpadded_side(s, depth))
            faults.append(f"{name} {side} does not fit, take {f'{below} or {above}' if below else above}")
    if faults:
        raise UNetError(f"UNet without padding, depth {depth}: {'; '.join(faults)} (each pooling halves an even size)")


def count_parameters(module: nn.Module) -> int:
    """Trained numbers in a module."""
    return sum(p.numel() for p in module.parameters())


def blocks(model: UNet) -> dict[str, nn.Module]:
    """The network's blocks in the order in which a batch passes them."""
    named = {"in": model.enter}
    named |= {f"down{i}": block for i, block in enumerate(model.downs, 1)}
    named |= {f"up{i}": block for i, block in enumerate(model.ups, 1)}
    return named | {"out": model.out}


@torch.no_grad()
def trace(model: UNet, x: Tensor) -> list[dict]:
    """Follow a batch f32[B,3,H,W] through the blocks: one row each with name, input, output (shapes), params."""
    rows = []

    def note(name):
        def hook(module, inputs, output):
            shapes = {"input": tuple(inputs[0].shape), "output": tuple(output.shape)}
            rows.append({"name": name} | shapes | {"params": count_parameters(module)})

        return hook

    handles = [block.register_forward_hook(note(name)) for name, block in blocks(model).items()]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
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
