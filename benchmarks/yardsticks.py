"""Three trainings to measure ours against at equal data: the original report's, the plain loop, a package's Unet.

Nothing in helpers/ imports this. A training is a loader, which decodes the files anew in every epoch, and a Loop:

    the original way   loader(pairs, settings, classes)   original_way(network(settings, classes), epochs, device)
    the plain loop   loader(pairs, settings)            plain_loop(network(settings, classes), device)
    the package      loader(pairs, settings)            plain_loop(smp_unet(classes), device)

then `for _ in range(epochs): loop.epoch(batches)`; or `loop.step(x, target)` on ready tensors, to time the step without
its feeding. All are float32 in NCHW memory with torch's own Adam. A photo goes in as photo / 255: `predict` takes
loop.model with settings of mean 0 and std 1, which the `original` recipes have.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from helpers import unet
from helpers.core.errors import UNetError
from helpers.core.masks import VOID
from helpers.settings import Settings

# --- feeding: what these ways share, and what 02's arrays spare ours ------------------------------------------------


def read_photo(path: Path, shape: tuple[int, int]) -> Tensor:
    """Photo file -> f32[3,rows,columns] in [0,1], resized bicubically."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")  # as ours, or the label would not lie on it
    pixels = np.array(upright.resize(shape[::-1], Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def read_ids(path: Path, shape: tuple[int, int]) -> Tensor:
    """Label file as 01 leaves it (one channel of ids) -> int64[rows,columns], nearest; 255 is void."""
    with Image.open(path) as image:
        resized = image.resize(shape[::-1], Image.Resampling.NEAREST)
    return torch.from_numpy(np.array(resized)).long()


def one_hot(ids: Tensor, classes: int) -> Tensor:
    """int64[H,W] -> f32[classes,H,W] of 0 and 1; void is 0 in every class."""
    return (ids == torch.arange(classes)[:, None, None]).float()


class FileSamples(Dataset):
    """Sample number -> f32[3,rows,columns], f32[classes,rows,columns]; or int64[rows,columns] where classes is None.

    pairs: what preprocess.pairs returns. Every look at a sample opens, decodes and resizes both files.
    """

    def __init__(self, pairs: list[tuple[str, Path, Path]], shape: tuple[int, int], classes: int | None = None):
        self.pairs, self.shape, self.classes = pairs, shape, classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        _, photo, label = self.pairs[number]
        ids = read_ids(label, self.shape)
        target = ids if self.classes is None else one_hot(ids, self.classes)
        return read_photo(photo, self.shape), target


def loader(
    pairs: list[tuple[str, Path, Path]], settings: Settings, classes: int | None = None, num_workers: int = 0
) -> DataLoader:
    """Shuffled batches of FileSamples in the settings' shape and batch; classes for the original way alone."""
    return DataLoader(
        FileSamples(pairs, settings.shape, classes),
        settings.batch,
        shuffle=True,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),  # as Pytorch-UNet's train.py has it; without a GPU torch would warn
        generator=torch.Generator().manual_seed(settings.seed),
    )


# --- the loop that they share ---------------------------------------------------------------------------------------


@dataclass
class Loop:
    """Model, loss, optimizer, and what only the original way has: a norm to clip at and a schedule by epochs."""

    model: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]  # of logits and target -> scalar
    optimizer: torch.optim.Optimizer
    device: torch.device
    clip: float | None = None
    schedule: MultiStepLR | None = None

    def step(self, x: Tensor, target: Tensor) -> float:
        """One update from f32[B,3,H,W] and the loss's target, both on the device -> the loss before it.

        The model stays in the mode that it is in: training when it is new, and after `epoch`.
        """
        loss = self.loss(self.model(x), target)
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.item()  # waits for the device in every step, as such loops do

    def epoch(self, batches: DataLoader) -> float:
        """All batches once, then the schedule -> mean of the steps' losses."""
        self.model.train()
        total = 0.0
        for x, target in batches:
            total += self.step(x.to(self.device), target.to(self.device))
        if self.schedule is not None:
            self.schedule.step()
        return total / len(batches)


def network(settings: Settings, classes: int) -> unet.UNet:
    """Our network with the first weights that ours starts from, in NCHW memory, float32."""
    with torch.random.fork_rng(devices=[]):  # as in Stepper, so that the weights are equal
        torch.default_generator.manual_seed(settings.seed)
        return unet.build(settings, classes)


# --- 1. the original way ----------------------------------------------------------------------------------------------


def original_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Logits f32[B,C,H,W] and one-hot f32[B,C,H,W] -> sum over images and classes of 1 - pt / (.7 p + .3 t + 1e-7)."""
    valid = target.sum(1, keepdim=True)  # 0 on void, which the report's data has not: mended as in losses.dice_original
    p = logits.softmax(1) * valid
    overlap = (p * target).sum((2, 3))
    return (1 - overlap / (0.7 * p.sum((2, 3)) + 0.3 * target.sum((2, 3)) + 1e-7)).sum()


def original_way(model: nn.Module, epochs: int, device: torch.device) -> Loop:
    """The original report on faces: Dice on one-hot labels, Adam 0.01, gradient norm at most 0.01, a rate that is cut.

    It was cut by hand; here, as in the recipe `original`, by 10 from one half of the epochs and again from three
    quarters.
    """
    optimizer = torch.optim.Adam(model.to(device).parameters(), lr=0.01)
    cuts = [-(-epochs // 2), -(-3 * epochs // 4)]  # rounded up: the first epoch that begins at that share or later
    return Loop(model, original_dice, optimizer, device, 0.01, MultiStepLR(optimizer, cuts, gamma=0.1))


# --- 2. the plain loop ----------------------------------------------------------------------------------------------


def plain_loop(model: nn.Module, device: torch.device) -> Loop:
    """The loop that most people copy: cross-entropy on ids int64[B,H,W] (void left out), Adam 0.001, nothing more."""
    optimizer = torch.optim.Adam(model.to(device).parameters(), lr=1e-3)
    return Loop(model, nn.CrossEntropyLoss(ignore_index=VOID), optimizer, device)


# --- 3. the package -------------------------------------------------------------------------------------------------


def smp_unet(classes: int) -> nn.Module:
    """segmentation_models_pytorch's Unet on an untrained resnet34: f32[B,3,H,W] -> logits f32[B,classes,H,W].

    It takes only H and W that 32 divides. UNetError if the package cannot be imported.
    """
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        remedy = "pip install segmentation-models-pytorch"
        raise UNetError(f"segmentation_models_pytorch cannot be imported ({error}): {remedy}") from error
    return smp.Unet(encoder_name="resnet34", encoder_weights=None, classes=classes)


def describe(model: nn.Module, shape: tuple[int, int]) -> tuple[int, int]:
    """(parameters, multiply-adds of the forward pass of one image f32[3,*shape]); of any network here, ours too.

    Multiply-adds, not flops: FlopCounterMode counts two flops for each. Convolutions and matrix products only.
    """
    ghost = copy.deepcopy(model).eval().to("meta")  # shapes without numbers: nothing is computed or changed
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ghost(torch.empty(1, 3, *shape, device="meta"))
    return unet.count_parameters(model), counter.get_total_flops() // 2
