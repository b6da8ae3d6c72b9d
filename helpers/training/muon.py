"""Muon: momentum whose steps are made orthogonal, for the convolutions' kernels; AdamW for all else."""

from collections.abc import Iterable

import torch
from torch import Tensor

BETA = 0.95  # of the momentum
WIDEST = 128  # larger matrices, on both sides, are AdamW's: on two cores they would cost twice all the others
# sigma -> 3.4445 sigma - 4.775 sigma^3 + 2.0315 sigma^5, five times over, brings every singular value from 0.01 to 1
# into 0.7 to 1.2 (Jordan et al. 2024)
COEFFICIENTS, STEPS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(matrix: Tensor, keep: Tensor | float = 1.0) -> Tensor:
    """f32[m,n] -> about U V^T of its singular value decomposition U S V^T, times `keep`: all directions equally long.

    The iteration of Newton and Schulz on the smaller of the two Gram matrices instead of the whole one: the same
    polynomials with a third to a half of the multiplications. Its singular values lie between 0.7 and 1.2.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T, keep).T
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.T
    whole = None  # the product of the polynomials so far
    for i in range(STEPS):
        poly = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        poly.diagonal().add_(a)
        whole = poly if whole is None else poly @ whole
        if i < STEPS - 1:
            gram = poly @ gram @ poly
    return (whole * keep) @ x


def as_matrix(kernel: Tensor) -> Tensor:
    """f32[O,I,R,C] -> f32[O,R*C*I], a row for each of the first channels; without a copy where channels come last."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def as_kernel(matrix: Tensor, like: Tensor) -> Tensor:
    """`as_matrix` undone, for a kernel of that shape."""
    rows, inner, height, width = like.shape
    return matrix.view(rows, height, width, inner).permute(0, 3, 1, 2)


def kernels(params: Iterable[Tensor]) -> list[Tensor]:
    """Those that are Muon's: all but the first and the last, unless larger than WIDEST on both sides."""
    return [p for p in [p for p in params if p.ndim == 4][1:-1] if min(as_matrix(p).shape) <= WIDEST]


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024 (kellerjordan.github.io/posts/muon), at the length of AdamW's steps (arXiv 2502.16982).

    A gradient's few strong directions drown all others; made orthogonal, a step goes equally far in each. torch's own
    Muon takes matrices only, no kernels. The first and the last kernel, those whose matrix has more than 128 rows and
    columns, norms and biases are torch's AdamW's. As its fused kind: where `found_inf` is 1 nothing changes, and
    nothing waits.
    """

    _step_supports_amp_scaling = True  # GradScaler then sets found_inf and does not wait for it

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = True):
        params = list(params)
        own = kernels(params)
        chosen = {id(p) for p in own}
        others = [p for p in params if id(p) not in chosen]
        self.rest = torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, fused=fused)
        super().__init__(own, dict(lr=lr, weight_decay=weight_decay))
        for p in own:
            self.state[p]["mean"] = torch.zeros_like(p)
        self.rest.state = self.state
        self.param_groups += self.rest.param_groups

    def __setstate__(self, state: dict) -> None:
        """After loading: AdamW again has its part of the one state."""
        super().__setstate__(state)
        self.rest.state, self.rest.param_groups = self.state, self.param_groups[1:]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step of all weights that have a gradient."""
        found = getattr(self, "found_inf", None)
        self.rest.grad_scale, self.rest.found_inf = getattr(self, "grad_scale", None), found
        self.rest.step()
        group = self.param_groups[0]
        for p in group["params"]:
            if p.grad is not None:
                self.move(p, group, None if found is None else found == 0)

    def move(self, p: Tensor, group: dict, fine: Tensor | None) -> None:
        """One kernel's step; where `fine` is a False on the device, neither it nor its mean changes."""
        mean, keep = self.state[p]["mean"], 1.0 if fine is None else fine.float()
        gradient = p.grad if fine is None else torch.where(fine, p.grad, 0)
        mean.lerp_(gradient, (1 - BETA) * keep)
        p.mul_(1 - group["lr"] * group["weight_decay"] * keep)
        matrix = as_matrix(torch.lerp(gradient, mean, BETA))  # Nesterov: a look ahead
        length = 0.2 * max(matrix.shape) ** 0.5  # by which each number moves by 0.2 on average, about as AdamW's do
        p.add_(as_kernel(orthogonal(matrix, keep), p), alpha=-group["lr"] * length)
