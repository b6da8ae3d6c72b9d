"""Synthetic faces: exact labels, the same picture from the same seed, neither too easy nor copied."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import metrics, preprocess
from helpers.core.registry import load_dataset
from helpers.synthetic import releases
from helpers.synthetic.faces import draw_face, random_size

HELEN = load_dataset("helen")
CELLS, LEVELS = 16, 6  # of the guess from position and colour


@pytest.fixture(scope="module")
def faces():
    """(photos uint8[N,64,64,3], labels uint8[N,64,64], whole labels) of 150 train and 40 test faces."""

    def draw(split, count):
        pairs = [draw_face(releases.face_seed(split, i), (256, 240)) for i in range(count)]
        photos = np.stack([preprocess.resize_photo(photo, 64) for photo, _ in pairs])
        return (
            photos,
            np.stack([preprocess.resize_label(label, 64) for _, label in pairs]),
            [label for _, label in pairs],
        )

    return {"train": draw("train", 150), "test": draw("test", 40)}


@pytest.mark.parametrize("size", [(300, 420), (512, 512), (700, 300)])
def test_a_face_is_a_function_of_its_seed(size):
    image, label = draw_face(5, size)
    again, same = draw_face(5, size)
    other, _ = draw_face(6, size)
    assert image.dtype == label.dtype == np.uint8 and image.shape == (*size, 3) and label.shape == size
    assert (image == again).all() and (label == same).all() and (image != other).mean() > 0.5
    assert set(np.unique(label)) <= set(range(11))


def test_sizes_differ_and_stay_in_range():
    sizes = [random_size(np.random.default_rng(i)) for i in range(300)]
    assert all(300 <= side <= 900 for size in sizes for side in size)
    assert len(set(sizes)) > 250
    assert min(h / w for h, w in sizes) < 0.8 and max(h / w for h, w in sizes) > 1.4


def centroid(label: np.ndarray, part: str) -> np.ndarray | None:
    """x, y of a class's middle, or None if fewer than 8 pixels of it are seen."""
    ys, xs = np.nonzero(label == HELEN.id(part))
    return np.array([xs.mean(), ys.mean()]) if len(xs) >= 8 else None


def test_left_is_the_viewer_s_left(faces):
    checked = 0
    for label in faces["train"][2]:
        for left, right in (("lb", "rb"), ("le", "re")):
            a, b = centroid(label, left), centroid(label, right)
            if a is not None and b is not None:
                assert a[0] < b[0]
                checked += 1
    assert checked > 200


def test_parts_lie_where_faces_have_them(faces):
    """Downwards: brow, eye, nose, upper lip, lower lip; in each face that shows both of a pair."""
    for above, below in (("lb", "le"), ("rb", "re"), ("le", "nose"), ("nose", "ulip"), ("ulip", "llip")):
        ends = [(centroid(label, above), centroid(label, below)) for label in faces["train"][2]]
        lower = [b[1] > a[1] for a, b in ends if a is not None and b is not None]
        assert len(lower) > 80 and np.mean(lower) > 0.97  # a strong tilt may turn the order of two


def test_shares_are_near_those_of_real_portraits(faces):
    """Shares of 1000 real portraits in the same ids: large classes within 20 %, parts within a factor of 1.6."""
    labels = faces["train"][1]
    shares = np.bincount(labels.ravel(), minlength=11) / labels.size
    real = dict(
        bg=0.37, face=0.26, lb=0.004, rb=0.004, le=0.0023, re=0.0023, nose=0.021, ulip=0.005, llip=0.007, hair=0.32
    )
    for name, share in real.items():
        bound = 1.2 if share > 0.1 else 1.6
        assert 1 / bound < shares[HELEN.id(name)] / share < bound, (name, shares[HELEN.id(name)])
    seen = np.mean([(label == HELEN.id("imouth")).any() for label in faces["train"][2]])
    assert 0.42 < seen < 0.62  # 52 % of the real ones


def test_skin_spans_the_human_range_and_hair_comes_and_goes(faces):
    photos, labels, _ = faces["train"]
    light = np.array([photo[label == 1].mean() / 255 for photo, label in zip(photos, labels, strict=True)])
    assert np.quantile(light, 0.05) < 0.3 and np.quantile(light, 0.95) > 0.7
    hair = np.array([(label == 10).mean() for label in labels])
    assert 0.005 < (hair == 0).mean() < 0.12 and hair.max() > 0.5
    hidden = [not ((label == 2).any() and (label == 3).any()) for label in labels]  # under a fringe or a lock
    assert 0.01 < np.mean(hidden) < 0.3


def guess(train, test):
    """Each pixel's class from its place and colour alone: the most frequent one there in the train faces."""

    def bins(photos):
        cell = np.arange(64) * CELLS // 64
        color = (photos.astype(int) * LEVELS // 256) @ (LEVELS**2, LEVELS, 1)
        return (cell[:, None] * CELLS + cell)[None] * LEVELS**3 + color

    counts = np.zeros((CELLS**2 * LEVELS**3, 11), np.int64)
    np.add.at(counts, (bins(train[0]).ravel(), train[1].ravel()), 1)
    place = np.repeat(counts.reshape(CELLS**2, LEVELS**3, 11).sum(1), LEVELS**3, 0)  # for colours never seen there
    best = np.where(counts.sum(1) > 0, counts.argmax(1), place.argmax(1))
    return best[bins(test[0])]


def test_place_and_colour_alone_do_not_find_the_parts(faces):
    found = guess(faces["train"], faces["test"])
    matrix = metrics.confusion(torch.from_numpy(found), torch.from_numpy(faces["test"][1]), 11).numpy()
    table = metrics.scores(matrix, HELEN)
    assert table["overall"] < 0.5 and metrics.mean_of_small_classes(matrix, HELEN) < 0.5
    assert table["overall"] > 0.05 and table["face"] > 0.5  # the guess itself works


def features(photos: np.ndarray) -> np.ndarray:
    """Grey thumbnails [N,1024] of zero mean and unit length."""
    small = np.stack([np.asarray(Image.fromarray(p).convert("L").resize((32, 32)), np.float64) for p in photos])
    flat = small.reshape(len(small), -1)
    flat -= flat.mean(1, keepdims=True)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def recompressed(photo: np.ndarray, seed: int) -> np.ndarray:
    """A near-copy: other brightness, noise, JPEG."""
    noise = np.random.default_rng(seed).normal(0, 8, photo.shape)
    stream = io.BytesIO()
    Image.fromarray(np.clip(photo * 0.9 + 10 + noise, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=60)
    return np.asarray(Image.open(stream))


def test_no_test_face_is_a_near_copy_of_a_train_face(faces):
    train, test = faces["train"][0], faces["test"][0]
    copies = np.stack([recompressed(photo, i) for i, photo in enumerate(test)])
    itself = np.linalg.norm(features(test) - features(copies), axis=1)
    nearest = np.linalg.norm(features(test)[:, None] - features(train)[None], axis=2).min(1)
    assert itself.max() < 0.25  # this is what a copy measures ...
    assert nearest.min() > 1.5 * itself.max()  # ... and every other face is further away
