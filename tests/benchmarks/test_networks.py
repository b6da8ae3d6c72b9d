"""The other networks are what they are called, get the same seconds, and leave our own as it was."""

import copy
import json
import urllib.error

import pytest
import tiny
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.transforms import Normalize

from benchmarks import accuracy, networks
from helpers import losses, predict, unet
from helpers.core import env
from helpers.core.errors import UNetError
from helpers.settings import make_settings
from helpers.training import checkpoint

SMALL = dict(size=32, width=4, depth=2, batch=4, half_size_fraction=0.0)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Rows and clocks in a folder of the test; the original way takes 10 s an epoch, 12 of them everyone's."""
    clocks = {"helen": {"machine": "there", "networks": {"ours": {"seconds": 7.0}, "slow": {"seconds": 61.0}}}}
    monkeypatch.setattr(networks, "ROWS", tmp_path / "networks.csv")
    monkeypatch.setattr(networks, "CLOCK", tmp_path / "networks-clock.json")
    monkeypatch.setattr(accuracy, "read_clock", lambda: {"helen": {"original": 10.0}})
    networks.CLOCK.write_text(json.dumps(clocks))
    return tmp_path


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, and nothing behind it."""

    def refuse(*_):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)


def settings(**changes):
    return make_settings("helen", "tuned", "demo", **changes)


def encoder_weights(model):
    """What of a ResNetUNet is torchvision's, under torchvision's names."""
    (stem, first), deeper = model.downs[:2], model.downs[2:]
    named = {"conv1": stem[0], "bn1": stem[1], "layer1": first[1]}
    named |= {f"layer{i}": layer for i, layer in enumerate(deeper, 2)}
    return {f"{name}.{key}": v for name, module in named.items() for key, v in module.state_dict().items()}


# --- the networks


@pytest.mark.parametrize(
    ("builder", "changes"), [(networks.residual, {}), (networks.ResNetUNet, {}), (networks.ours, dict(width=8))]
)
def test_logits_of_the_input_s_size_and_a_gradient_for_every_parameter(builder, changes):
    model = builder(settings(**changes), 11)
    x = torch.randn(2, 3, 32, 96)
    logits = model(x)
    assert logits.shape == (2, 11, 32, 96) and logits.dtype == torch.float32
    assert (logits.sum(1) - 1).abs().max() > 0.1  # no soft-max
    losses.LOSSES["dice_ce"](logits, torch.randint(0, 11, (2, 32, 96))).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_sizes_of_all_variants_fit():
    for name, (changes, builder) in networks.VARIANTS.items():
        chosen = networks.settings_of("helen", name, 7)
        assert chosen == settings(seed=7).replace(**changes)
        assert chosen.size % (2**chosen.depth if builder in (networks.ours, networks.residual) else 32) == 0
    assert networks.settings_of("helen", "ours", 7) == settings(seed=7)
    grid = {name: networks.settings_of("helen", name, 0) for name in networks.VARIANTS if name.startswith("w")}
    assert list(grid) == [f"w{chosen.width}-{chosen.size}" for chosen in grid.values()] and len(grid) == 6


def test_a_residual_block_by_hand():
    """Photo 3 x 1 pixel, one channel in, two out, fresh norms in evaluation: they divide by sqrt(1 + 1e-5)."""
    block = unet.DoubleConv(1, 2, slope=0.5)
    plain = copy.deepcopy(block).eval()
    model = networks.Residual(block).eval()
    x = torch.tensor([1.0, -2.0, 3.0])[None, None, None]
    one = (1 + 1e-5) ** -0.5
    with torch.no_grad():
        model.past[0].weight.copy_(torch.tensor([2.0, -1.0])[:, None, None, None])
        for conv in (model.body[0], model.body[3]):
            conv.weight.zero_()
            conv.weight[0, 0, 1, 1] = 1.0  # hands on the first channel, and nothing in the second
        # body: 1, -2, 3 -> LeakyReLU 1, -1, 3; past: 2, -4, 6 and -1, 2, -3
        first = [(one * one + 2 * one), (-one * one - 4 * one) * 0.5, (3 * one * one + 6 * one)]
        second = [-one * 0.5, 2 * one, -3 * one * 0.5]
        torch.testing.assert_close(model(x)[0, :, 0], torch.tensor([first, second]))
        plain.load_state_dict({f"layers.{k}": v for k, v in model.body.state_dict().items()})
        model.past[0].weight.zero_()
        assert torch.equal(model(x), plain(x))


def test_the_encoder_is_torchvision_s_without_its_classifier():
    model, theirs = networks.ResNetUNet(settings(), 11), resnet18()
    assert sum(map(unet.count_parameters, model.downs)) == unet.count_parameters(theirs) - 512 * 1000 - 1000
    wanted = {k: v.shape for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in encoder_weights(model).items()} == wanted
    theirs.load_state_dict(encoder_weights(model) | {k: v for k, v in theirs.state_dict().items() if "fc" in k})
    x, seen = torch.randn(1, 3, 64, 64), []
    theirs.layer4.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad():
        theirs.eval()(x)
        assert torch.equal(
            model.downs.eval()[4](model.downs[3](model.downs[2](model.downs[1](model.downs[0](x))))), seen[0]
        )


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.25), (0.0, 1.0)])
def test_the_photo_is_normalised_as_torchvision_does(mean, std):
    photo = torch.rand(2, 3, 8, 8)
    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    wanted = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(photo)
    assert torch.equal(Normalize(preset.mean, preset.std)(photo), wanted)
    found = networks.ToImageNet(settings(mean=mean, std=std))((photo - mean) / std)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_imagenet_s_weights_come_from_torch_s_cache_and_see_imagenet_s_photos(tmp_path, no_network):
    weights = resnet18().state_dict()
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(weights, cache / "resnet18-f37072fd.pth")
    model = networks.resnet18_imagenet(settings(), 11).eval()
    for name, value in encoder_weights(model).items():
        assert torch.equal(value, weights[name]), name
    seen = {}
    for name in ("enter", "downs"):
        first = model.enter if name == "enter" else model.downs[0]
        first.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: inputs[0]}))
    photo = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        model((photo - 0.5) / 0.25)
    wanted = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(photo)
    torch.testing.assert_close(seen["downs"], wanted, atol=1e-6, rtol=0)
    assert torch.equal(seen["enter"], (photo - 0.5) / 0.25)  # random weights: as ours
    assert isinstance(networks.ResNetUNet(settings(), 11).convert, nn.Identity)


def test_a_builder_is_put_in_and_taken_out_even_after_an_error():
    theirs = unet.build
    with networks.put_in(networks.residual):
        assert unet.build is networks.residual
        assert isinstance(unet.build(settings(), 11).enter, networks.Residual)  # and does not call itself
    assert unet.build is theirs is networks.ours
    with pytest.raises(ZeroDivisionError), networks.put_in(networks.residual):
        raise ZeroDivisionError
    assert unet.build is theirs


# --- what is not there


def test_what_cannot_be_downloaded_is_left_out_in_one_line(kept, no_network, monkeypatch, capsys):
    with pytest.raises(UNetError, match="cannot be downloaded.*no route"):
        networks.resnet18_imagenet(settings(), 11)
    capsys.readouterr()
    monkeypatch.setattr(networks, "Trainer", None)
    networks.main(["run", "helen", "resnet18-imagenet", "0"])
    shown = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("Downloading")]
    assert len(shown) == 1 and shown[0].startswith("resnet18-imagenet is left out: ImageNet's weights")
    assert not networks.ROWS.exists()


# --- the clock


def test_the_epochs_of_a_share_by_hand(kept):
    # 12 epochs of 10 s are 120 s: 17 epochs of 7 s, 8 in the half, and 1 of 61 s, none in the half
    assert [networks.epochs_for("helen", "ours", share) for share in (1.0, 0.5)] == [17, 8]
    assert networks.epochs_for("helen", "slow", 1.0) == 1
    with pytest.raises(SystemExit, match="slow: an epoch takes 61 s, more than the share"):
        networks.epochs_for("helen", "slow", 0.5)
    with pytest.raises(SystemExit, match="residual has no clock: python -m benchmarks.networks clock helen"):
        networks.epochs_for("helen", "residual", 1.0)


def test_an_epoch_is_all_its_steps_and_looks():
    """Early epochs at half the size; only a step moves weights."""
    tiny.prepare(train=9, val=3)
    racer = networks.Racer(settings(**(SMALL | dict(half_size_fraction=0.25))), networks.residual)
    model, sizes = racer.steps.stepper.model, []
    assert isinstance(model.enter, networks.Residual) and unet.build is networks.ours
    for network in (model, racer.steps.stepper.average):
        network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[2:]))
    before = copy.deepcopy(model.state_dict())
    racer.measure("look")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for kind in ("whole", "half"):
        racer.measure(kind)
    assert racer.steps.stepper.steps == 2 and not torch.equal(model.out.weight, before["out.weight"])
    assert (racer.kinds, sizes) == (("whole", "half", "look"), [(32, 32), (32, 32), (16, 16)])
    # batches of 4: 3 and 1
    assert racer.epoch({"whole": 2.0, "half": 1.0, "look": 0.5}) == 3 * (0.75 * 2.0 + 0.25 * 1.0) + 0.5


def test_the_clock_takes_turns_and_keeps_medians_of_what_can_be_built(kept, monkeypatch, capsys):
    def absent(settings, classes):
        raise UNetError("no such package")

    tiny.prepare(train=9, val=3)
    variants = {"a": (SMALL, networks.ours), "gone": ({}, absent), "b": (SMALL | dict(size=48), networks.residual)}
    monkeypatch.setattr(networks, "VARIANTS", variants)
    monkeypatch.setattr(networks, "STEPS", 3)
    order = []

    def measure(racer, kind):
        order.append((racer.settings.size, kind))
        one = racer.settings.size * (1.0 if kind == "whole" else 0.25)
        count = order.count(order[-1]) - 1
        return 1e6 if count % 4 == 0 else one + count % 4 - 2  # the first of a turn is far off; else one - 1, one, ...

    monkeypatch.setattr(networks.Racer, "measure", measure)
    found = networks.clock("helen")
    turn = [(size, kind) for size in (32, 48) for kind in ("whole", "look") for _ in range(4)]
    assert order == turn * networks.TURNS
    assert {name: v["seconds"] for name, v in found.items()} == {"a": 3 * 32 + 8, "b": 3 * 48 + 12}
    assert networks.read_clock()["helen"]["networks"] == found
    assert "gone is left out: no such package" in capsys.readouterr().out.splitlines()


# --- a run, and the table


def test_a_run_trains_the_variant_and_scores_its_averaged_weights_once(kept, monkeypatch):
    tiny.prepare()
    monkeypatch.setattr(networks, "VARIANTS", {"ours": (SMALL, networks.residual)})
    scored, score = [], networks.score_test_photos

    def noting(segmenter, folder):
        scored.append(segmenter)
        return score(segmenter, folder)

    monkeypatch.setattr(networks, "score_test_photos", noting)
    networks.run("helen", "ours", 3, 0.2)  # 24 s: 3 epochs of 7 s
    folder = env.run_dir("helen", "networks-ours-3-0.2")
    state, _ = checkpoint.latest(folder)
    assert (state["epoch"], state["settings"]["epochs"], state["settings"]["seed"]) == (3, 3, 3)
    (segmenter,) = scored
    assert isinstance(segmenter, predict.Segmenter) and isinstance(segmenter.model.enter, networks.Residual)
    assert unet.build is networks.ours
    for name, value in segmenter.model.state_dict().items():
        torch.testing.assert_close(value, state["average"][name], atol=0, rtol=0)
    assert any(not torch.equal(value, state["model"][name]) for name, value in state["average"].items())
    (row,) = accuracy.read_rows(networks.ROWS)
    assert [row[k] for k in ("dataset", "network", "seed", "share", "epochs")] == ["helen", "ours", "3", "0.2", "3"]
    assert 0 <= float(row["small classes"]) <= 1 and 0 <= float(row["overall"]) <= 1
    monkeypatch.setattr(networks, "Trainer", None)  # would fail
    networks.run("helen", "ours", 3, 0.2)
    assert accuracy.read_rows(networks.ROWS) == [row]
    with pytest.raises(TypeError, match="NoneType"):
        networks.run("helen", "ours", 4, 0.2)  # another seed is another row


def test_the_table_has_a_line_a_variant_and_share(kept, monkeypatch):
    monkeypatch.setattr(networks, "RESULTS", kept)
    monkeypatch.setattr(networks, "VARIANTS", {name: ({}, networks.ours) for name in ("ours", "slow", "gone")})
    known = {"parameters": 1_940_000, "multiply_adds": 760_700_000, "seconds": 19.32}
    clocks = {"helen": {"machine": "there", "networks": {"ours": known, "slow": known | {"seconds": 61.0}}}}
    networks.CLOCK.write_text(json.dumps(clocks))
    for seed, share, epochs, score in ((0, "0.5", 7, 0.8), (1, "0.5", 7, 0.9), (0, "1.0", 15, 0.91)):
        row = {"dataset": "helen", "network": "ours", "seed": seed, "share": share, "epochs": epochs}
        accuracy.add_row(networks.ROWS, row | {"overall": score, "small classes": score - 0.1})
    networks.main(["table"])
    lines = (kept / "networks.txt").read_text().splitlines()
    assert lines[0] == networks.machine()
    assert "120 s" in lines[1] and lines[2] == "clock: there"
    assert [" ".join(line.split()) for line in lines[4:]] == [
        "ours 128 1.94 0.761 19.3 0.5 7 2 0.8500 +- 0.0500 0.7500 +- 0.0500",
        "ours 128 1.94 0.761 19.3 1.0 15 1 0.9100 0.8100",
        "slow 128 1.94 0.761 61.0 not run yet",
        "gone left out: its weights or its package were not there",
    ]
