"""Muon: orthogonal steps for the kernels, as torch's Muon makes them for matrices; AdamW's for the rest."""

import pytest
import torch

from helpers import unet
from helpers.training import muon


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SHAPES = ((2, 3, 1, 1), (6, 4, 3, 3), (129, 130, 1, 1), (6,), (2, 6, 1, 1))  # the second alone is Muon's


def weights():
    return [torch.nn.Parameter(random(*shape)) for shape in SHAPES]


def set_gradients(params, seed):
    for i, p in enumerate(params):
        p.grad = random(*p.shape, seed=seed + 10 * i)


def tensors(params, optimizer):
    """Weights and all that the optimizer keeps of earlier gradients."""
    return [t.detach().clone() for t in (*params, *(t for s in optimizer.state.values() for t in s.values()))]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def by_decomposition(matrix):
    """The same polynomial on the singular values themselves, in double precision."""
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.norm()
    a, b, c = muon.COEFFICIENTS
    for _ in range(muon.STEPS):
        s = a * s + b * s**3 + c * s**5
    return (u * s @ v).float()


@pytest.mark.parametrize("shape", [(8, 8), (16, 144), (128, 32), (1, 9)])
def test_orthogonal_changes_the_singular_values_and_nothing_else(shape):
    matrix = random(*shape)
    found = muon.orthogonal(matrix)
    torch.testing.assert_close(found, by_decomposition(matrix), rtol=1e-4, atol=1e-5)
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.25 and (values > 0.65).sum() >= min(shape) - 1


def test_orthogonal_knows_no_length_and_takes_nothing_but_zeros():
    matrix = random(4, 12)
    torch.testing.assert_close(muon.orthogonal(1e3 * matrix), muon.orthogonal(matrix), rtol=1e-4, atol=1e-5)
    assert not muon.orthogonal(torch.zeros(4, 12)).any()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_s_matrix_has_a_row_for_each_output_channel(layout):
    kernel = random(4, 3, 2, 5).contiguous(memory_format=layout)
    matrix = muon.as_matrix(kernel)
    assert matrix.shape == (4, 30)
    assert sorted(matrix[2].tolist()) == sorted(kernel[2].flatten().tolist())
    assert torch.equal(matrix.view(4, 2, 5, 3).permute(0, 3, 1, 2), kernel)


def test_a_kernel_steps_as_torch_s_muon_does():
    """The oracle takes matrices only, and multiplies in bfloat16: a hundredth off."""
    params = weights()
    twin = torch.nn.Parameter(muon.as_matrix(params[1].detach()).clone())
    mine = muon.Muon(params, lr=0.1, weight_decay=0.5)
    theirs = torch.optim.Muon([twin], lr=0.1, weight_decay=0.5, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for seed in (1, 2, 3):
        set_gradients(params, seed)
        twin.grad = muon.as_matrix(params[1].grad)
        before = twin.detach().clone()
        mine.step()
        theirs.step()
        moved = muon.as_matrix(params[1].detach()) - before
        length = (twin - before).norm()
        assert (moved - (twin - before)).norm() < 0.03 * length and abs(moved.norm() / length - 1) < 0.01
        with torch.no_grad():
            twin.copy_(muon.as_matrix(params[1]))


def test_the_rest_steps_as_torch_s_adamw_does_to_the_bit():
    """The first and the last kernel, a wide one, norms and biases."""
    params = weights()
    rest = [p for i, p in enumerate(params) if i != 1]
    twins = [torch.nn.Parameter(p.detach().clone()) for p in rest]
    mine = muon.Muon(params, lr=0.1, weight_decay=0.5)
    theirs = torch.optim.AdamW(twins, lr=0.1, weight_decay=0.5, fused=True)
    for seed in (1, 2):
        set_gradients(params, seed)
        for twin, p in zip(twins, rest, strict=True):
            twin.grad = p.grad.clone()
        mine.step()
        theirs.step()
    assert same(twins, rest)
    assert set(mine.state[params[1]]) == {"mean"} and "exp_avg" in mine.state[params[2]]


def test_every_weight_of_a_network_is_moved_by_one_of_the_two():
    model = unet.UNet(11, width=16).to(memory_format=torch.channels_last)
    optimizer = muon.Muon(model.parameters(), lr=1e-2)
    kernels, others = (group["params"] for group in optimizer.param_groups)
    assert len(kernels) + len(others) == len(list(model.parameters()))
    names = {id(p): name for name, p in model.named_parameters()}
    wide = {"downs.3.conv.layers.0.weight", "downs.3.conv.layers.3.weight", "ups.0.up.weight"}
    aside = {names[id(p)] for p in others if p.ndim == 4}
    assert aside == {"enter.layers.0.weight", "out.weight"} | wide
    before = [p.detach().clone() for p in model.parameters()]
    model(random(2, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    assert not any(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    optimizer.zero_grad(set_to_none=True)
    assert all(p.grad is None for p in model.parameters())
