"""Muon: momentum whose steps are made orthogonal, for the convolutions' kernels; AdamW for all other weights.

torch.optim.Muon makes the same steps, of matrices only, and the tests compare with it. It multiplies in bfloat16: on a
CPU without instructions for that (AMX), a training step of the demo takes a quarter longer with it, and four fifths
longer on photos of half the size.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

MOMENTUM = 0.95
WIDEST = 128  # larger matrices, on both sides, are AdamW's: on two cores they would cost twice all the others
# sigma -> 3.4445 sigma - 4.775 sigma^3 + 2.0315 sigma^5, five times over, brings every singular value from 0.01 to 1
# into 0.7 to 1.2 (Jordan et al. 2024)
COEFFICIENTS, STEPS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(matrix: Tensor) -> Tensor:
    """f32[m,n] -> about U V^T of its singular value decomposition U S V^T: all directions equally long.

    The iteration of Newton and Schulz on the smaller of the two Gram matrices instead of the whole one: the same
    polynomials with a third to a half of the multiplications. Its singular values lie between 0.7 and 1.2.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.T
    factor = product = factor_of(gram)
    for _ in range(STEPS - 1):
        gram = factor @ gram @ factor
        factor = factor_of(gram)
        product = factor @ product
    return product @ x


def factor_of(gram: Tensor) -> Tensor:
    """X X^T -> that by which X is multiplied in one step: a + b X X^T + c (X X^T)^2."""
    a, b, c = COEFFICIENTS
    factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal().add_(a)
    return factor


def as_matrix(kernel: Tensor) -> Tensor:
    """f32[O,I,R,C] -> f32[O,R*C*I], a row for each output channel; without a copy where channels come last."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def kernels(params: Iterable[Tensor]) -> list[Tensor]:
    """Those that are Muon's: all but the first and the last, unless larger than WIDEST on both sides."""
    return [p for p in [p for p in params if p.ndim == 4][1:-1] if min(as_matrix(p).shape) <= WIDEST]


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024 (kellerjordan.github.io/posts/muon), at the length of AdamW's steps (arXiv 2502.16982).

    A gradient's few strong directions drown all others; made orthogonal, a step goes equally far in each. The first
    and the last kernel, those whose matrix has more than 128 rows and columns, norms and biases are torch's AdamW's.
    param_groups: the kernels, all others.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = True):
        params = list(params)
        own = kernels(params)
        chosen = {id(p) for p in own}
        others = [p for p in params if id(p) not in chosen]
        self.adamw = torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, fused=fused)
        super().__init__(own, dict(lr=lr, weight_decay=weight_decay))
        self.param_groups += self.adamw.param_groups
        self.adamw.state = self.state

    def __setstate__(self, state: dict) -> None:
        """After loading: AdamW again has its part of the one state."""
        super().__setstate__(state)
        self.adamw.state, self.adamw.param_groups = self.state, self.param_groups[1:]

    @torch.no_grad()
    def step(self, closure=None):
        """One step of all weights that have a gradient; a closure is not called."""
        group = self.param_groups[0]
        for kernel in group["params"]:
            if kernel.grad is None:
                continue
            state = self.state[kernel]
            if not state:
                state["mean"] = torch.zeros_like(kernel)
            mean = state["mean"].lerp_(kernel.grad, 1 - MOMENTUM)
            ahead = as_matrix(torch.lerp(kernel.grad, mean, MOMENTUM))  # Nesterov's momentum
            length = 0.2 * max(ahead.shape) ** 0.5  # by which each number moves by 0.2 on average, as AdamW's do
            outer, inner, height, width = kernel.shape
            direction = orthogonal(ahead).view(outer, height, width, inner).permute(0, 3, 1, 2)
            kernel.mul_(1 - group["lr"] * group["weight_decay"])
            kernel.add_(direction, alpha=-group["lr"] * length)
        self.adamw.step()
