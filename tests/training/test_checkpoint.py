"""Checkpoints and exports: atomic, safe to read, damaged ones named."""

import errno
import os
import pickle
import random

import pytest
import tiny
import torch

from helpers import predict, unet
from helpers.core import files
from helpers.core.errors import CheckpointError
from helpers.training import checkpoint


def export(path, **changes):
    settings = tiny.settings()
    weights = unet.build(settings, 11).state_dict()
    checkpoint.write_export(path, weights, settings, {"overall": 0.5}, "tiny stripes")
    return weights, settings


def test_save_keeps_the_one_before(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path / "last.pt", {"step": step})
    assert checkpoint.read(tmp_path / "last.pt", "")["step"] == 3
    assert checkpoint.read(tmp_path / "previous.pt", "")["step"] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_one(tmp_path, monkeypatch, where):
    checkpoint.save(tmp_path / "last.pt", {"step": 1})

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, where, full)
        with pytest.raises(CheckpointError, match="last.pt cannot be written .No space left on device.: earlier"):
            checkpoint.save(tmp_path / "last.pt", {"step": 2})
    assert checkpoint.latest(tmp_path)[0]["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_truncated_one_falls_back_and_says_so(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path / "last.pt", {"step": step, "w": torch.zeros(1000)})
    data = (tmp_path / "last.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(data[: len(data) // 2])
    state, line = checkpoint.latest(tmp_path)
    assert state["step"] == 1 and "last.pt: " in line and "going on from previous.pt" in line


def test_no_flipped_bit_is_taken_for_a_weight(tmp_path):
    """Anywhere in the file, its directory at the end most of all: refused, or what was written."""
    draw, path = random.Random(0), tmp_path / "last.pt"
    written = {f"w{i}": torch.arange(6.0) + i for i in range(8)}
    checkpoint.save(path, written)
    good = path.read_bytes()
    refused = 0
    for place in [*draw.sample(range(len(good)), 200), *range(len(good) - 1200, len(good))]:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :])
        try:
            found = checkpoint.read(path, path.name)
        except CheckpointError:
            refused += 1
        else:
            assert found.keys() == written.keys(), place
            assert all(torch.equal(found[key], written[key]) for key in written), place
    assert refused > 600


def test_a_run_whose_files_are_all_damaged_is_not_started_over(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="another name"):
        checkpoint.latest(tmp_path)
    assert checkpoint.latest(tmp_path / "nothing") is None


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    "write", [lambda p: torch.save({"kind": Evil()}, p), lambda p: p.write_bytes(pickle.dumps(Evil()))]
)
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt: refused"):
        predict.load(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_an_export_comes_back_as_the_network(tmp_path):
    weights, settings = export(tmp_path / "w.pt")
    model, read_settings, about = checkpoint.read_export(tmp_path / "w.pt")
    assert read_settings == settings and about["scores"] == {"overall": 0.5} and not model.training
    for name, value in model.state_dict().items():
        half = weights[name].half().float() if weights[name].ndim > 1 else weights[name]
        assert torch.equal(value.float(), half.float())


def test_an_export_is_read_from_an_address(tmp_path):
    export(tmp_path / "w.pt")
    parser = predict.load((tmp_path / "w.pt").as_uri())
    assert parser.about["trained_on"] == "tiny stripes"


@pytest.mark.parametrize(
    ("state", "said"),
    [({"model": {}}, "not an export"), ([1], "not an export"), (None, "not an export")],
)
def test_other_files_are_not_taken_for_exports(tmp_path, state, said):
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=rf"x\.pt: {said}"):
        predict.load(tmp_path / "x.pt")


def test_weights_that_do_not_fit_are_named(tmp_path):
    export(tmp_path / "w.pt")
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
    if not predict.PRETRAINED.exists():
        pytest.fail("weights/helen-demo.pt is part of the project")
    name, digest = predict.PRETRAINED.name, files.sha256(predict.PRETRAINED)
    assert (predict.PRETRAINED.parent / "SHA256SUMS").read_text().split() == [digest, name]
    assert predict.PRETRAINED.stat().st_size <= 4e6
    assert predict.load(predict.PRETRAINED).settings.scale == "demo"
