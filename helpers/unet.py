"""The U-Net by its blocks: DoubleConv, Down, Up, OutConv, UNet. Returns logits, never soft-max."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORMS = {"batch": nn.BatchNorm2d, "none": nn.Identity}


class DoubleConv(nn.Module):
    """Two 3x3 convolutions, each followed by a norm and LeakyReLU: f32[B,cin,H,W] -> f32[B,cout,H,W]."""

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05):
        super().__init__()
        layers = []
        for channels in (cin, cout):
            layers += [
                nn.Conv2d(channels, cout, 3, padding=1, bias=norm == "none"),  # a norm would undo the bias
                NORMS[norm](cout),
                nn.LeakyReLU(slope, inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Down(nn.Module):
    """Half the size, then DoubleConv: f32[B,cin,H,W] -> f32[B,cout,H//2,W//2]."""

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05):
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.conv = DoubleConv(cin, cout, norm, slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(x))


class Up(nn.Module):
    """Twice the size, joined with `skip` from the way down, then DoubleConv.

    x f32[B,cin,h,w], skip f32[B,cout,H,W] with H in (2h, 2h+1) -> f32[B,cout,H,W].
    """

    def __init__(self, cin: int, cout: int, norm: str = "batch", slope: float = 0.05):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cout, 2, stride=2)
        self.conv = DoubleConv(2 * cout, cout, norm, slope)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        missing_rows = skip.shape[-2] - x.shape[-2]  # 1 where an odd size was halved, else 0
        missing_columns = skip.shape[-1] - x.shape[-1]
        if missing_rows or missing_columns:
            x = F.pad(x, (0, missing_columns, 0, missing_rows), mode="replicate")
        return self.conv(torch.cat((skip, x), dim=1))


class OutConv(nn.Conv2d):
    """One 1x1 convolution: features f32[B,width,H,W] -> logits f32[B,classes,H,W]."""

    def __init__(self, width: int, classes: int):
        super().__init__(width, classes, 1)


class UNet(nn.Module):
    """Photo f32[B,3,H,W] -> logits f32[B,classes,H,W], for any H and W of at least 2**depth.

    Ronneberger et al. 2015 (arXiv 1505.04597) with padded convolutions, so that the output has the input's size.
    """

    def __init__(self, classes: int, width: int = 64, depth: int = 4, norm: str = "batch", slope: float = 0.05):
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]  # 64 128 256 512 1024
        steps = list(zip(channels, channels[1:], strict=False))
        self.enter = DoubleConv(3, width, norm, slope)
        self.downs = nn.ModuleList(Down(wide, deep, norm, slope) for wide, deep in steps)
        self.ups = nn.ModuleList(Up(deep, wide, norm, slope) for wide, deep in reversed(steps))
        self.out = OutConv(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        least = 2 ** len(self.downs)
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[-2:]) < least:
            raise ValueError(f"UNet takes [B,3,H,W] with H and W of at least {least}, got {list(x.shape)}")
        features = [self.enter(x)]
        for down in self.downs:
            features.append(down(features[-1]))
        x = features.pop()
        for up in self.ups:
            x = up(x, features.pop())
        return self.out(x)


def build(settings, classes: int) -> UNet:
    """The network that `settings` (catalog.Settings) describe."""
    return UNet(classes, settings.width, settings.depth, settings.norm, settings.slope)


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


def receptive_field(depth: int = 4) -> int:
    """Side, in pixels, of the square of the photo that one output pixel can see at most.

    Followed backwards: two 3x3 convolutions widen a square by 4; on the way up a square of side n comes from at most
    n // 2 + 1 pixels of the level below; on the way down each pixel comes from 2.
    """
    side = 1
    for _ in range(depth):
        side = (side + 4) // 2 + 1
    side += 4  # the bottleneck
    for _ in range(depth):
        side = 2 * side + 4
    return side
