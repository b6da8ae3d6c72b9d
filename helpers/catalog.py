"""Datasets, recipes and scales as data: one row each, nothing computed."""

from dataclasses import dataclass, field, replace

VOID = 255  # in a label map: never trained, never counted
SPLITS = ("train", "val", "test")
Color = tuple[int, int, int]


@dataclass(frozen=True)
class Row:
    """One colour of a release's label files: its name there, and the class that it maps to ('' = void)."""

    name: str
    color: Color
    maps_to: str


@dataclass(frozen=True)
class Dataset:
    """One dataset: what its ids mean, how a flip changes them, how it is scored."""

    name: str
    title: str
    classes: tuple[str, ...]  # index = id
    colors: tuple[Color, ...]  # RGB, for pictures only
    small_classes: tuple[int, ...]  # ids of small or rare classes, whose mean F1 is reported beside the pooled scores
    primary_metric: str  # selects the best epoch: a class or group (its F1), "mean_iou" or "accuracy"
    flip_pairs: tuple[tuple[int, int], ...] = ()  # ids that trade places in a horizontal flip
    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)  # ids merged before counting
    reported: dict[str, float] = field(default_factory=dict)  # F1 in the original report
    long_names: dict[str, str] = field(default_factory=dict)  # of classes whose name is an abbreviation, for a reader
    about: str = ""  # what the photos show and what is rare in them, for a reader
    look: str = ""  # what to check when you look at photos and labels
    hard: str = ""  # what the worst predictions usually have in common
    table: tuple[Row, ...] = ()  # colours of label files that do not hold ids
    levels: tuple[tuple[int, str], ...] = ()  # grey level of your own masks -> class ("" = void), if it is not the id
    folder: str = ""  # where your own images and masks lie
    threshold: float = 0.0  # two-class masks with soft edges: the second class from this grey level on; 0: not so
    white: int = 0  # the value that means white in photos of more than 8 bits; 0: not stated
    tolerance: int = 0  # Euclidean RGB distance from the table within which a colour counts; beyond it is void

    @property
    def rows(self) -> dict[str, tuple[int, ...]]:
        """Rows of the score table: name -> ids, classes first, then groups."""
        return {name: (i,) for i, name in enumerate(self.classes)} | self.groups

    @property
    def holds_ids(self) -> bool:
        """Whether the values in label files are the ids, as far as the row says."""
        return not (self.table or self.levels or self.threshold)

    def column(self, score: str) -> str:
        """A score's column in the history: f1_<name> of a class or group, else its own name."""
        return f"f1_{score}" if score in self.rows else score

    def id(self, name: str) -> int:
        """Class name -> id."""
        return self.classes.index(name)


HELEN_CLASSES = {
    "bg": (24, 26, 33),
    "face": (240, 190, 150),
    "lb": (124, 88, 220),
    "rb": (186, 150, 255),
    "le": (30, 132, 240),
    "re": (96, 200, 255),
    "nose": (255, 214, 64),
    "ulip": (226, 60, 84),
    "imouth": (130, 20, 60),
    "llip": (255, 128, 150),
    "hair": (64, 160, 96),
}

HELEN_LONG_NAMES = dict(bg="background", lb="left brow", rb="right brow", le="left eye", re="right eye")
HELEN_LONG_NAMES |= dict(ulip="upper lip", imouth="inner mouth", llip="lower lip")
HELEN_REPORTED = dict(bg=0.9240, face=0.8406, lb=0.7005, rb=0.7302, le=0.8028, re=0.8269, nose=0.8509)
HELEN_REPORTED |= dict(ulip=0.6824, imouth=0.6924, llip=0.7344, hair=0.6448)
HELEN_REPORTED |= dict(eyes=0.8149, brows=0.7151, mouth=0.8082, overall=0.8116)

HELEN = Dataset(
    name="helen",
    title="Helen* faces",
    classes=tuple(HELEN_CLASSES),
    colors=tuple(HELEN_CLASSES.values()),
    about="Portraits. Ids 2-9 are eight small parts: an eye is about 0.3 % of the pixels, a brow 0.5 %, while "
    "background, face and hair share about 95 %. Left and right are as the viewer sees them.",
    look="that the outlines sit on the face, that left is left, and that hair in front of a brow is hair. Ears, neck "
    "and clothes are background here: the label defines the task.",
    hard="a turned or tilted head, glasses, hair over a brow, pale brows, side light",
    flip_pairs=((2, 3), (4, 5)),
    groups={"eyes": (4, 5), "brows": (2, 3), "mouth": (7, 8, 9), "overall": (2, 3, 4, 5, 6, 7, 8, 9)},
    small_classes=(2, 3, 4, 5, 6, 7, 8, 9),
    primary_metric="overall",
    reported=HELEN_REPORTED,
    long_names=HELEN_LONG_NAMES,
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
    small_classes=(2,),  # thin, and drawn by hand
    primary_metric="mean_iou",
)

STREET_ABOUT = (
    "Streets seen from a car. Road, buildings, sky and trees share about eight tenths of the pixels; poles, signs, "
    "people and bicycles have about a hundredth each or less, and matter most."
)
STREET_LOOK = (
    "that thin poles are whole, that the far end of the road is named, and that void (white) is only what nobody "
    "could name."
)
STREET_HARD = "people far away, poles before buildings, bicycles, deep shadow, the far end of the street"

# CamVid's own 32 classes, mapped to eleven as in SegNet's tutorial (compared with two public tables).
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

CAMVID_CLASSES = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}

CAMVID = Dataset(
    name="camvid",
    title="CamVid streets",
    classes=tuple(CAMVID_CLASSES),
    colors=tuple(CAMVID_CLASSES.values()),
    about=STREET_ABOUT,
    look=STREET_LOOK,
    hard=STREET_HARD,
    small_classes=(2, 6, 7, 9, 10),  # each a hundredth of the pixels or less
    primary_metric="mean_iou",
    table=CAMVID_TABLE,
)

# All of CamVid's own classes, on request: DATASET=camvid32.
CAMVID32 = replace(
    CAMVID,
    name="camvid32",
    title="CamVid streets, its own 31 classes",
    classes=tuple(row.name for row in CAMVID_TABLE if row.maps_to),
    colors=tuple(row.color for row in CAMVID_TABLE if row.maps_to),
    small_classes=(6, 7, 15, 16, 17, 18, 25, 26, 27, 28, 29, 30),
    table=tuple(Row(row.name, row.color, row.name if row.maps_to else "") for row in CAMVID_TABLE),
)

CITYSCAPES_CLASSES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip
# Void, and in the table all the same: 15 % of real label pixels are nearest one of these, and black would be truck.
CITYSCAPES_VOID = {
    "unlabeled": (0, 0, 0), "dynamic": (111, 74, 0), "ground": (81, 0, 81), "parking": (250, 170, 160),
    "rail track": (230, 150, 140), "guard rail": (180, 165, 180), "bridge": (150, 100, 100), "tunnel": (150, 120, 90),
    "caravan": (0, 0, 90), "trailer": (0, 0, 110),
}  # fmt: skip

# The id of each class, in this order, in the release's own *_labelIds.png; all other ids are void.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

CITYSCAPES = Dataset(
    name="cityscapes",
    title="Cityscapes image pairs",
    classes=tuple(CITYSCAPES_CLASSES),
    colors=tuple(CITYSCAPES_CLASSES.values()),
    about=STREET_ABOUT,
    look=STREET_LOOK,
    hard=STREET_HARD,
    small_classes=(5, 6, 7, 11, 12, 17, 18),
    primary_metric="mean_iou",
    table=tuple(Row(name, color, name) for name, color in CITYSCAPES_CLASSES.items())
    + tuple(Row(name, color, "") for name, color in CITYSCAPES_VOID.items()),
    tolerance=60,
)

CATALOG: dict[str, Dataset] = {row.name: row for row in (HELEN, PETS, CAMVID, CAMVID32, CITYSCAPES)}
