from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from automl.backbones import default_params, find
from automl.search.spec import TrialSpec, effective_resolution, make_spec, wants_balance
from automl.space import make_space
from tests.small import RESNET, VIT, small_config


def spec(root: int = 0, seed: int = 0, **params: Any) -> TrialSpec:
    config = small_config(seed=seed)
    space = make_space([RESNET, VIT], {})
    return make_spec(
        {"backbone": RESNET, **params}, config=config, space=space, weights={RESNET: "/w/resnet", VIT: "none"},
        balanced=True, root=root,
    )  # fmt: skip


def test_what_is_not_sampled_is_the_default_of_the_space_the_backbone_or_the_config() -> None:
    made = spec(freeze_depth=0.5, weight_decay=0.0)
    sound = default_params(find(RESNET))
    assert (made.freeze_depth, made.weight_decay) == (0.5, 0.0)
    assert (made.learning_rate, made.layer_decay) == (sound["learning_rate"], sound["layer_decay"])
    assert (made.augmentation, made.batch_size, made.head) == ("light", 32, "linear")
    assert (made.epochs, made.warmup_epochs, made.metric, made.weights) == (4, 0.5, "accuracy", "/w/resnet")
    assert made.balanced


def test_a_spec_survives_json() -> None:
    made = spec(learning_rate=0.1 + 0.2)
    again = TrialSpec.from_dict(json.loads(made.to_json()))
    assert again == made
    assert again.identity == made.identity


def test_the_seed_belongs_to_the_root_and_the_study() -> None:
    assert spec(root=3) == spec(root=3)
    assert len({spec(root=root, seed=seed).seed for root in range(5) for seed in range(5)}) == 25


def test_everything_that_matters_is_in_the_identity() -> None:
    made = spec()
    changes: dict[str, Any] = {"learning_rate": 1.0, "seed": 1, "epochs": 9, "weights": "none"}
    assert len({made.identity, *(replace(made, **{name: value}).identity for name, value in changes.items())}) == 5
    assert replace(made, dtype="float32", micro_batch=4).identity == made.identity  # only how it is computed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"freeze_depth": 0.75}, False),
        ({"augmentation": "light"}, False),
        ({"mixup": 0.2}, False),
        ({"cutmix": 1.0}, False),
        ({"head": "mlp"}, True),
    ],
)
def test_a_head_trains_on_embeddings_where_features_are_constants(changes: dict[str, Any], expected: bool) -> None:
    assert spec(**{"freeze_depth": 1.0, "augmentation": "none", **changes}).from_embeddings == expected


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [(RESNET, 50, 50), (RESNET, 1, 32), (VIT, 160, 160), (VIT, 100, 96), (VIT, 115, 128)],
)
def test_a_resolution_is_rounded_to_what_the_backbone_can_take(name: str, wanted: int, expected: int) -> None:
    assert effective_resolution(find(name), wanted) == expected
    assert spec(backbone=name, resolution=wanted).resolution == expected


@pytest.mark.parametrize(
    ("setting", "metric", "counts", "expected"),
    [
        ("balanced", "accuracy", {"a": 5, "b": 5}, True),
        ("none", "macro_f1", {"a": 50, "b": 5}, False),
        ("auto", "accuracy", {"a": 50, "b": 5}, False),
        ("auto", "log_loss", {"a": 50, "b": 5}, False),
        ("auto", "macro_f1", {"a": 50, "b": 5}, True),
        ("auto", "balanced_accuracy", {"a": 14, "b": 10}, False),
        ("auto", "balanced_accuracy", {"a": 15, "b": 10}, True),
        ("auto", "macro_recall", {"a": 5, "b": 0}, True),
    ],
)
def test_classes_are_weighted_where_the_metric_counts_them_alike(
    setting: str, metric: str, counts: dict[str, int], expected: bool
) -> None:
    balanced, reason = wants_balance(setting, metric, counts)
    assert balanced == expected
    assert reason
