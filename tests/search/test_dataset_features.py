from __future__ import annotations

import json
from dataclasses import replace

import pytest

from automl.data import Audit
from automl.search.dataset_features import DatasetFeatures, dataset_features, differences
from tests.earlier import AUDIT, FEATURES, PLAN
from tests.small import EFFICIENTNET, RESNET


def test_they_come_from_the_audit_and_the_plan() -> None:
    found = dataset_features(Audit.from_json(json.dumps(AUDIT)), PLAN)
    assert (found.images, found.classes, found.imbalance) == (40, 2, 3.0)  # training images
    assert found.side == (20.0, 20.0, 40.0)
    assert found.channels == 1
    assert found.probes == {RESNET: {"knn": 0.8, "linear": 0.9}}


def test_images_are_grey_where_most_are() -> None:
    colour = {**AUDIT, "modes": {"L": 20, "RGB": 21}}
    assert dataset_features(Audit.from_json(json.dumps(colour)), PLAN).channels == 3


def test_they_survive_json() -> None:
    assert DatasetFeatures.from_dict(json.loads(json.dumps(FEATURES.to_dict()))) == FEATURES


def test_a_data_set_is_at_no_distance_from_itself() -> None:
    assert set(differences(FEATURES, FEATURES).values()) == {0.0}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("images", {"images": 360}),
        ("classes", {"classes": 30}),
        ("side", {"side": (1.0, 320.0, 4000.0)}),
        ("imbalance", {"imbalance": 10.0}),
        ("channels", {"channels": 1}),
        ("probes", {"probes": {"another": {"knn": 0.5}}}),
    ],
)
def test_a_factor_of_ten_counts_one_and_so_does_what_cannot_be_compared(name: str, change: dict[str, object]) -> None:
    other = replace(FEATURES, **change)
    for found in (differences(FEATURES, other), differences(other, FEATURES)):
        assert found.pop(name) == pytest.approx(1.0)
        assert set(found.values()) == {0.0}


def test_probes_are_compared_by_their_odds_where_both_know_the_backbone() -> None:
    # odds 4 and 9 become 0.4 and 0.9; what only one knows does not count
    tenfold = {RESNET: {"knn": 0.4 / 1.4, "linear": 0.9 / 1.9}, "another": {"knn": 0.1}}
    assert differences(FEATURES, replace(FEATURES, probes=tenfold))["probes"] == pytest.approx(1.0)
    certain = replace(FEATURES, probes={EFFICIENTNET: {"knn": 1.0, "linear": 0.0}})
    assert 0 < differences(FEATURES, certain)["probes"] < 5
