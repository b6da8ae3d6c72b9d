"""The network: shapes, sizes, counts, what a pixel can see."""

import pytest
import torch

from helpers import plots, unet
from helpers.core.errors import UNetError
from helpers.settings import make_settings


@pytest.mark.parametrize(("up", "kernel"), [("transpose", 4), ("nearest", 9), ("bilinear", 9)])
def test_full_width_has_31_million_parameters(up, kernel):
    """By hand: 2x2 weights on the way up, from 2 wide channels to wide; 3x3 ones where features are resized."""
    more = sum((kernel - 4) * 2 * wide * wide for wide in (64, 128, 256, 512))
    with torch.device("meta"):
        assert unet.count_parameters(unet.UNet(11, up=up)) == 31_038_283 + more


@pytest.mark.parametrize("up", unet.UPS)
@pytest.mark.parametrize("size", [(16, 16), (17, 16), (31, 47), (64, 33), (100, 75), (129, 257)])
def test_output_has_the_input_s_size(size, up):
    model = unet.UNet(11, width=2, up=up).eval()
    assert model(torch.randn(1, 3, *size)).shape == (1, 11, *size)


@pytest.mark.parametrize(("up", "expected"), [
    ("nearest", [0.0, 0.0, 4.0, 4.0, 8.0, 8.0]),
    ("bilinear", [0.0, 1.0, 3.0, 5.0, 7.0, 8.0]),  # a quarter and three quarters of the way; the ends repeated
])  # fmt: skip
def test_features_are_resized_and_then_convolved(up, expected):
    """The convolution made to pass its centre on, doubled: 0, 2, 4 in a row become what is expected."""
    grow = unet.upsample(up, 2, 1)
    torch.nn.init.dirac_(grow[1].weight)
    with torch.no_grad():
        grow[1].weight *= 2
        grow[1].bias.zero_()
        x = torch.stack((torch.tensor([0.0, 2.0, 4.0]), torch.full((3,), 9.0)))[None, :, None]  # [1,2,1,3]
        rows = grow(x)
    assert rows.shape == (1, 1, 2, 6) and (rows[0, 0] == torch.tensor(expected)).all()


def test_slope_0_is_relu():
    block = unet.DoubleConv(3, 4, norm="none", slope=0.0)
    first, second = block.layers[0], block.layers[3]
    x = torch.randn(1, 3, 6, 6)
    torch.testing.assert_close(block(x), second(first(x).relu()).relu())
    assert not any(isinstance(m, torch.nn.LeakyReLU) for m in unet.UNet(2, 2, 1, slope=0.0).modules())


@pytest.mark.parametrize(("wrong", "says"), [
    (dict(norm="group"), "no norm called 'group': choose one of batch, none"),
    (dict(up="bicubic"), "no up called 'bicubic': choose one of transpose, nearest, bilinear"),
])  # fmt: skip
def test_unknown_names_are_refused_with_the_known_ones(wrong, says):
    with pytest.raises(UNetError, match=says):
        unet.UNet(11, width=2, **wrong)


@pytest.mark.parametrize("up", unet.UPS)
def test_the_paper_s_unpadded_form(up):
    """Figure 1 of Ronneberger et al. 2015, every size that it gives after a block: 572 x 572 in, 388 x 388 out."""
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(2, up=up, padded=False), torch.empty(1, 3, 572, 572))
    assert [r["output"] for r in rows] == [(1, channels, side, side) for channels, side in (
        (64, 568), (128, 280), (256, 136), (512, 64), (1024, 28), (512, 52), (256, 100), (128, 196), (64, 388), (2, 388)
    )]  # fmt: skip
    assert [r["input"][-1] for r in rows] == [572, 568, 280, 136, 64, 28, 52, 100, 196, 388]
    assert unet.unpadded_side(572) == 388


def test_skips_are_cropped_in_the_middle():
    """Upsampled features of 0 and a DoubleConv that passes its centre on: out comes the middle of the skip."""
    block = unet.Up(2, 1, norm="none", padded=False)
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    torch.nn.init.dirac_(block.conv.layers[0].weight)
    torch.nn.init.dirac_(block.conv.layers[3].weight)
    skip = torch.arange(12.0 * 16).reshape(1, 1, 12, 16)
    cropped = block(torch.zeros(1, 2, 4, 3), skip)  # 8 x 6 after up; 4 x 2 after two 3x3 convolutions
    assert torch.equal(cropped, skip[:, :, 4:8, 7:9])


def test_without_padding_a_tile_is_a_piece_of_the_whole():
    """No border is made up, so a photo may be parsed in tiles: the paper's reason. 16: the pooling grid's step."""
    model = unet.UNet(2, width=2, padded=False).eval()
    x = torch.randn(1, 3, 220, 236)
    whole, tile = model(x), model(x[:, :, 16 : 16 + 188, 32 : 32 + 204])
    assert whole.shape[-2:] == (36, 52) and tile.shape[-2:] == (4, 20)
    torch.testing.assert_close(tile, whole[:, :, 16:20, 32:52])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_sizes_that_fit_are_those_that_the_blocks_can_take(depth):
    """The oracle: the blocks themselves, one after the other, and whether a pooling met an odd size."""
    with torch.device("meta"):
        model = unet.UNet(2, width=1, depth=depth, norm="none", padded=False)

        def through(side):
            features = [model.enter(torch.empty(1, 3, side, 9 * 2**depth + side))]
            for down in model.downs:
                if features[-1].shape[-2] % 2:
                    return 0
                features.append(down(features[-1]))
            x = features.pop()
            for up in model.ups:
                x = up(x, features.pop())
            return x.shape[-2]

        for side in range(5, 100):
            try:
                expected = through(side)
            except RuntimeError:  # too small for a convolution or a pooling
                expected = 0
            assert unet.unpadded_side(side, depth) == expected, side


@pytest.mark.parametrize("size", [(570, 572), (572, 573), (172, 188)])
def test_unpadded_sizes_that_do_not_fit_are_refused_with_some_that_do(size):
    says = rf"{size[0]} x {size[1]} does not fit .* depth 4 .*k \* 16 - 4 pixels \(188, 204,"
    with torch.device("meta"), pytest.raises(UNetError, match=says):
        unet.UNet(2, width=1, padded=False)(torch.empty(1, 3, *size))


@pytest.mark.parametrize("shape", [(1, 3, 15, 64), (1, 3, 64, 8), (1, 1, 64, 64), (3, 64, 64)])
def test_other_inputs_are_refused_by_shape(shape):
    with pytest.raises(ValueError, match=r"at least 16, got \["):
        unet.UNet(11, width=2)(torch.zeros(shape))


def test_trace_of_the_original_batch():
    """10 x 3 x 256 x 256 in and 10 x 11 x 256 x 256 out, on meta tensors: shapes alone, no memory."""
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(11), torch.empty(10, 3, 256, 256))
    down = [(64, 256, 256), (128, 128, 128), (256, 64, 64), (512, 32, 32), (1024, 16, 16)]
    assert [r["output"] for r in rows] == [(10, *shape) for shape in (*down, *down[-2::-1], (11, 256, 256))]
    assert sum(r["params"] for r in rows) == 31_038_283


@pytest.mark.parametrize("up", unet.UPS)
@pytest.mark.parametrize("padded", [True, False])
def test_every_form_is_listed_block_by_block_and_drawn(up, padded):
    """Each block takes what the one before it gave, on the way up through the skips, and all weights are counted."""
    with torch.device("meta"):
        model = unet.UNet(11, 8, 3, "none", 0.0, up, padded)
        rows = unet.trace(model, torch.empty(2, 3, 252, 220))
    assert [r["name"] for r in rows] == ["in", "down1", "down2", "down3", "up1", "up2", "up3", "out"]
    assert all(row["input"] == before["output"] for before, row in zip(rows, rows[1:], strict=False))
    assert rows[-1]["output"] == ((2, 11, 252, 220) if padded else (2, 11, 164, 132))
    assert sum(r["params"] for r in rows) == unet.count_parameters(model)
    boxes = [patch.get_gid() for patch in plots.architecture(rows).axes[0].patches if patch.get_gid()]
    assert sorted(boxes) == sorted(["photo", *[row["name"] for row in rows]])


@pytest.mark.parametrize("up", unet.UPS)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_receptive_field_is_the_widest_that_a_gradient_reaches(depth, up):
    """With positive weights and averages for maxima no path cancels: what has a gradient is what is seen."""
    model = unet.UNet(2, width=1, depth=depth, norm="none", up=up).double()
    for p in model.parameters():
        torch.nn.init.constant_(p, 0.1)
    for down in model.downs:
        down.pool = torch.nn.AvgPool2d(2)
    widest = 0
    for offset in range(2**depth):  # the field depends on where in the pooling grid the pixel lies
        x = torch.ones(1, 3, 16, 480, dtype=torch.float64, requires_grad=True)
        model(x)[0, 0, 8, 240 + offset].backward()
        columns = x.grad.abs().sum((0, 1, 2)).nonzero()
        widest = max(widest, int(columns.max() - columns.min() + 1))
    assert widest == unet.receptive_field(depth, up)


@pytest.mark.parametrize(("dataset", "kind", "channels"), [
    ("helen", None, [64, 128, 256, 512, 1024]),
    ("pets", "nearest", [32, 64, 128, 256, 512]),
    ("camvid", "bilinear", [64, 128, 256, 512]),
    ("cityscapes", None, [16, 32, 64, 128, 256]),
])  # fmt: skip
def test_build_follows_the_original_recipes(dataset, kind, channels):
    """Widths, up, norm and activation; all but the pets' have batch norm, and all but the faces' ReLU."""
    with torch.device("meta"):
        model = unet.build(make_settings(dataset, "original", "full"), 3)
    blocks = [model.enter, *(down.conv for down in model.downs)]
    assert [block.layers[0].out_channels for block in blocks] == channels
    ups = [block.up for block in model.ups]
    assert all(up[0].mode == kind if kind else isinstance(up, torch.nn.ConvTranspose2d) for up in ups)
    _, norm, activation = model.enter.layers[:3]
    assert type(norm) is (torch.nn.Identity if dataset == "pets" else torch.nn.BatchNorm2d)
    assert activation.negative_slope == 0.05 if dataset == "helen" else type(activation) is torch.nn.ReLU
