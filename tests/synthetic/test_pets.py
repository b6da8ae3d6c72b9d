"""Synthetic pets: trimaps as the release has them."""

import numpy as np

from helpers.synthetic import pets


def test_a_trimap_s_band_lies_on_both_sides():
    pet = np.zeros((240, 240), bool)
    pet[:, 120:] = True
    row = pets.trimap(pet)[120]
    band = np.flatnonzero(row == pets.BORDER)
    assert (row[: band[0]] == pets.BACKGROUND).all() and (row[band[-1] + 1 :] == pets.PET).all()
    assert abs(band.mean() - 119.5) <= 0.5 and 4 <= len(band) <= 12 and (np.diff(band) == 1).all()


def test_a_pet_is_a_function_of_its_seed():
    (photo, label), (again, same), (other, _) = (pets.draw_pet(seed, dog=True) for seed in (4, 4, 5))
    assert photo.dtype == label.dtype == np.uint8 and photo.shape == (*label.shape, 3)
    assert (photo == again).all() and (label == same).all() and set(np.unique(label)) == {1, 2, 3}
    assert photo.shape != other.shape or (photo != other).mean() > 0.5
