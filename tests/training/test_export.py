"""Exports: what comes back is what was written; other files, damaged and missing ones are named."""

import pytest
import tiny
import torch

from helpers import predict, unet
from helpers.core import files
from helpers.core.errors import CheckpointError
from helpers.training import export


def write(path, **changes):
    settings = tiny.settings()
    weights = unet.build(settings, 11).state_dict()
    export.write_export(path, weights, settings, {"overall": 0.5}, "tiny stripes")
    return weights, settings


def test_an_export_comes_back_as_the_network(tmp_path):
    weights, settings = write(tmp_path / "w.pt")
    model, read_settings, about = export.read_export(tmp_path / "w.pt")
    assert read_settings == settings and about["scores"] == {"overall": 0.5} and not model.training
    for name, value in model.state_dict().items():
        half = weights[name].half().float() if weights[name].ndim > 1 else weights[name]
        assert torch.equal(value.float(), half.float())


def test_an_export_is_read_from_an_address(tmp_path):
    write(tmp_path / "w.pt")
    parser = predict.load((tmp_path / "w.pt").as_uri())
    assert parser.about["trained_on"] == "tiny stripes"


@pytest.mark.parametrize("state", [{"model": {}}, [1]])
def test_other_files_are_not_taken_for_exports(tmp_path, state):
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: not an export"):
        predict.load(tmp_path / "x.pt")


def test_weights_that_do_not_fit_are_named(tmp_path):
    write(tmp_path / "w.pt")
    state = torch.load(tmp_path / "w.pt", weights_only=True)
    state["weights"].pop("out.bias")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt: weights do not fit"):
        predict.load(tmp_path / "w.pt")


def test_missing_files_and_addresses_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no\.pt: no such file"):
        predict.load(tmp_path / "no.pt")
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        predict.load((tmp_path / "no.pt").as_uri())


def test_the_published_export_has_its_checksum_and_is_small():
    name, digest = predict.PRETRAINED.name, files.sha256(predict.PRETRAINED)
    assert (predict.PRETRAINED.parent / "SHA256SUMS").read_text().split() == [digest, name]
    assert predict.PRETRAINED.stat().st_size <= 4e6
    assert predict.load(predict.PRETRAINED).settings.scale == "demo"
