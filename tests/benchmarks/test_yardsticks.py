"""The yardsticks do what the original report does: by hand, against torch written out, on the data that ours gets."""

import copy
import math
import sys

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from torch import nn

from benchmarks import yardsticks
from helpers import losses, preprocess, unet
from helpers.core import files, masks
from helpers.core.errors import UNetError
from helpers.settings import make_settings
from helpers.trainer import train_step
from helpers.training.stepper import Stepper

CPU = torch.device("cpu")


@pytest.fixture
def pairs():
    tiny.prepare()
    return preprocess.pairs("helen", "train")


def settings(**changes):
    """The original recipe at 32 px, width 4, two levels, batches of 2."""
    return make_settings("helen", "original", "smoke", **(dict(size=32, width=4, depth=2, batch=2) | changes))


def batch():
    """f32[2,3,32,32] and int64[2,32,32] of 11 classes with void: the same numbers each time."""
    generator = torch.Generator().manual_seed(5)
    target = torch.randint(0, 11, (2, 32, 32), generator=generator)
    target[:, :5, :7] = masks.VOID
    return torch.rand(2, 3, 32, 32, generator=generator), target


def one_hots(target, classes=11):
    return torch.stack([yardsticks.one_hot(ids, classes) for ids in target])


# --- data


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])  # rows and columns differ: they must not be swapped
def test_a_sample_is_ours_to_the_last_bit(pairs, shape):
    _, photo, label = pairs[3]
    ids = masks.read_label(label, 11)
    ids[:9, :9] = masks.VOID
    masks.write_label(label, ids)
    x, target = yardsticks.FileSamples(pairs, shape, 11)[3]
    ours = preprocess.resize_photo(files.read_photo(photo), shape)
    np.testing.assert_array_equal(x, ours.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    ours = preprocess.resize_label(masks.read_label(label, 11), shape)
    assert (ours == masks.VOID).any()
    np.testing.assert_array_equal(target, np.stack([ours == i for i in range(11)]).astype(np.float32))
    assert (x.dtype, target.dtype) == (torch.float32, torch.float32)
    plain = yardsticks.FileSamples(pairs, shape)[3][1]
    np.testing.assert_array_equal(plain, ours)
    assert plain.dtype == torch.int64


def test_one_hot_by_hand_and_void_is_nothing():
    hot = yardsticks.one_hot(torch.tensor([[0, 2, masks.VOID]]), 3)
    assert hot.tolist() == [[[1, 0, 0]], [[0, 0, 0]], [[0, 1, 0]]]


def test_each_epoch_opens_the_files_anew_in_another_order(pairs):
    batches = yardsticks.loader(pairs, settings(batch=8))
    first, second = (next(iter(batches))[0] for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sum((1, 2, 3)).sort()[0], second.sum((1, 2, 3)).sort()[0])
    for _, photo, _ in pairs:
        Image.new("RGB", (48, 48), (255, 0, 0)).save(photo.with_suffix(".png"))
        photo.with_suffix(".png").replace(photo)
    x, _ = next(iter(batches))
    assert (x == torch.tensor([1.0, 0.0, 0.0])[:, None, None]).all()


# --- the original way


def test_the_original_loss_by_hand():
    # two pixels, two classes; the logits ln 3 and 0 make probabilities 3/4 and 1/4
    logits = torch.tensor([[math.log(3), 0.0], [0.0, 0.0]]).T.reshape(1, 2, 1, 2)
    expected = (1 - 0.75 / (0.7 * 1.25 + 0.3)) + (1 - 0.5 / (0.7 * 0.75 + 0.3))
    loss = yardsticks.original_dice(logits, one_hots(torch.tensor([[[0, 1]]]), 2))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    # the second pixel void: class 0 has pt = p = 3/4, t = 1; class 1 has pt = t = 0 and adds 1
    loss = yardsticks.original_dice(logits, one_hots(torch.tensor([[[0, masks.VOID]]]), 2))
    assert loss.item() == pytest.approx(1 - 0.75 / (0.7 * 0.75 + 0.3) + 1, abs=1e-6)


def test_the_original_loss_and_gradient_are_those_of_our_dice_original():
    _, target = batch()
    target[1][target[1] == 4] = 7  # a class that one image lacks
    theirs = torch.randn(2, 11, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours = theirs.detach().clone().requires_grad_()
    a, b = yardsticks.original_dice(theirs, one_hots(target)), losses.LOSSES["dice_original"](ours, target)
    assert a.item() == pytest.approx(b.item(), rel=1e-6, abs=1e-5)
    for loss in (a, b):
        loss.backward()
    torch.testing.assert_close(theirs.grad, ours.grad, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    ("epochs", "cuts"), [(8, (4, 2, 2)), (30, (15, 8, 7)), (5, (3, 1, 1)), (2, (1, 1, 0)), (1, (1, 0, 0))]
)
def test_the_rate_is_cut_at_one_half_and_three_quarters(epochs, cuts):
    loop = yardsticks.original_way(yardsticks.network(settings(), 11), epochs, CPU)
    rates = []
    loop.step = lambda x, target: rates.append(loop.optimizer.param_groups[0]["lr"]) or 0.0
    x, target = torch.zeros(2, 3, 32, 32), torch.zeros(2, 11, 32, 32)
    for _ in range(epochs):
        loop.optimizer.step()  # no gradients, nothing moves: the schedule expects a step before it
        loop.epoch([(x, target)])
    assert rates == pytest.approx([rate for rate, count in zip((1e-2, 1e-3, 1e-4), cuts) for _ in range(count)])


def test_an_original_step_is_the_report_s_written_out():
    """Bit for bit: soft-max, Dice, backward, norm at most 0.01, Adam 0.01 as torch has it by default."""
    x, target = batch()
    model = yardsticks.network(settings(), 11)
    loop = yardsticks.original_way(copy.deepcopy(model), 8, CPU)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(2):  # the second is wrong if gradients pile up
        loss = yardsticks.original_dice(model(x), one_hots(target))
        optimizer.zero_grad()
        loss.backward()
        before = nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        assert loop.step(x, one_hots(target)) == loss.item()
        gradients = [p.grad for p in loop.model.parameters()]
        assert before > 0.05 and nn.utils.get_total_norm(gradients) <= 0.01 * (1 + 1e-5)
        assert_same(loop.model, model)


def test_the_original_way_is_our_original_recipe_to_rounding():
    """Two writings of one recipe: ours has no one-hot image, fused Adam and channels_last memory."""
    x, target = batch()
    ours = Stepper(settings(), 11, CPU)
    loop = yardsticks.original_way(yardsticks.network(settings(), 11), 8, CPU)
    for _ in range(4):
        loss, _ = train_step(ours, x, target, 0.01)
        assert loop.step(x, one_hots(target)) == pytest.approx(loss.item(), rel=1e-3)


# --- the plain loop


def assert_same(a, b):
    for (name, mine), theirs in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name


def test_a_plain_step_is_torch_written_out():
    x, target = batch()
    model = yardsticks.network(settings(), 11)
    loop = yardsticks.plain_loop(copy.deepcopy(model), CPU)
    optimizer, criterion = torch.optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss(ignore_index=255)
    seen = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = criterion(model(x), target)
        loss.backward()
        optimizer.step()
        seen.append(loop.step(x, target))
        assert seen[-1] == loss.item()
        assert_same(loop.model, model)
    assert seen[4] < seen[0] and all(math.isfinite(value) for value in seen)


def test_an_epoch_is_the_mean_of_its_steps_in_training_mode(pairs):
    loop = yardsticks.plain_loop(yardsticks.network(settings(), 11).eval(), CPU)
    batches = yardsticks.loader(pairs, settings(batch=3))
    steps, step = [], loop.step
    loop.step = lambda x, target: steps.append(step(x, target)) or steps[-1]
    mean = loop.epoch(batches)
    assert len(steps) == 3 and mean == pytest.approx(sum(steps) / 3)
    assert loop.model.training and loop.model.enter.layers[1].num_batches_tracked == 3


def test_the_network_is_ours_and_leaves_the_random_numbers():
    torch.manual_seed(9)
    numbers = torch.get_rng_state()
    model = yardsticks.network(settings(seed=3), 11)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert_same(model, Stepper(settings(seed=3), 11, CPU).model)
    assert all(p.is_contiguous() for p in model.parameters())


# --- the package, and counting


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)  # an import of it then fails
    with pytest.raises(UNetError, match="pip install segmentation-models-pytorch"):
        yardsticks.smp_unet(11)


def test_describe_by_hand():
    # one multiply-add for each weight at each output pixel; the bias adds 6 parameters and no multiply-add
    assert yardsticks.describe(nn.Conv2d(3, 6, 3, padding=1), (8, 10)) == (3 * 6 * 9 + 6, 3 * 6 * 9 * 8 * 10)
    # a transposed convolution: each weight once for each input pixel
    assert yardsticks.describe(nn.ConvTranspose2d(3, 6, 2, stride=2), (8, 10)) == (3 * 6 * 4 + 6, 3 * 6 * 4 * 8 * 10)


def test_describe_counts_our_network_and_leaves_it_as_it_was():
    model = unet.UNet(11, width=4, depth=1)
    before = copy.deepcopy(model)
    side = 32 * 32
    enter, down = 9 * (3 * 4 + 4 * 4) * side, 9 * (4 * 8 + 8 * 8) * side // 4
    up, out = 8 * 4 * 4 * side // 4 + 9 * (8 * 4 + 4 * 4) * side, 4 * 11 * side
    assert yardsticks.describe(model, (32, 32)) == (unet.count_parameters(model), enter + down + up + out)
    assert model.training and all(p.device == CPU and p.requires_grad for p in model.parameters())
    assert_same(model, before)
    yardsticks.describe(model, (2, 2))  # one pixel at the bottom, which batch norm in training mode would refuse
