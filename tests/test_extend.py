from __future__ import annotations

from typing import Any

import pytest

from automl.config import Range, SearchConfig, extended, parse_config
from automl.errors import ConfigError

TEXT = """
backbones: [timm/resnet18.a1_in1k, timm/resnet34.a1_in1k]
params:
  freeze_depth: [0.0, 1.0]
  learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  resolution: 224
search: {seed: 3, budget: 1h}
"""


def config(*changes: tuple[str, str]) -> SearchConfig:
    text = TEXT
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return parse_config(text, "space.yaml")


def test_what_is_added_comes_after_what_the_study_has() -> None:
    new = config(
        ("[timm/resnet18", "[timm/resnet50.a1_in1k, timm/resnet18"), ("[0.0, 1.0]", "[0.5, 1.0, 0.0]"),
        ("high: 1.0e-2", "high: 1.0e-1"), ("resolution: 224", "resolution: [128, 224]"), ("budget: 1h", "budget: 9h"),
    )  # fmt: skip
    made = extended(config(), new)
    assert [each.name.split(".")[0] for each in made.backbones] == ["timm/resnet18", "timm/resnet34", "timm/resnet50"]
    assert made.params["freeze_depth"] == [0.0, 1.0, 0.5]
    assert made.params["resolution"] == [224, 128]
    assert made.params["learning_rate"] == Range(low=1e-4, high=1e-1, log=True)
    assert made.search == config().search


def test_the_same_space_changes_nothing() -> None:
    assert extended(config(), config()) == config()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("[timm/resnet18.a1_in1k, ", "["), "backbones: the study has timm/resnet18.a1_in1k"),
        (("[0.0, 1.0]", "[0.0, 0.5]"), "params.freeze_depth: the study has 1.0"),
        (("log: true", "log: false"), "params.learning_rate: log and step"),
        (("{low: 1.0e-4, high: 1.0e-2, log: true}", "0.001"), "params.learning_rate: a range from 0.0001 to 0.01"),
        (("resolution: 224", "weight_decay: [0.0, 0.1]"), "params.weight_decay: each backbone's own default"),
        (("search: {", "training: {epochs: 9}\nsearch: {"), "training.epochs: 8 in the study, 9 in the new space"),
        (("search: {", "data: {test_fraction: 0.3}\nsearch: {"), "data.test_fraction: 0.15 in the study"),
        (("search: {", "search: {metric: macro_f1, "), "search.metric: accuracy in the study"),
    ],
)
def test_what_would_make_trials_incomparable_is_refused(change: Any, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        extended(config(), config(change))
    assert any(problem.startswith(told) for problem in refused.value.problems), refused.value.problems


def test_every_difference_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        extended(config(), config(("[0.0, 1.0]", "[0.5]"), ("log: true", "log: false")))
    assert len(refused.value.problems) == 3
