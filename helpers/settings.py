"""One training run as data: settings, recipes, scales."""

from dataclasses import asdict, dataclass, replace

from .core.errors import UNetError
from .core.registry import load_dataset


@dataclass(frozen=True)
class Settings:
    """One training run, whole: dataset, sizes, network, loss, optimiser and schedule."""

    dataset: str = "helen"
    recipe: str = "tuned"
    scale: str = "demo"
    size: int = 256  # pixels: photos are resized to so many rows ...
    columns: int = 0  # ... and columns; 0: as many as rows
    width: int = 64  # channels of the first level; doubled at each level down
    depth: int = 4  # levels below the first
    norm: str = "batch"  # batch | none
    slope: float = 0.05  # LeakyReLU's, as in the write-up; 0: ReLU
    up: str = "transpose"  # transpose (a learned convolution) | nearest | bilinear (both followed by a convolution)
    mean: float = 0.5  # the network sees (photo / 255 - mean) / std
    std: float = 0.25
    loss: str = "dice_ce"  # a key of losses.LOSSES
    optimizer: str = "adamw"  # a key of stepping.OPTIMIZERS
    momentum: float = 0.9  # of sgd
    lr: float = 2e-3  # the schedule's peak
    schedule: str = "onecycle"  # onecycle | steps (a tenth at one half, a hundredth at three quarters) | constant
    weight_decay: float = 1e-2
    clip: float = 1.0  # gradients are scaled down to this norm; 0: not at all
    ema_decay: float = 0.99  # weights are averaged over about 1 / (1 - average) steps; 0: no averaging
    augment: float = 1.0  # strength of turns, zooms, shifts and colours, beside mirrored photos; 0: none of it
    precision: str = "auto"  # auto (by the device) | fp32 | bf16 | fp16 with a scaler
    compile: bool = False  # the network through torch.compile: pays on a GPU, after a minute
    batch: int = 10  # images a step
    epochs: int = 30
    half_size_fraction: float = (
        0.0  # so large a share of the epochs, the first, sees photos of half the size: a quarter of the work
    )
    patience: int = 0  # training ends after so many epochs without a better one; 0: never
    seed: int = 0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if hasattr(value, "item"):  # numpy's and torch's numbers, which a checkpoint must not hold
                object.__setattr__(self, name, value.item())
        least = dict(size=2**self.depth, width=1, depth=1, batch=1, epochs=1, seed=0, patience=0, columns=0)
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UNetError(f"settings: {name} is {getattr(self, name)}, it must be at least {bound}")
        if 0 < self.columns < 2**self.depth:
            raise UNetError(f"settings: columns is {self.columns}, it must be 0 or at least {2**self.depth}")
        if not 0 <= self.augment <= 2:
            raise UNetError(f"settings: augment is {self.augment}, it must be from 0 (none) over 1 to 2 (twice as far)")
        if not 0 <= self.half_size_fraction < 1:
            raise UNetError(
                f"settings: early is {self.half_size_fraction}, it must be in [0, 1): the last epochs see whole photos"
            )
        if self.half_size_fraction and min(self.shape) < 2 ** (
            self.depth + 2
        ):  # half of it must leave 2 x 2 pixels, for the norm
            raise UNetError(
                f"settings: half of {min(self.shape)} pixels is too small for depth {self.depth}: half_size_fraction=0"
            )
        if not (self.lr > 0 and self.clip >= 0 and 0 <= self.ema_decay < 1 and self.std > 0 and 0 <= self.momentum < 1):
            raise UNetError("settings: lr and std must be above 0, clip at least 0, average and momentum in [0, 1)")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the network's input."""
        return self.size, self.columns or self.size

    def replace(self, **changes) -> "Settings":
        """The same settings with some changed."""
        return replace(self, **changes)

    def asdict(self) -> dict:
        """Plain values, as a checkpoint keeps them."""
        return asdict(self)


# What the four write-ups did. Of the first one the rate was cut by hand; here at one half and three quarters.
PLAIN = dict(recipe="original", mean=0.0, std=1.0, weight_decay=0.0, ema_decay=0.0, augment=0.0, schedule="constant")
ORIGINAL = PLAIN | dict(loss="dice_original", optimizer="adam", lr=1e-2, schedule="steps", clip=0.01)
PETS_ORIGINAL = PLAIN | dict(
    size=128, width=32, norm="none", slope=0.0, up="nearest", loss="cross_entropy", optimizer="adam", lr=1e-3, clip=0.0,
    batch=8, epochs=10, patience=3,
)  # fmt: skip
CAMVID_ORIGINAL = PLAIN | dict(
    size=128, depth=3, slope=0.0, up="bilinear", loss="focal_original", optimizer="sgd", lr=5e-4, momentum=0.99, clip=0.0,
    batch=4, epochs=40,
)  # fmt: skip
CITYSCAPES_ORIGINAL = PLAIN | dict(
    size=256, width=16, slope=0.0, loss="cross_entropy", optimizer="adam", lr=1e-3, clip=0.0, batch=10, epochs=10
)
TUNED = dict(recipe="tuned")  # ours: the fields' defaults
STREETS = dict(size=360, columns=480, batch=8, epochs=60)
RECIPES: dict[str, dict[str, dict]] = {
    "helen": {"original": ORIGINAL, "tuned": TUNED},
    "pets": {"original": PETS_ORIGINAL, "tuned": TUNED | dict(size=256, batch=10)},
    "camvid": {"original": CAMVID_ORIGINAL, "tuned": TUNED | STREETS},
    "camvid32": {"original": CAMVID_ORIGINAL, "tuned": TUNED | STREETS},
    "cityscapes": {"original": CITYSCAPES_ORIGINAL, "tuned": TUNED},
}

SCALES: dict[str, dict] = {
    "full": {},  # the recipe's own sizes: for a GPU
    "demo": dict(size=128, width=16, batch=4, epochs=16),  # minutes on two cores
    "smoke": dict(size=64, width=8, batch=4, epochs=2),  # seconds: what the tests run
}
# What learns most in a few minutes from a few hundred photos: Muon, half of the epochs at half size, and a quarter of
# the random changes, which are for long trainings (benchmarks/results/accuracy.txt).
TUNED_AT: dict[str, dict] = {
    "demo": dict(optimizer="muon", lr=3e-3, half_size_fraction=0.5, augment=0.25, epochs=20),
    "smoke": dict(optimizer="muon"),
}
# CamVid's frames are 4:3, and a small class is a few pixels in them.
WIDE: dict[str, dict] = {"demo": dict(size=144, columns=192, epochs=20), "smoke": dict(size=48, columns=64)}
SCALES_OF: dict[str, dict[str, dict]] = {"camvid": WIDE, "camvid32": WIDE}
SAMPLES: dict[str, tuple[int, int]] = {"full": (800, 200), "demo": (320, 60), "smoke": (24, 8)}  # drawn train, test


def make_settings(dataset_name: str = "helen", recipe: str = "tuned", scale: str = "demo", **changes) -> Settings:
    """Settings of a recipe at a scale, with `changes` on top; UNetError names the choices."""
    recipes = RECIPES.get(load_dataset(dataset_name).name, {"tuned": TUNED})
    if recipe not in recipes or scale not in SCALES:
        raise UNetError(f"recipe {recipe!r} at scale {scale!r}: choose of {list(recipes)} and {list(SCALES)}")
    of_scale = SCALES[scale] | SCALES_OF.get(dataset_name, {}).get(scale, {})
    if recipe == "tuned":
        of_scale |= TUNED_AT.get(scale, {})
    return Settings(dataset=dataset_name).replace(**recipes[recipe] | of_scale, scale=scale).replace(**changes)
