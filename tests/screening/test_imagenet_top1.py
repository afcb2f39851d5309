from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from automl.backbones import find, names
from automl.config import load_config
from automl.screening.imagenet_top1 import TABLE, by_prior, imagenet_top1
from tests.test_search_spaces import FOLDER


@dataclass(frozen=True)
class Known:
    name: str
    prior: float | None
    pretrained: bool = True


@pytest.mark.parametrize(
    ("name", "top1"),
    [
        ("timm/tf_efficientnet_lite0.in1k", 0.74846),
        ("timm/resnet50.a1_in1k", 0.80382),  # at 224 px and not at 288, which the file has as well
        ("torchvision/resnet50.IMAGENET1K_V2", 0.80858),
        ("torchvision/resnet50.IMAGENET1K_V1", 0.7613),
        ("timm/vit_small_patch14_reg4_dinov2.lvd142m", None),  # no ImageNet classifier
    ],
)
def test_published_figures(name: str, top1: float | None) -> None:
    """Known values: timm's results-imagenet.csv, and the tables of torchvision's documentation."""
    assert imagenet_top1(find(name)) == top1


def test_the_table_names_its_source_and_holds_figures_of_the_catalogue() -> None:
    source, head, *rows = TABLE.read_text(encoding="utf-8").splitlines()
    assert source.startswith("# timm, results/results-imagenet.csv, commit 4e5207c7")
    assert head == "backbone,resolution,top1"
    table = [row.split(",") for row in rows]
    assert len({name for name, _, _ in table}) == len(table) > 1000
    assert {name for name, _, _ in table} <= set(names("timm/*"))
    assert all(0.1 < (imagenet_top1(find(name)) or 0) < 0.95 for name, _, _ in table)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_search_spaces_have_figures_but_for_self_supervised_weights(path: Path) -> None:
    config = load_config(path)
    missing = {each.name for each in config.backbones if imagenet_top1(find(each.name)) is None}
    assert all(any(word in name for word in ("dinov2", "dinov3", ".mae")) for name in missing)


def test_those_without_a_figure_keep_their_place_and_random_weights_come_last() -> None:
    space = [
        Known("random", None, pretrained=False),
        Known("low", 0.7),
        Known("unpublished", None),
        Known("high", 0.9),
        Known("named", 0.8, pretrained=False),
        Known("equal", 0.7),
    ]
    assert [each.name for each in by_prior(space)] == ["high", "unpublished", "low", "equal", "random", "named"]
    assert by_prior([]) == []
