from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from automl.config import PARAMETERS, Range
from automl.space import Space, make_space

BACKBONES = ["timm/a", "timm/b"]


def one(name: str, value: Any) -> Space:
    return make_space(BACKBONES, {name: value})


@pytest.mark.parametrize(
    ("name", "value", "distribution"),
    [
        ("learning_rate", Range(low=1e-5, high=1e-2, log=True), FloatDistribution(1e-5, 1e-2, log=True)),
        ("dropout", Range(low=0.1, high=0.5, step=0.2), FloatDistribution(0.1, 0.5, step=0.2)),
        ("magnitude", Range(low=3, high=12, step=3), IntDistribution(3, 12, step=3)),
        ("batch_size", Range(low=8, high=64, log=True), IntDistribution(8, 64, log=True)),
        ("freeze_depth", [0, 0.5, 1], CategoricalDistribution([0.0, 0.5, 1.0])),
        ("resolution", [160.0, 224.0], CategoricalDistribution([160, 224])),
        ("augmentation", ["none", "light"], CategoricalDistribution(["none", "light"])),
    ],
)
def test_what_varies_becomes_a_distribution(name: str, value: Any, distribution: Any) -> None:
    space = one(name, value)
    assert space.distributions == {"backbone": CategoricalDistribution(BACKBONES), name: distribution}
    assert name not in space.constants


@pytest.mark.parametrize(("name", "value", "constant"), [("dropout", 0, 0.0), ("resolution", [192.0], 192)])
def test_a_scalar_and_a_list_of_one_are_constants(name: str, value: Any, constant: Any) -> None:
    space = one(name, value)
    assert name not in space.distributions
    assert space.constants[name] == constant
    assert type(space.constants[name]) is type(constant)


def test_a_single_backbone_does_not_vary() -> None:
    space = make_space(["timm/a"], {})
    assert space.distributions == {}
    assert space.constants == {"backbone": "timm/a"} | {name: each.default for name, each in PARAMETERS.items()}


def test_a_trial_has_every_hyperparameter_whatever_the_space_says() -> None:
    space = make_space(BACKBONES, {"learning_rate": Range(low=1e-5, high=1e-2), "dropout": 0.3, "head": ["mlp"]})
    params = space.params({"backbone": "timm/b", "learning_rate": 1e-3})
    assert set(params) == {"backbone", *PARAMETERS}
    assert (params["backbone"], params["learning_rate"], params["dropout"], params["head"]) == (
        "timm/b",
        1e-3,
        0.3,
        "mlp",
    )


def test_choices() -> None:
    space = make_space(BACKBONES, {"dropout": Range(low=0.1, high=0.5), "freeze_depth": [0.0, 1.0], "resolution": 96})
    assert space.choices("backbone") == BACKBONES
    assert space.choices("freeze_depth") == [0.0, 1.0]
    assert space.choices("dropout") == [0.1, 0.5]
    assert space.choices("resolution") == [96]
    sides = make_space(BACKBONES, {"resolution": Range(low=128, high=224, step=32)})
    assert sides.choices("resolution") == [128, 160, 192, 224]


def test_the_nearest_point_is_the_wanted_one_where_the_space_has_it() -> None:
    space = make_space(
        BACKBONES, {"learning_rate": Range(low=1e-4, high=1e-2, log=True), "freeze_depth": [0.0, 0.5, 1.0]}
    )
    wanted = {"backbone": "timm/b", "learning_rate": 1e-3, "freeze_depth": 0.5}
    assert space.nearest(wanted) == wanted
    assert space.nearest({"backbone": "timm/z", "learning_rate": 1.0, "freeze_depth": 0.8}) == {
        "backbone": "timm/a",
        "learning_rate": 1e-2,
        "freeze_depth": 1.0,
    }
    assert space.nearest({})["learning_rate"] == pytest.approx(1e-3)


NUMBERS = st.floats(-1e6, 1e6) | st.integers(-1000, 1000)


@settings(max_examples=150, deadline=None)
@given(
    low=st.integers(1, 1000).map(lambda n: n / 100), steps=st.integers(1, 40),
    step=st.integers(1, 100).map(lambda n: n / 100), log=st.booleans(), wanted=NUMBERS,
    name=st.sampled_from(["mixup", "magnitude"]), given_wanted=st.booleans(),
)  # fmt: skip
def test_the_nearest_point_is_in_the_space_and_none_of_a_grid_is_nearer(
    low: float, steps: int, step: float, log: bool, wanted: float, name: str, given_wanted: bool
) -> None:
    if name == "magnitude":
        low, step = round(low) + 1, round(step) + 1
    high = round(low + steps * step, 6)
    value = Range(low=low, high=high, log=True) if log else Range(low=low, high=high, step=step)
    space = make_space(["timm/a"], {name: value})
    distribution = space.distributions[name]
    found = space.nearest({name: wanted} if given_wanted else {})[name]
    assert isinstance(found, int if name == "magnitude" else float)
    assert distribution._contains(distribution.to_internal_repr(found))
    if given_wanted and not log:
        grid = [low + number * step for number in range(steps + 1)]
        assert abs(found - wanted) <= min(abs(each - wanted) for each in grid) + 1e-9


def test_optuna_can_sample_the_space() -> None:
    space = make_space(BACKBONES, {"learning_rate": Range(low=1e-4, high=1e-2, log=True), "batch_size": [16, 32]})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask(space.distributions)
        assert set(trial.params) == {"backbone", "learning_rate", "batch_size"}
        assert set(space.params(trial.params)) == {"backbone", *PARAMETERS}


@pytest.mark.parametrize(("high", "step"), [(0.3, 0.1), (0.6, 0.2), (0.7, 0.1), (0.15, 0.05), (0.5, 0.25)])
def test_every_point_of_a_stepped_range_lies_in_it(high: float, step: float) -> None:
    space = Space({"dropout": FloatDistribution(0.0, high, step=step)}, {})
    points = space.every_point()
    assert len(points) == space.points == round(high / step) + 1
    assert all(space.distributions["dropout"]._contains(each["dropout"]) for each in points)
    assert space.every_point(most=2) == []
