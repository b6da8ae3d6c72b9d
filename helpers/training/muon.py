"""Muon: momentum whose steps are made orthogonal, for the convolutions' kernels; AdamW for all other weights."""

from collections.abc import Iterable

import torch
from torch import Tensor

WIDEST = 128  # larger matrices, on both sides, are AdamW's: on two cores they would cost twice all the others
# sigma -> 3.4445 sigma - 4.775 sigma^3 + 2.0315 sigma^5, five times over, brings every singular value from 0.01 to 1
# into 0.7 to 1.2 (Jordan et al. 2024); torch's Muon does the same
COEFFICIENTS, STEPS = (3.4445, -4.7750, 2.0315), 5


def orthogonal(matrix: Tensor) -> Tensor:
    """f32[m,n] -> about U V^T of its singular value decomposition U S V^T: all directions equally long.

    The iteration of Newton and Schulz in float32, as the lesson shows it: torch's Muon runs it in bfloat16, which ends
    about a hundredth away. The singular values of the result lie between 0.7 and 1.2.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T  # the smaller of the two Gram matrices
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def as_matrix(kernel: Tensor) -> Tensor:
    """f32[O,I,R,C] -> f32[O,R*C*I], a row for each output channel; without a copy where channels come last."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def kernels(params: Iterable[Tensor]) -> list[Tensor]:
    """Those that are Muon's: all but the first and the last, unless larger than WIDEST on both sides."""
    return [p for p in [p for p in params if p.ndim == 4][1:-1] if min(as_matrix(p).shape) <= WIDEST]


class Muon(torch.optim.Optimizer):
    """Jordan et al. 2024 (kellerjordan.github.io/posts/muon), at the length of AdamW's steps (arXiv 2502.16982).

    A gradient's few strong directions drown all others; made orthogonal, a step goes equally far in each. torch's Muon
    takes matrices only: here it moves matrices that share their memory with the kernels, which must be channels_last
    (RuntimeError otherwise). The first and the last kernel, those whose matrix has more than 128 rows and columns,
    norms and biases are torch's AdamW's. param_groups: the kernels, all others.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, weight_decay: float = 0.0, fused: bool = True):
        params = list(params)
        own = kernels(params)
        chosen = {id(p) for p in own}
        others = [p for p in params if id(p) not in chosen]
        views = [p.detach().permute(0, 2, 3, 1).view(len(p), -1) for p in own]  # view: never a copy
        self.matrices = [torch.nn.Parameter(view) for view in views]
        self.muon = torch.optim.Muon(self.matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")
        self.adamw = torch.optim.AdamW(others, lr, weight_decay=weight_decay, fused=fused)
        super().__init__(own, dict(lr=lr, weight_decay=weight_decay))
        self.param_groups += self.adamw.param_groups
        self._share()

    def _share(self) -> None:
        """Let both optimizers work on this one's state and groups."""
        self.adamw.state, self.adamw.param_groups = self.state, self.param_groups[1:]
        for kernel, matrix in zip(self.param_groups[0]["params"], self.matrices, strict=True):
            self.muon.state[matrix] = self.state[kernel]

    def __setstate__(self, state: dict) -> None:
        """After loading: state and groups are new objects."""
        super().__setstate__(state)
        self._share()

    @torch.no_grad()
    def step(self, closure=None):
        """One step of all weights that have a gradient; a closure is not called."""
        group = self.param_groups[0]
        self.muon.param_groups[0].update(lr=group["lr"], weight_decay=group["weight_decay"])
        for kernel, matrix in zip(group["params"], self.matrices, strict=True):
            matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad)
        self.muon.step()
        self.adamw.step()
