"""Datasets, recipes and scales as data: one row each, nothing computed."""

from dataclasses import asdict, dataclass, field, replace

from .errors import UNetError

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Row:
    """One colour of a release's label files: its own name there, and the class that it is folded into ('' = void)."""

    name: str
    color: Color
    folds: str


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
    headline: str  # the score by which checkpoints are chosen: a class or group (its F1), "mean_iou" or "accuracy"
    reported: dict[str, float] = field(default_factory=dict)  # F1 of the original write-up
    about: str = ""  # what the photos show and what is rare in them, for a reader
    look: str = ""  # what to check when photos and labels are looked at
    hard: str = ""  # what the worst predictions usually have in common
    table: tuple["Row", ...] = ()  # colours of the label files where they are not ids: colour -> class or void
    levels: tuple[tuple[int, str], ...] = ()  # grey level of own masks -> class ("" = void), where they are not ids
    folder: str = ""  # where own images and masks lie
    tolerance: int = 0  # how far a colour may lie from the table's, in RGB (Euclid); what is further is void

    @property
    def rows(self) -> dict[str, tuple[int, ...]]:
        """Every line of the score table: name -> ids, classes first, then groups."""
        return {name: (i,) for i, name in enumerate(self.classes)} | self.groups

    def column(self, score: str) -> str:
        """A score's name in the history: f1_<name> of a class or group, its own for mean_iou and accuracy."""
        return f"f1_{score}" if score in self.rows else score

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
    about="Portraits. Ids 2-9 are eight small parts: an eye is about 0.3 % of the pixels, a brow 0.5 %, while "
    "background, face and hair share about 95 %. Left and right are as the viewer sees them.",
    look="that the outlines sit on the face, that left is left, and that hair in front of a brow is hair. Ears, neck "
    "and clothes are background here: the label defines the task.",
    hard="a turned or tilted head, glasses, hair over a brow, pale brows, side light",
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

PETS = Dataset(
    name="pets",
    title="Oxford-IIIT Pet",
    classes=("pet", "background", "border"),  # the trimaps' 1, 2, 3
    colors=((240, 150, 60), (24, 26, 33), (255, 240, 150)),
    about="Cats and dogs. The border is a band around the animal in which the annotators were not sure: about an "
    "eighth of the pixels, and the hardest class, because its edges are drawn and not seen.",
    look="that 0 is the pet and not the background, and that the band goes all the way round.",
    hard="long fur, an animal as dark as the room, two animals, a collar or a hand before it",
    swaps=(),
    groups={},
    parts=(2,),  # thin, and drawn by hand: the hard one
    headline="mean_iou",
)

STREET_TEXTS = dict(
    about="Streets seen from a car. Road, buildings, sky and trees share about eight tenths of the pixels; poles, "
    "signs, people and bicycles have about a hundredth each or less, and matter most.",
    look="that thin poles are whole, that the far end of the road is named, and that void (white) is only what nobody "
    "could name.",
    hard="people far away, poles before buildings, bicycles, deep shadow, the far end of the street",
)

# CamVid's own 32 classes, folded into eleven as SegNet's tutorial has them (held against two public tables).
CAMVID_TABLE = (
    Row("Sky", (128, 128, 128), "Sky"),
    Row("Building", (128, 0, 0), "Building"),
    Row("Wall", (64, 192, 0), "Building"),
    Row("Bridge", (0, 128, 64), "Building"),
    Row("Tunnel", (64, 0, 64), "Building"),
    Row("Archway", (192, 0, 128), "Building"),
    Row("Column_Pole", (192, 192, 128), "Pole"),
    Row("TrafficCone", (0, 0, 64), "Pole"),
    Row("Road", (128, 64, 128), "Road"),
    Row("LaneMkgsDriv", (128, 0, 192), "Road"),
    Row("LaneMkgsNonDriv", (192, 0, 64), "Road"),
    Row("Sidewalk", (0, 0, 192), "Pavement"),
    Row("ParkingBlock", (64, 192, 128), "Pavement"),
    Row("RoadShoulder", (128, 128, 192), "Pavement"),
    Row("Tree", (128, 128, 0), "Tree"),
    Row("VegetationMisc", (192, 192, 0), "Tree"),
    Row("SignSymbol", (192, 128, 128), "SignSymbol"),
    Row("Misc_Text", (128, 128, 64), "SignSymbol"),
    Row("TrafficLight", (0, 64, 64), "SignSymbol"),
    Row("Fence", (64, 64, 128), "Fence"),
    Row("Car", (64, 0, 128), "Car"),
    Row("SUVPickupTruck", (64, 128, 192), "Car"),
    Row("Truck_Bus", (192, 128, 192), "Car"),
    Row("Train", (192, 64, 128), "Car"),
    Row("OtherMoving", (128, 64, 64), "Car"),
    Row("Pedestrian", (64, 64, 0), "Pedestrian"),
    Row("Child", (192, 128, 64), "Pedestrian"),
    Row("CartLuggagePram", (64, 0, 192), "Pedestrian"),
    Row("Animal", (64, 128, 64), "Pedestrian"),
    Row("Bicyclist", (0, 128, 192), "Bicyclist"),
    Row("MotorcycleScooter", (192, 0, 192), "Bicyclist"),
    Row("Void", (0, 0, 0), ""),
)

CAMVID = Dataset(
    name="camvid",
    title="CamVid streets",
    classes=("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian",
             "Bicyclist"),
    colors=((128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
            (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192)),
    swaps=(),
    groups={},
    **STREET_TEXTS,
    parts=(2, 6, 7, 9, 10),  # each a hundredth of the pixels or less
    headline="mean_iou",
    table=CAMVID_TABLE,
)  # fmt: skip

# All of CamVid's own classes, on request: DATASET=camvid32.
CAMVID32 = Dataset(
    name="camvid32",
    title="CamVid streets, its own 31 classes",
    classes=tuple(row.name for row in CAMVID_TABLE if row.folds),
    colors=tuple(row.color for row in CAMVID_TABLE if row.folds),
    swaps=(),
    groups={},
    **STREET_TEXTS,
    parts=(6, 7, 15, 16, 17, 18, 25, 26, 27, 28, 29, 30),
    headline="mean_iou",
    table=tuple(Row(row.name, row.color, row.name if row.folds else "") for row in CAMVID_TABLE),
)

CITYSCAPES_CLASSES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip
# They must be in the table, or black becomes truck: 15 % of real label pixels are nearest one of these.
CITYSCAPES_VOID = {
    "unlabeled": (0, 0, 0), "dynamic": (111, 74, 0), "ground": (81, 0, 81), "parking": (250, 170, 160),
    "rail track": (230, 150, 140), "guard rail": (180, 165, 180), "bridge": (150, 100, 100), "tunnel": (150, 120, 90),
    "caravan": (0, 0, 90), "trailer": (0, 0, 110),
}  # fmt: skip

CITYSCAPES = Dataset(
    name="cityscapes",
    title="Cityscapes image pairs",
    classes=tuple(CITYSCAPES_CLASSES),
    colors=tuple(CITYSCAPES_CLASSES.values()),
    swaps=(),
    groups={},
    **STREET_TEXTS,
    parts=(5, 6, 7, 11, 12, 17, 18),
    headline="mean_iou",
    table=tuple(Row(name, color, name) for name, color in CITYSCAPES_CLASSES.items())
    + tuple(Row(name, color, "") for name, color in CITYSCAPES_VOID.items()),
    tolerance=60,
)

CATALOG: dict[str, Dataset] = {row.name: row for row in (HELEN, PETS, CAMVID, CAMVID32, CITYSCAPES)}


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
    average: float = 0.99  # weights are averaged over about 1 / (1 - average) steps; 0: no averaging
    augment: float = 1.0  # strength of turns, zooms, shifts and colours, beside mirrored photos; 0: none of it
    precision: str = "auto"  # auto (by the device) | fp32 | bf16 | fp16 with a scaler
    compile: bool = False  # the network through torch.compile: pays on a GPU, after a minute
    batch: int = 10  # images a step
    epochs: int = 30
    early: float = 0.0  # so large a share of the epochs, the first, sees photos of half the size: a quarter of the work
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
        if not 0 <= self.early < 1:
            raise UNetError(f"settings: early is {self.early}, it must be in [0, 1): the last epochs see whole photos")
        if self.early and min(self.shape) < 2 ** (self.depth + 2):  # half of it must leave 2 x 2 pixels, for the norm
            raise UNetError(f"settings: half of {min(self.shape)} pixels is too small for depth {self.depth}: early=0")
        if not (self.lr > 0 and self.clip >= 0 and 0 <= self.average < 1 and self.std > 0 and 0 <= self.momentum < 1):
            raise UNetError("settings: lr and std must be above 0, clip at least 0, average and momentum in [0, 1)")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the network's input."""
        return self.size, self.columns or self.size

    def but(self, **changes) -> "Settings":
        """The same settings with some changed."""
        return replace(self, **changes)

    def asdict(self) -> dict:
        """Plain values, as a checkpoint keeps them."""
        return asdict(self)


# What the four write-ups did. Of the first one the rate was cut by hand; here at one half and three quarters.
PLAIN = dict(recipe="seed", mean=0.0, std=1.0, weight_decay=0.0, average=0.0, augment=0.0, schedule="constant")
SEED = PLAIN | dict(loss="dice_seed", optimizer="adam", lr=1e-2, schedule="steps", clip=0.01)
PETS_SEED = PLAIN | dict(
    size=128, width=32, norm="none", slope=0.0, up="nearest", loss="cross_entropy", optimizer="adam", lr=1e-3, clip=0.0,
    batch=8, epochs=10, patience=3,
)  # fmt: skip
CAMVID_SEED = PLAIN | dict(
    size=128, depth=3, slope=0.0, up="bilinear", loss="focal_seed", optimizer="sgd", lr=5e-4, momentum=0.99, clip=0.0,
    batch=4, epochs=40,
)  # fmt: skip
CITYSCAPES_SEED = PLAIN | dict(
    size=256, width=16, slope=0.0, loss="cross_entropy", optimizer="adam", lr=1e-3, clip=0.0, batch=10, epochs=10
)
TUNED = dict(recipe="tuned")  # ours: the fields' defaults
STREETS = dict(size=360, columns=480, batch=8, epochs=60)
RECIPES: dict[str, dict[str, dict]] = {
    "helen": {"seed": SEED, "tuned": TUNED},
    "pets": {"seed": PETS_SEED, "tuned": TUNED | dict(size=256, batch=10)},
    "camvid": {"seed": CAMVID_SEED, "tuned": TUNED | STREETS},
    "camvid32": {"seed": CAMVID_SEED, "tuned": TUNED | STREETS},
    "cityscapes": {"seed": CITYSCAPES_SEED, "tuned": TUNED},
}

SCALES: dict[str, dict] = {
    "full": {},  # the recipe's own sizes: for a GPU
    "demo": dict(size=128, width=16, batch=4, epochs=16),  # minutes on two cores
    "smoke": dict(size=64, width=8, batch=4, epochs=2),  # seconds: what the tests run
}
# What learns most in a few minutes from a few hundred photos: Muon, half of the epochs at half size, and a quarter of
# the random changes, which are for long trainings (benchmarks/results/accuracy.txt).
TUNED_AT: dict[str, dict] = {
    "demo": dict(optimizer="muon", lr=3e-3, early=0.5, augment=0.25, epochs=20),
    "smoke": dict(optimizer="muon"),
}
# CamVid's frames are 4:3, and a small class is a few pixels in them.
WIDE: dict[str, dict] = {"demo": dict(size=144, columns=192, epochs=20), "smoke": dict(size=48, columns=64)}
SCALES_OF: dict[str, dict[str, dict]] = {"camvid": WIDE, "camvid32": WIDE}
SAMPLES: dict[str, tuple[int, int]] = {"full": (800, 200), "demo": (320, 60), "smoke": (24, 8)}  # drawn train, test


def dataset(name: str) -> Dataset:
    """The row of the catalogue, or a dataset of the reader's own (own.register); UNetError names the choices."""
    if name in CATALOG:
        return CATALOG[name]
    from . import own  # an upper floor: only a name that is not in the catalogue needs it

    if row := own.load(name):
        return row
    raise UNetError(f"no dataset called {name!r}: choose one of {', '.join(CATALOG)}, or register your own")


def settings(dataset_name: str = "helen", recipe: str = "tuned", scale: str = "demo", **changes) -> Settings:
    """Settings of a recipe at a scale, with `changes` on top; UNetError names the choices."""
    recipes = RECIPES.get(dataset(dataset_name).name, {"tuned": TUNED})
    if recipe not in recipes or scale not in SCALES:
        raise UNetError(f"recipe {recipe!r} at scale {scale!r}: choose of {list(recipes)} and {list(SCALES)}")
    of_scale = SCALES[scale] | SCALES_OF.get(dataset_name, {}).get(scale, {})
    if recipe == "tuned":
        of_scale |= TUNED_AT.get(scale, {})
    return Settings(dataset=dataset_name).but(**recipes[recipe] | of_scale, scale=scale).but(**changes)
