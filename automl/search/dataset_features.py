"""What a data set is like, in a few numbers, and how far two of them are apart: which earlier searches may teach.

Each feature is a factor between two data sets (of images, of classes, of the median side, of the imbalance, of the odds
that a probe is right), and a factor of ten counts 1: the distance is the sum of the logarithms. That is the L1 norm by
which auto-sklearn (Feurer et al., NeurIPS 2015) finds the data sets to start from; fixed scales take the place of its
normalisation, which would need many data sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from automl.data import Audit

__all__ = ["DatasetFeatures", "dataset_features", "differences"]

GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})  # Pillow's modes
LEAST_ODDS = 0.005  # a probe that is always right on so few images has no finite odds
UNLIKE = 1.0  # grey against colour, and probes that cannot be compared


@dataclass(frozen=True)
class DatasetFeatures:
    """`images` to train on; `side` in pixels (geometric mean of width and height): least, median, most; `channels` is
    1 where most images are grey by their mode, else 3; `imbalance` is the largest class over the smallest, training
    images; `probes` has accuracies 0…1 by backbone and probe.
    """

    images: int
    classes: int
    side: tuple[float, float, float]
    channels: int
    imbalance: float
    probes: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DatasetFeatures:
        """Read what `to_dict` gave. Raises KeyError, TypeError, ValueError: it is something else."""
        least, median, most = map(float, value["side"])
        return cls(
            int(value["images"]), int(value["classes"]), (least, median, most), int(value["channels"]),
            float(value["imbalance"]),
            {name: {probe: float(each) for probe, each in found.items()} for name, found in value["probes"].items()},
        )  # fmt: skip


def dataset_features(audit: Audit, plan: Mapping[str, Any]) -> DatasetFeatures:
    """Return the features of an audited data set, with the probes of `plan` (the JSON value of a plan)."""
    train = [counts["train"] for counts in audit.counts.values()]
    grey = sum(images for mode, images in audit.modes.items() if mode in GREY)
    least, median, most = (
        round(math.sqrt(width * height), 1)
        for width, height in zip(audit.sizes["width"], audit.sizes["height"], strict=True)
    )
    return DatasetFeatures(
        images=sum(train),
        classes=len(train),
        side=(least, median, most),
        channels=1 if 2 * grey > sum(audit.modes.values()) else 3,
        imbalance=round(max(train) / max(1, min(train)), 3),
        probes={
            each["backbone"]: {"knn": each["knn_accuracy"], "linear": each["linear_accuracy"]}
            for each in plan["screening"]
        },
    )


def differences(one: DatasetFeatures, other: DatasetFeatures) -> dict[str, float]:
    """Return how far two data sets are apart by feature, each from 0 on; their sum is the distance."""
    return {
        "images": _factor(one.images, other.images),
        "classes": _factor(one.classes, other.classes),
        "side": _factor(one.side[1], other.side[1]),
        "channels": 0.0 if one.channels == other.channels else UNLIKE,
        "imbalance": _factor(one.imbalance, other.imbalance),
        "probes": _probes(one.probes, other.probes),
    }


def _factor(one: float, other: float) -> float:
    return abs(math.log10(max(one, 1.0) / max(other, 1.0)))


def _probes(one: Mapping[str, Mapping[str, float]], other: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over the probes of the backbones that both know."""
    found = [
        abs(math.log10(_odds(each) / _odds(other[backbone][probe])))
        for backbone, probes in one.items()
        for probe, each in probes.items()
        if probe in other.get(backbone, {})
    ]
    return math.fsum(found) / len(found) if found else UNLIKE


def _odds(accuracy: float) -> float:
    kept = min(max(accuracy, LEAST_ODDS), 1 - LEAST_ODDS)
    return kept / (1 - kept)
