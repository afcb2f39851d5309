"""What is published about a backbone before anyone looks at the data: its ImageNet-1k top-1.

`imagenet_top1.csv` holds timm's own figures for its weights (results/results-imagenet.csv, one protocol for all of
them); torchvision states those of its weights itself. A figure belongs to weights, not to an architecture: a backbone
that starts from random has none, and neither have weights without an ImageNet classifier.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from automl.backbones import Backbone
from automl.backbones.catalog import torchvision_weights

__all__ = ["by_prior", "imagenet_top1"]

TABLE = Path(__file__).with_name("imagenet_top1.csv")


class Judged(Protocol):
    """What is needed of a candidate to rank it: its published top-1 (0…1, None: there is none) and whether it has
    pretrained weights."""

    @property
    def prior(self) -> float | None: ...

    @property
    def pretrained(self) -> bool: ...


C = TypeVar("C", bound=Judged)


def imagenet_top1(backbone: Backbone) -> float | None:
    """Return the published ImageNet-1k top-1 accuracy (0…1) of a backbone's weights, or None if none is published.

    Weights that a person names by a file are taken to be these.
    """
    if backbone.provider == "torchvision":
        metrics = torchvision_weights(backbone).meta["_metrics"].get("ImageNet-1K", {})
        return round(metrics["acc@1"] / 100, 5) if "acc@1" in metrics else None
    return _published().get(backbone.name)


def by_prior(candidates: Sequence[C]) -> list[C]:
    """Rank candidates, given in the order of the search space, which its author chose.

    Those with a published figure share out their places by it, the highest first; those without keep theirs. Random
    weights come last: on the data of a fine-tune they lose to any pretrained ones.
    """
    pretrained = [each for each in candidates if each.pretrained]
    ranked = iter(sorted((each for each in pretrained if each.prior is not None), key=lambda each: -(each.prior or 0)))
    placed = [each if each.prior is None else next(ranked) for each in pretrained]
    return placed + [each for each in candidates if not each.pretrained]


@functools.cache
def _published() -> dict[str, float]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {row["backbone"]: round(float(row["top1"]) / 100, 5) for row in rows}
