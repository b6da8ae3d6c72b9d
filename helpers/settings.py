"""One training run as data: its settings, the recipes and scales they come from, and what a notebook begins with."""

from dataclasses import asdict, dataclass, replace

from .core import choice
from .core.choice import default_scale
from .core.env import run_dir, shown
from .core.errors import UNetError
from .core.registry import load_dataset

# The last five are the core's, for notebooks: a dataset by name, what 01 prepared, and where a run's files lie.
__all__ = ["RECIPES", "SAMPLES", "SCALES", "Settings", "chosen", "describe", "make_settings"]
__all__ += ["default_scale", "load_dataset", "run_dir", "shown"]


@dataclass(frozen=True)
class Settings:
    """All settings of one training run: dataset, input size, network, loss, optimizer and schedule."""

    dataset: str = "helen"
    recipe: str = "tuned"
    scale: str = "demo"
    size: int = 256  # rows of the network's input, in pixels
    columns: int = 0  # columns of the input; 0: a square
    width: int = 64  # channels of the first level; doubled at each level down
    depth: int = 4  # levels below the first
    norm: str = "batch"  # batch | none
    slope: float = 0.05  # negative slope of LeakyReLU, as in the original report; 0: ReLU
    up: str = "transpose"  # transpose (a learned convolution) | nearest | bilinear (both followed by a convolution)
    mean: float = 0.5  # the network sees (photo / 255 - mean) / std
    std: float = 0.25
    white: int = 0  # the value that means white in photos of more than 8 bits, as the dataset says; 0: not stated
    loss: str = "dice_ce"  # a key of losses.LOSSES
    optimizer: str = "adamw"  # a key of training.stepper.OPTIMIZERS
    momentum: float = 0.9  # of sgd
    lr: float = 2e-3  # the schedule's highest learning rate
    schedule: str = "onecycle"  # onecycle | steps (a tenth at one half, a hundredth at three quarters) | constant
    weight_decay: float = 1e-2
    clip: float = 1.0  # largest norm of the gradient, which is scaled down to it; 0: no clipping
    ema_decay: float = 0.99  # the weights' moving average spans about 1 / (1 - ema_decay) steps; 0: no average
    augment: float = 1.0  # strength of rotation, zoom, shift and colour changes, from 0 (no augmentation) to 2
    precision: str = "auto"  # auto (by the device) | fp32 | bf16 | fp16 with a scaler
    compile: bool = False  # torch.compile the network: pays on a GPU, after a minute
    batch: int = 10  # images a step, over all ranks
    epochs: int = 30
    half_size_fraction: float = 0.0  # share of the epochs, the first ones, that see photos of half the size
    patience: int = 0  # training ends after so many epochs without a better one; 0: never
    seed: int = 0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if hasattr(value, "item"):  # numpy's and torch's numbers, which a checkpoint must not hold
                object.__setattr__(self, name, value.item())
        smallest = 2**self.depth
        least = dict(width=1, depth=1, size=smallest, columns=smallest if self.columns else 0, batch=1, epochs=1)
        for name, bound in (least | dict(clip=0, patience=0, seed=0)).items():
            if not getattr(self, name) >= bound:  # so that NaN is refused, too
                raise UNetError(f"settings: {name} is {getattr(self, name)}, it must be at least {bound}")
        for name in ("half_size_fraction", "ema_decay", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UNetError(f"settings: {name} is {getattr(self, name)}, it must be in [0, 1)")
        if not 0 <= self.augment <= 2:
            raise UNetError(f"settings: augment is {self.augment}, it must be from 0 (none) to 2 (twice as strong)")
        if not (self.lr > 0 and self.std > 0):
            raise UNetError("settings: lr and std must be above 0")
        if self.half_size_fraction and min(self.shape) < 4 * smallest:  # half of it must leave the norm 2 x 2 pixels
            fault = f"half of {min(self.shape)} pixels is too small for depth {self.depth}"
            raise UNetError(f"settings: {fault}: half_size_fraction=0")

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


# What the four original reports did. The first one's rate was cut by hand; here at one half and three quarters.
PLAIN = dict(recipe="original", mean=0.0, std=1.0, weight_decay=0.0, ema_decay=0.0, augment=0.0, schedule="constant")
ORIGINAL = PLAIN | dict(loss="dice_original", optimizer="adam", lr=1e-2, schedule="steps", clip=0.01)
PETS_ORIGINAL = PLAIN | dict(size=128, width=32, norm="none", slope=0.0, up="nearest", loss="cross_entropy")
PETS_ORIGINAL |= dict(optimizer="adam", lr=1e-3, clip=0.0, batch=8, epochs=10, patience=3)
CAMVID_ORIGINAL = PLAIN | dict(size=128, depth=3, slope=0.0, up="bilinear", loss="focal_original")
CAMVID_ORIGINAL |= dict(optimizer="sgd", lr=5e-4, momentum=0.99, clip=0.0, batch=4, epochs=40)
CITYSCAPES_ORIGINAL = PLAIN | dict(size=256, width=16, slope=0.0, loss="cross_entropy")
CITYSCAPES_ORIGINAL |= dict(optimizer="adam", lr=1e-3, clip=0.0, batch=10, epochs=10)
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
# the augmentation's strength, of which long trainings profit (benchmarks/results/accuracy.txt).
TUNED_AT_SCALE: dict[str, dict] = {
    "demo": dict(optimizer="muon", lr=3e-3, half_size_fraction=0.5, augment=0.25, epochs=20),
    "smoke": dict(optimizer="muon"),
}
# CamVid's frames are 4:3, and a small class is a few pixels in them.
WIDE: dict[str, dict] = {"demo": dict(size=144, columns=192, epochs=20), "smoke": dict(size=48, columns=64)}
WIDE_DATASETS = ("camvid", "camvid32")
SAMPLES: dict[str, tuple[int, int]] = {"full": (800, 200), "demo": (320, 60), "smoke": (24, 8)}  # synthetic train, test


def make_settings(dataset_name: str = "helen", recipe: str = "tuned", scale: str = "demo", **changes) -> Settings:
    """Settings of a recipe at a scale, with `changes` on top; UNetError names the choices."""
    row = load_dataset(dataset_name)
    recipes = RECIPES.get(row.name, {"tuned": TUNED, "original": ORIGINAL})
    if recipe not in recipes or scale not in SCALES:
        raise UNetError(f"recipe {recipe!r} at scale {scale!r}: choose of {list(recipes)} and {list(SCALES)}")
    at_scale = SCALES[scale] | (WIDE.get(scale, {}) if dataset_name in WIDE_DATASETS else {})
    if recipe == "tuned":
        at_scale |= TUNED_AT_SCALE.get(scale, {})
    settings = Settings(dataset=dataset_name, white=row.white).replace(**recipes[recipe] | at_scale, scale=scale)
    return settings.replace(**changes)


def chosen(recipe: str = "tuned", **changes) -> Settings:
    """Settings for the dataset and at the scale that notebook 01, or `python -m helpers prepare`, prepared."""
    return make_settings(choice.chosen_dataset(), recipe, choice.chosen_scale(), **changes)


def describe(settings: Settings) -> str:
    """One line: dataset, where its data comes from, scale, input size, width, batch, epochs."""
    data = f"{load_dataset(settings.dataset).title} ({choice.source(settings.dataset)})"
    rows, columns = settings.shape
    network = f"{rows} x {columns} px, width {settings.width}"
    return f"{data}, scale {settings.scale}: {network}, batch {settings.batch}, {settings.epochs} epochs"
