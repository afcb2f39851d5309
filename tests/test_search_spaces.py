from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from automl import backbones

torch.set_num_threads(1)

FOLDER = Path(__file__).parent.parent / "search_spaces"
SPACES: dict[str, dict[str, Any]] = {
    path.stem: YAML(typ="safe").load(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.yaml"))
}
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def names(space: str) -> list[str]:
    return [entry if isinstance(entry, str) else entry["name"] for entry in SPACES[space]["backbones"]]


def resolutions(space: str) -> list[int]:
    value = SPACES[space]["params"]["resolution"]
    return list(value) if isinstance(value, list) else [value]


PAIRS = sorted({(name, resolutions(space)[0]) for space in SPACES for name in names(space)})


def build(name: str, resolution: int) -> torch.nn.Module:
    with torch.device("meta"):  # shapes without memory: the largest of these takes as long as the smallest
        return backbones.build(backbones.find(name), 10, resolution=resolution, weights=None)


def test_the_five_spaces_are_there_and_say_for_whom_they_are() -> None:
    assert set(SPACES) == {"classic", "demo", "edge", "laptop", "overnight-gpu"}
    for path in FOLDER.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# yaml-language-server: $schema=schema.json\n")
        assert "# For whom: " in text
        assert SPACES[path.stem]["description"]


@pytest.mark.parametrize("space", SPACES)
def test_every_backbone_is_written_with_its_full_name_and_fits_every_resolution(space: str) -> None:
    for name in names(space):
        backbone = backbones.find(name)
        assert backbone.name == name
        for resolution in resolutions(space):
            assert backbones.resolution_problem(backbone, resolution) == ""
    assert len(set(names(space))) == len(names(space))


@pytest.mark.parametrize(("name", "resolution"), PAIRS)
def test_a_backbone_is_built_and_frozen_at_every_depth(name: str, resolution: int) -> None:
    model = build(name, resolution)
    parameters = dict(model.named_parameters())
    head = {key for key in parameters if key.startswith(backbones.classifier_name(model) + ".")}
    groups = backbones.layer_groups(model)
    grouped = [key for group in groups for key in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) | head == set(parameters)
    assert not set(grouped) & head
    assert len(groups) >= 4

    frozen_counts = []
    for depth in DEPTHS:
        backbones.freeze(model, depth)
        frozen = {key for key, parameter in parameters.items() if not parameter.requires_grad}
        frozen_counts.append(sum(parameters[key].numel() for key in frozen))
        assert head
        assert not head & frozen
        trained = backbones.parameter_groups(model, learning_rate=1e-3, weight_decay=0.05, layer_decay=0.75)
        in_groups = [id(parameter) for group in trained for parameter in group["params"]]
        assert len(in_groups) == len(set(in_groups))
        assert set(in_groups) == {id(parameters[key]) for key in parameters if key not in frozen}
    assert frozen_counts == sorted(set(frozen_counts)), "frozen parameters must grow with depth"
    assert frozen_counts[0] == 0
    assert frozen_counts[-1] == sum(parameters[key].numel() for key in grouped)


def test_classic_has_vgg_resnet_and_inception_from_both_providers() -> None:
    for family in ("vgg", "resnet", "inception"):
        assert {name.split("/")[0] for name in names("classic") if family in name} == {"timm", "torchvision"}


def test_overnight_has_twenty_backbones_of_four_families() -> None:
    chosen = names("overnight-gpu")
    assert len(chosen) >= 20
    found = [backbones.find(name) for name in chosen]
    clip = [backbone for backbone in found if "clip" in backbone.name]
    self_supervised = [b for b in found if any(key in b.name for key in ("dinov2", "dinov3", "mae", "eva02", "beit"))]
    assert len(clip) >= 2
    for method in ("dinov2", "dinov3", ".mae", "eva02"):
        assert any(method in backbone.name for backbone in self_supervised)
    supervised = [backbone for backbone in found if backbone not in clip + self_supervised]
    assert {backbone.family for backbone in supervised} == {"cnn", "transformer"}


@pytest.mark.parametrize("name", names("edge"))
def test_an_edge_backbone_has_less_than_ten_million_parameters(name: str) -> None:
    model = build(name, resolutions("edge")[-1])
    assert sum(parameter.numel() for parameter in model.parameters()) < 10_000_000


@pytest.mark.parametrize("name", names("demo"))
def test_the_demo_needs_no_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("AUTOML_WEIGHTS_DIR", raising=False)
    assert backbones.locate(backbones.find(name)).origin == "package"
