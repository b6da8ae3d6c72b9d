"""Datasets, recipes and scales as data: one row each, nothing computed."""

from dataclasses import asdict, dataclass, field, replace

from .errors import UNetError

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Dataset:
    """One dataset: what its ids mean, how a flip changes them, how it is scored."""

    name: str
    title: str
    classes: tuple[str, ...]  # index = id
    colors: tuple[Color, ...]  # RGB, for pictures only
    swaps: tuple[tuple[int, int], ...]  # ids that trade places in a horizontal flip
    groups: dict[str, tuple[int, ...]]  # ids merged before counting
    parts: tuple[int, ...]  # small classes: their mean F1 stands beside the merged figure
    headline: str  # the class or group by which checkpoints are chosen
    reported: dict[str, float] = field(default_factory=dict)  # F1 of the original write-up

    @property
    def rows(self) -> dict[str, tuple[int, ...]]:
        """Every line of the score table: name -> ids, classes first, then groups."""
        return {name: (i,) for i, name in enumerate(self.classes)} | self.groups

    def id(self, name: str) -> int:
        """Class name -> id."""
        return self.classes.index(name)


HELEN = Dataset(
    name="helen",
    title="Helen* faces",
    classes=("bg", "face", "lb", "rb", "le", "re", "nose", "ulip", "imouth", "llip", "hair"),
    colors=(
        (24, 26, 33),
        (240, 190, 150),
        (124, 88, 220),
        (186, 150, 255),
        (30, 132, 240),
        (96, 200, 255),
        (255, 214, 64),
        (226, 60, 84),
        (130, 20, 60),
        (255, 128, 150),
        (64, 160, 96),
    ),  # fmt: skip
    swaps=((2, 3), (4, 5)),
    groups={"eyes": (4, 5), "brows": (2, 3), "mouth": (7, 8, 9), "overall": (2, 3, 4, 5, 6, 7, 8, 9)},
    parts=(2, 3, 4, 5, 6, 7, 8, 9),
    headline="overall",
    reported={
        "bg": 0.9240,
        "face": 0.8406,
        "lb": 0.7005,
        "rb": 0.7302,
        "le": 0.8028,
        "re": 0.8269,
        "nose": 0.8509,
        "ulip": 0.6824,
        "imouth": 0.6924,
        "llip": 0.7344,
        "hair": 0.6448,
        "eyes": 0.8149,
        "brows": 0.7151,
        "mouth": 0.8082,
        "overall": 0.8116,
    },  # fmt: skip
)

CATALOG: dict[str, Dataset] = {"helen": HELEN}


@dataclass(frozen=True)
class Settings:
    """One training run, whole: dataset, sizes, network, loss, optimiser and schedule."""

    dataset: str = "helen"
    recipe: str = "tuned"
    scale: str = "demo"
    size: int = 256  # pixels: photos are resized to size x size
    width: int = 64  # channels of the first level; doubled at each level down
    depth: int = 4  # levels below the first
    norm: str = "batch"  # batch | none
    slope: float = 0.05  # LeakyReLU's, as in the write-up
    mean: float = 0.5  # the network sees (photo / 255 - mean) / std
    std: float = 0.25
    loss: str = "dice_ce"  # a key of losses.LOSSES
    optimizer: str = "adamw"  # adam | adamw
    lr: float = 2e-3  # the schedule's peak
    schedule: str = "onecycle"  # onecycle | steps (a tenth at one half, a hundredth at three quarters) | constant
    weight_decay: float = 1e-2
    clip: float = 1.0  # gradients are scaled down to this norm
    average: float = 0.99  # weights are averaged over about 1 / (1 - average) steps; 0: no averaging
    augment: bool = True
    precision: str = "auto"  # auto (by the device) | fp32 | bf16 | fp16 with a scaler
    batch: int = 10  # images a step
    epochs: int = 30
    seed: int = 0

    def __post_init__(self):
        for name, value in asdict(self).items():
            if hasattr(value, "item"):  # numpy's and torch's numbers, which a checkpoint must not hold
                object.__setattr__(self, name, value.item())
        for name, least in (
            ("size", 2**self.depth),
            ("width", 1),
            ("depth", 1),
            ("batch", 1),
            ("epochs", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise UNetError(f"settings: {name} is {getattr(self, name)}, it must be at least {least}")
        if not (self.lr > 0 and self.clip > 0 and 0 <= self.average < 1 and self.std > 0):
            raise UNetError("settings: lr, clip and std must be above 0, average from 0 to below 1")

    def but(self, **changes) -> "Settings":
        """The same settings with some changed."""
        return replace(self, **changes)

    def asdict(self) -> dict:
        """Plain values, as a checkpoint keeps them."""
        return asdict(self)


# What the write-up did (its rate was cut by hand; here at one half and three quarters of the epochs) ...
SEED = dict(
    recipe="seed", mean=0.0, std=1.0, loss="dice_seed", optimizer="adam", lr=1e-2, schedule="steps",
    weight_decay=0.0, clip=0.01, average=0.0, augment=False,
)  # fmt: skip
RECIPES: dict[str, dict[str, dict]] = {"helen": {"seed": SEED, "tuned": dict(recipe="tuned")}}  # ... and ours

SCALES: dict[str, dict] = {
    "full": dict(size=256, width=64, batch=10, epochs=30),  # the write-up's sizes: for a GPU
    "demo": dict(size=128, width=16, batch=4, epochs=16),  # minutes on two cores
    "smoke": dict(size=64, width=8, batch=4, epochs=2),  # seconds: what the tests run
}
SAMPLES: dict[str, tuple[int, int]] = {"full": (800, 200), "demo": (320, 60), "smoke": (24, 8)}  # drawn train, test


def dataset(name: str) -> Dataset:
    """The row of the catalogue; UNetError names the choices."""
    if name not in CATALOG:
        raise UNetError(f"no dataset called {name!r}: choose one of {', '.join(CATALOG)}")
    return CATALOG[name]


def settings(dataset_name: str = "helen", recipe: str = "tuned", scale: str = "demo", **changes) -> Settings:
    """Settings of a recipe at a scale, with `changes` on top; UNetError names the choices."""
    recipes = RECIPES[dataset(dataset_name).name]
    if recipe not in recipes or scale not in SCALES:
        raise UNetError(f"recipe {recipe!r} at scale {scale!r}: choose of {list(recipes)} and {list(SCALES)}")
    return Settings(dataset=dataset_name).but(**recipes[recipe], **SCALES[scale], scale=scale).but(**changes)
