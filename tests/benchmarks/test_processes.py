"""benchmarks/processes.py: what its line says of two processes against one."""

import pytest

from benchmarks import processes
from helpers.settings import make_settings


def test_differences_are_shares_of_the_first_ones_losses():
    one, other = {"losses": [2.0, 1.0, 0.5]}, {"losses": [2.0, 1.1, 0.4]}
    assert processes.apart(one, other) == pytest.approx([0.0, 0.1, 0.2])


def test_a_line_holds_differences_scores_and_speeds_in_the_order_of_its_head(monkeypatch):
    known = {
        (1, 0): {"losses": [2.0, 1.0, 1.0], "score": 0.81, "speed": 40.0},
        (2, 0): {"losses": [2.0, 1.1, 1.2], "score": 0.82, "speed": 30.0},
        (1, 1): {"losses": [3.0, 2.0, 2.0], "score": 0.83, "speed": 41.0},
    }
    monkeypatch.setattr(processes, "measured", lambda name, count, seed=0: known[count, seed])
    words = processes.line("batch norm, batch 4").removeprefix("batch norm, batch 4").split()
    first, median, largest, seeds, *rest = map(float, words)
    assert (first, median, largest, seeds) == pytest.approx((0.0, 0.1, 0.2, 1.0))
    assert rest == [0.81, 0.82, 0.83, 40.0, 30.0]


@pytest.mark.parametrize("name", processes.CASES)
def test_every_case_is_a_whole_recipe_and_has_a_run_of_its_own(name):
    settings = make_settings(processes.DATASET, "tuned", "demo", **processes.CASES[name])
    assert (settings.norm == "none") == name.startswith("no norm")
    assert name.endswith(f"batch {settings.batch}")
    names = {processes.run_name(case, count, seed) for case in processes.CASES for count in (1, 2) for seed in (0, 1)}
    assert len(names) == 4 * len(processes.CASES)
    assert not any(set(run) - set("abcdefghijklmnopqrstuvwxyz0123456789-") for run in names)  # a folder's name anywhere
