"""A training that begins with the weights of an export."""

import pytest
import tiny
import torch

from helpers import predict, unet
from helpers.core.errors import CheckpointError, TrainingError
from helpers.training import export


@pytest.fixture
def given(tmp_path):
    """An export of tiny settings with weights that no new network has."""
    one = tiny.trainer(tiny.arrays(), "donor").fit(1)
    one.export(tmp_path / "given.pt")
    return tmp_path / "given.pt"


def test_the_same_classes_give_the_same_logits_before_the_first_step(given, capsys):
    one = tiny.trainer(tiny.arrays(), "new", start=given)
    x = torch.rand(1, 3, 32, 32)
    donor = predict.load(given, "cpu").model
    assert torch.equal(one.model.eval()(x), donor(x)) and torch.equal(one.network(x), donor(x))
    printed = capsys.readouterr().out
    assert "synthetic" in printed or "epoch 1" in printed  # what it was trained on
    assert "and the classes bg, face" in printed and printed.strip().endswith("new: nothing")
    assert [row["note"] for row in one.history] == ["from given.pt"]


def test_it_trains_on_and_goes_on_without_the_file(given, capsys):
    one = tiny.trainer(tiny.arrays(), "new", start=given).fit(1)
    given.unlink()
    again = tiny.trainer(tiny.arrays(), "new", start=given)
    assert again.step == one.step and tiny.same(tiny.state(again), tiny.state(one))
    assert "goes on with its own weights" in capsys.readouterr().out


def test_of_other_classes_those_of_the_same_name_are_taken(given):
    """Two of three: their rows of the last layer, at their new places; the third keeps its own."""
    settings = tiny.settings(size=48)  # another input size changes no tensor
    model = unet.build(settings, 3)
    before = model.out.weight.clone()
    line = export.take_over(model, settings, ("hair", "hat", "bg"), given)
    donor, _, about = export.read_export(given)
    rows = {name: donor.out.weight[about["classes"].index(name)] for name in ("hair", "bg")}
    assert torch.equal(model.out.weight[0], rows["hair"]) and torch.equal(model.out.weight[2], rows["bg"])
    assert torch.equal(model.out.weight[1], before[1])
    assert torch.equal(model.state_dict()["ups.0.up.weight"], donor.state_dict()["ups.0.up.weight"])
    assert "the classes hair, bg; new: class hat" in line


def test_a_deeper_network_takes_what_fits_and_names_the_rest(given):
    settings = tiny.settings(depth=3)
    line = export.take_over(unet.build(settings, 11), settings, ("bg",) * 11, given)
    assert "new: downs.2." in line


def test_where_nothing_fits_it_says_so(given, tmp_path):
    with pytest.raises(TrainingError, match="its network has width 4 and depth 2, this one width 6 and depth 2"):
        tiny.trainer(tiny.arrays(), "wide", start=given, width=6)
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        tiny.trainer(tiny.arrays(), "none", start=tmp_path / "none.pt")
