"""The network: shapes, sizes, counts, what a pixel can see."""

import pytest
import torch

from helpers import catalog, unet


def test_full_width_has_31_million_parameters():
    assert unet.count_parameters(unet.UNet(11)) == 31_038_283


@pytest.mark.parametrize("size", [(16, 16), (17, 16), (31, 47), (64, 33), (100, 75), (129, 257)])
def test_output_has_the_input_s_size(size):
    model = unet.UNet(11, width=2).eval()
    assert model(torch.randn(1, 3, *size)).shape == (1, 11, *size)


@pytest.mark.parametrize("shape", [(1, 3, 15, 64), (1, 3, 64, 8), (1, 1, 64, 64), (3, 64, 64)])
def test_other_inputs_are_refused_by_shape(shape):
    with pytest.raises(ValueError, match=r"at least 16, got \["):
        unet.UNet(11, width=2)(torch.zeros(shape))


def test_trace_of_the_write_up_s_batch():
    """10 x 3 x 256 x 256 in and 10 x 11 x 256 x 256 out, on meta tensors: shapes alone, no memory."""
    with torch.device("meta"):
        rows = unet.trace(unet.UNet(11), torch.empty(10, 3, 256, 256))
    assert [r["name"] for r in rows] == [
        "in",
        *[f"down{i}" for i in range(1, 5)],
        *[f"up{i}" for i in range(1, 5)],
        "out",
    ]
    assert rows[0]["input"] == (10, 3, 256, 256) and rows[-1]["output"] == (10, 11, 256, 256)
    assert [r["output"][1:] for r in rows[:5]] == [
        (64, 256, 256), (128, 128, 128), (256, 64, 64), (512, 32, 32), (1024, 16, 16),
    ]  # fmt: skip
    assert sum(r["params"] for r in rows) == 31_038_283


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_receptive_field_is_the_widest_that_a_gradient_reaches(depth):
    """With positive weights and averages for maxima no path cancels: what has a gradient is what is seen."""
    model = unet.UNet(2, width=1, depth=depth, norm="none").double()
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
    assert widest == unet.receptive_field(depth)


def test_the_output_is_logits():
    logits = unet.UNet(11, width=2).eval()(torch.randn(1, 3, 32, 32))
    assert logits.min() < 0 and not torch.allclose(logits.sum(1), torch.ones(1, 32, 32))


def test_build_follows_the_settings():
    settings = catalog.settings("helen", "seed", "smoke", depth=2, norm="none")
    model = unet.build(settings, 11)
    assert len(model.downs) == 2 and model.enter.layers[0].out_channels == settings.width
    assert isinstance(model.enter.layers[1], torch.nn.Identity) and model.enter.layers[0].bias is not None
    assert model.enter.layers[2].negative_slope == settings.slope == 0.05
