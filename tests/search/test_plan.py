from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from optuna.trial import create_trial

from automl.backbones import default_params, find
from automl.errors import NoTrialFinishedError, UsageError
from automl.screening import Choice, Latency, Speed
from automl.search.budget import Budget, CostModel
from automl.search.defaults import FEW_EPOCHS, default_trials
from automl.search.plan import Plan, Screened, load_plan
from automl.search.planning import cost_model as make_costs
from automl.search.planning import make_plan
from automl.search.show import plan_lines
from automl.search.spec import default_resolution
from automl.space import make_space
from automl.training.fine_tune import RECALIBRATION_IMAGES
from tests.small import CONVNEXT, EFFICIENTNET, RESNET, SPACE, VIT, cost, cost_model, small_config

EVERYTHING = {"backbone": RESNET, "freeze_depth": 0.0, "augmentation": "light", "resolution": 32, "mixup": 0.0}
EVERYTHING |= {"cutmix": 0.0, "batch_size": 8}
HEAD = EVERYTHING | {"freeze_depth": 1.0, "augmentation": "none"}
FOUR = {RESNET: 0.01, EFFICIENTNET: 0.02, VIT: 0.02, CONVNEXT: 5.0}


SPLITS: dict[str, str] = {}


def dataset(train: int = 100, validation: int = 20, test: int = 30) -> Any:
    rows = {"train": np.arange(train), "validation": np.arange(validation), "test": np.arange(test)}
    return SimpleNamespace(rows=rows.__getitem__, classes=("a", "b"), audit=SimpleNamespace(splits=SPLITS, side=32.0))


def screened(seconds: Mapping[str, float]) -> list[Screened]:
    return [Screened(name, 32, 0.5, 0.6, 0.1, cost(each)) for name, each in seconds.items()]


def plan(
    left: float, seconds: Mapping[str, float], spent: float = 10.0, text: str | None = None, **options: Any
) -> Plan:
    config = small_config() if text is None else small_config(text)
    space = make_space(list(seconds), config.params)
    choices = [{"name": "device", "value": "cpu", "reason": "none other"}]
    return make_plan(
        config, dataset(), space, screened(seconds), seconds_left=left, seconds_spent=spent, choices=choices, **options
    )


def test_the_budget_counts_from_its_start_by_its_clock() -> None:
    times = iter([100.0, 103.0, 112.0])
    budget = Budget(10.0, lambda: next(times))
    assert budget.spent() == 3.0
    assert budget.left() == -2.0


def test_an_epoch_costs_training_and_evaluation() -> None:
    costs = cost_model(small_config(), 0.04, images=100)
    # 100 images trained; 25 of validation and 100 to recalibrate BatchNorm, forward, at a quarter
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(100 * 0.04 + 125 * 0.01)
    assert costs.epoch_seconds(EVERYTHING | {"resolution": 64}) == pytest.approx(4 * (4 + 1.25))
    assert costs.epoch_seconds(EVERYTHING | {"freeze_depth": 0.75}) == pytest.approx(100 * 0.015 + 1.25)
    assert costs.epoch_seconds(HEAD) < 0.1
    assert costs.trial_seconds(EVERYTHING, 3) == pytest.approx(2.0 + 3 * 5.25)


def test_the_test_images_take_the_time_of_their_resolution() -> None:
    costs = replace(cost_model(small_config(), 0.04, images=100), test_images=1000)
    small, large = (costs.closing_seconds(EVERYTHING | {"resolution": side}) for side in (32, 64))
    assert small == pytest.approx(6 + 10)
    assert large == pytest.approx(6 + 40)


def test_only_so_many_images_are_passed_for_recalibration() -> None:
    costs = cost_model(small_config(), 0.04, images=4000)
    assert costs.recalibration_images == RECALIBRATION_IMAGES
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(4000 * 0.04 + (1000 + RECALIBRATION_IMAGES) * 0.01)


def test_the_refit_trains_on_validation_too_and_evaluates_nothing_between_its_epochs() -> None:
    costs = cost_model(small_config(), 0.04, images=100)
    assert costs.refit_seconds(EVERYTHING, 4) == pytest.approx(2 + 4 * 125 * 0.04 + 100 * 0.01)
    costs.learn(EVERYTHING, 2 * costs.epoch_seconds(EVERYTHING))
    assert costs.refit_seconds(EVERYTHING, 4) == pytest.approx(2 + 2 * (4 * 125 * 0.04 + 100 * 0.01))
    costs = cost_model(small_config(), 0.04, images=100)
    assert costs.refit_seconds(HEAD, 4) == pytest.approx(2 + 4 * 0.0225 * 1.25)  # on the embedding of the trials


def test_the_first_head_on_an_embedding_pays_for_it() -> None:
    """Where a sample was screened, or at another resolution than the screening's."""
    costs = cost_model(small_config(), 0.04, images=100)
    cached = costs.trial_seconds(HEAD, 4)
    assert costs.trial_seconds(HEAD | {"resolution": 64}, 4) == pytest.approx(cached + 4 * 125 * 0.01)
    costs.embedded.clear()
    assert costs.trial_seconds(HEAD, 4) == pytest.approx(cached + 125 * 0.01)
    assert costs.refit_seconds(HEAD, 4) == pytest.approx(2 + 4 * 0.0225 * 1.25 + 125 * 0.01)
    start = costs.start_seconds(EVERYTHING)
    costs.learn(HEAD, costs.epoch_seconds(HEAD), 60.0)
    assert costs.trial_seconds(HEAD, 4) == pytest.approx(cached)
    assert costs.start_seconds(EVERYTHING) == start  # most of the 60 seconds were the embedding


@pytest.mark.parametrize(("train", "known"), [(4000, True), (6000, False)])
def test_what_is_screened_in_full_is_embedded(train: int, known: bool) -> None:
    costs = make_costs(screened({RESNET: 0.01}), dataset(train=train, validation=500))
    assert ((RESNET, 32) in costs.embedded) == known


def test_predictions_learn_nothing_from_trials_on_another_device() -> None:
    costs = cost_model(small_config())
    costs.costs = {name: replace(each, device="cpu") for name, each in costs.costs.items()}
    params = {"backbone": RESNET, "freeze_depth": 0.0, "resolution": 32, "batch_size": 16, "augmentation": "none"}
    before = costs.epoch_seconds(params)
    attrs = {"spec": params, "epoch_seconds": 100 * before, "startup_seconds": 1.0}
    costs.learn_from(create_trial(value=0.5, user_attrs={**attrs, "device": "NVIDIA H100"}))
    assert costs.epoch_seconds(params) == before
    costs.learn_from(create_trial(value=0.5, user_attrs={**attrs, "device": "cpu"}))
    assert costs.epoch_seconds(params) == pytest.approx(100 * before)


def test_predictions_learn_from_what_trials_took() -> None:
    costs = cost_model(small_config(), 0.04, images=100)
    before = costs.epoch_seconds(EVERYTHING)
    other = costs.epoch_seconds(EVERYTHING | {"backbone": EFFICIENTNET})
    costs.learn(EVERYTHING, 2 * before)
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(2 * before)
    costs.learn(EVERYTHING, 4 * before)
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(3 * before)
    for _ in range(20):
        costs.learn(EVERYTHING, before)
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(before)
    assert costs.epoch_seconds(EVERYTHING | {"backbone": EFFICIENTNET}) == other
    head = costs.epoch_seconds(HEAD)
    costs.learn(HEAD, 3 * head)
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(before)
    assert costs.epoch_seconds(HEAD) == pytest.approx(3 * head)
    costs.learn(HEAD, 3 * head)
    assert costs.epoch_seconds(HEAD) == pytest.approx(3 * head)
    costs.learn(HEAD, 300 * head)  # something else ran beside it
    assert costs.epoch_seconds(HEAD) == pytest.approx(3 * head)


def test_each_resolution_learns_from_its_own_trials() -> None:
    """Small images cost more than in proportion to their pixels, which says nothing about large ones."""
    costs = cost_model(small_config(), 0.04, images=100)
    large, larger = (EVERYTHING | {"resolution": side} for side in (64, 96))
    before = [costs.epoch_seconds(each) for each in (EVERYTHING, large, larger)]
    costs.learn(EVERYTHING, 3 * before[0])
    assert costs.epoch_seconds(large) == pytest.approx(3 * before[1])  # until there is something better
    costs.learn(large, before[1])
    assert [costs.epoch_seconds(each) for each in (EVERYTHING, large)] == [pytest.approx(3 * before[0]), before[1]]
    assert costs.epoch_seconds(larger) == pytest.approx(2 * before[2])


def test_a_batch_that_passes_in_parts_pays_for_each_of_them() -> None:
    """What a step takes whatever its images, a pass takes."""
    costs, fixed = cost_model(small_config(), 0.04, images=100), {"fixed_seconds": {0.0: 0.8, 0.5: 0.8}}
    costs.costs = {name: replace(each, **fixed) for name, each in costs.costs.items()}
    whole = EVERYTHING | {"batch_size": 16}
    at_once = costs.epoch_seconds(whole)
    assert costs.epoch_seconds(whole | {"micro_batch": 8}) == pytest.approx(at_once + 100 * 0.8 * (1 / 8 - 1 / 16))
    memory = {"fixed_mb": {0.0: 100.0}, "image_mb": {0.0: 10.0}, "available_mb": 400.0}
    costs.costs = {name: replace(each, **memory) for name, each in costs.costs.items()}
    assert costs.epoch_seconds(whole) == at_once
    costs.memory_share = 0.5  # of two trials on one device
    assert costs.micro_batch(whole)[0] == 8
    assert costs.epoch_seconds(whole) == costs.epoch_seconds(whole | {"micro_batch": 8})
    assert costs.epoch_seconds(whole | {"micro_batch": None}) == at_once  # a trial that ran
    assert costs.epoch_seconds(whole | {"micro_batch": 32}) == at_once
    costs.most_at_once = 4  # asked for
    assert costs.epoch_seconds(whole) == costs.epoch_seconds(whole | {"micro_batch": 4})


def test_the_start_of_a_trial_is_learned_and_that_of_the_refit_stays() -> None:
    costs = cost_model(small_config(), 0.04, images=100)
    refit = costs.refit_seconds(EVERYTHING, 4)
    assert costs.start_seconds(EVERYTHING) == 2.0
    for seconds in (0.3, 0.5):
        costs.learn(EVERYTHING, costs.epoch_seconds(EVERYTHING), seconds)
    assert costs.start_seconds(EVERYTHING) == pytest.approx(0.4)
    assert costs.refit_seconds(EVERYTHING, 4) == pytest.approx(refit)


def test_defaults_are_the_head_of_every_backbone_then_pairs() -> None:
    space = make_space(
        [RESNET, VIT], {"freeze_depth": [0.0, 0.5, 0.75, 1.0], "augmentation": ["light", "none"], "resolution": [64]}
    )
    trials = default_trials([RESNET, VIT], space, 20)
    assert [(each["backbone"], each["freeze_depth"], each["augmentation"]) for each in trials] == [
        (RESNET, 1.0, "none"), (VIT, 1.0, "none"), (RESNET, 0.0, "light"), (RESNET, 0.75, "light"),
        (VIT, 0.0, "light"), (VIT, 0.75, "light"),
    ]  # fmt: skip
    assert {each["augmentation"] for each in default_trials([RESNET, VIT], space, FEW_EPOCHS)} == {"none"}


def test_defaults_are_sound_for_their_family_and_within_the_space() -> None:
    rates: Any = {"low": 1e-5, "high": 3e-3, "log": True}
    config = small_config("backbones: [test_resnet, test_vit]\nparams: {learning_rate: " + json.dumps(rates) + "}")
    space = make_space([RESNET, VIT], config.params)
    trials = default_trials([RESNET, VIT], space, 20)
    sound = {name: default_params(find(name))["learning_rate"] for name in (RESNET, VIT)}
    assert {each["backbone"]: each["learning_rate"] for each in trials if each["learning_rate"] < 3e-3} == {
        name: rate for name, rate in sound.items() if rate < 3e-3
    }
    assert all(set(each) == {"backbone", "learning_rate"} for each in trials)
    for params in trials:
        for name, distribution in space.distributions.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))


@pytest.mark.parametrize(
    ("side", "expected"), [(8, 96), (28, 96), (100, 128), (130, 160), (300, 160), (float("inf"), 160)]
)
def test_small_images_are_not_enlarged_more_than_half_of_what_weights_were_made_at(side: float, expected: int) -> None:
    """Of 160 px, that is 72."""
    space = make_space([RESNET], small_config().params | {"resolution": [64, 96, 128, 160, 224]})
    assert {each["resolution"] for each in default_trials([RESNET], space, 4, side)} == {expected}
    assert default_resolution(find(RESNET), space, side) == expected
    alone = make_space([RESNET], small_config().params | {"resolution": [224]})
    assert default_resolution(find(RESNET), alone, side) == 224


def test_one_default_is_not_tried_twice() -> None:
    space = make_space([RESNET], {"freeze_depth": [0.0], "augmentation": ["none"]})
    assert len(default_trials([RESNET], space, 20)) <= 1


def test_the_plan_divides_the_budget() -> None:
    made = plan(300.0, {RESNET: 0.01, EFFICIENTNET: 0.02})
    assert made.backbones == [RESNET, EFFICIENTNET]
    budget = made.budget
    assert (budget["total_seconds"], budget["screening_seconds"]) == (310.0, 10.0)
    assert budget["search_seconds"] + budget["refit_seconds"] == pytest.approx(300.0)
    assert made.warnings == []
    for kinds in made.trial_seconds.values():
        assert kinds["head only"] < kinds["mostly frozen"] < kinds["everything"]
    made.check_budget()


def test_backbones_that_do_not_fit_are_left_out_with_a_reason() -> None:
    made = plan(120.0, FOUR)
    assert made.backbones == [RESNET, EFFICIENTNET, VIT]
    assert "no longer fit the budget" in made.shortlist[3].reason


def test_the_cheapest_is_tried_first_and_then_the_most_promising() -> None:
    made = plan(3000.0, {RESNET: 0.03, EFFICIENTNET: 0.02, VIT: 0.01})
    assert made.backbones == [RESNET, EFFICIENTNET, VIT]
    assert made.order == [VIT, RESNET, EFFICIENTNET]  # by search space order, there being no other difference


def test_what_is_about_as_cheap_is_ordered_by_promise_alone() -> None:
    for costs in ({RESNET: 0.011, EFFICIENTNET: 0.01, VIT: 0.03}, {RESNET: 0.01, EFFICIENTNET: 0.011, VIT: 0.03}):
        assert plan(3000.0, costs).order == [RESNET, EFFICIENTNET, VIT]


def test_trials_at_once_share_the_work() -> None:
    alone, together = plan(120.0, FOUR), plan(120.0, FOUR, at_once=200)
    assert CONVNEXT not in alone.backbones
    assert together.backbones == list(FOUR)
    rates = [made.budget["trials_per_hour"] for made in (plan(3000.0, {RESNET: 0.01}, at_once=n) for n in (1, 8))]
    assert rates[1] == pytest.approx(8 * rates[0])


def test_only_what_the_space_has_is_planned_for() -> None:
    """Where nothing but heads trains, a backbone that would be dear to fine-tune is not left out for that."""
    text = "backbones: [test_resnet]\nparams: {freeze_depth: [1.0], augmentation: none, resolution: 32}"
    made = plan(120.0, FOUR, text=text)
    assert made.backbones == list(FOUR)
    assert {kind for each in made.trial_seconds.values() for kind in each} == {"head only"}
    assert made.warnings == []
    row = next(line for line in plan_lines(made, dataset()) if RESNET in line)
    assert row.split()[-2:] == ["-", "-"]
    no_heads = plan(120.0, {RESNET: 0.01}, text="backbones: [test_resnet]\nparams: {freeze_depth: [0.0, 0.75]}")
    assert set(no_heads.trial_seconds[RESNET]) == {"everything", "mostly frozen"}


def test_an_augmented_head_is_not_past_the_head() -> None:
    """It trains through the backbone in every epoch, and no more than a head."""
    made = plan(600.0, {RESNET: 0.01}, text=SPACE.replace("[0.0, 0.75, 1.0]", "1.0").replace("[none, light]", "light"))
    assert list(made.trial_seconds[RESNET]) == ["head, augmented"]
    (line,) = [each for each in plan_lines(made, dataset()) if each.startswith(f"  {RESNET}")]
    (seconds,) = made.trial_seconds[RESNET].values()
    assert line.split()[-3:] == [f"{seconds:.0f}", "-", "-"]


def test_a_number_of_trials_that_ends_before_the_sound_configurations_do_is_a_warning() -> None:
    def told(trials: int) -> list[str]:
        return plan(6000.0, FOUR | {CONVNEXT: 0.03}, text=SPACE.replace("{budget: 10m", f"{{trials: {trials}")).warnings

    assert told(4) == ["--trials 4 trains nothing past the head: the heads, 4 in all, come first; for all of the sound "
                       "configurations use --trials 12"]  # fmt: skip
    assert told(11) == ["--trials 11 is too few for all 12 sound configurations, which come first"]
    assert told(12) == []


def test_what_the_study_has_trials_of_stays_and_why_it_would_not() -> None:
    alone = plan(120.0, FOUR)
    left_out = next(each for each in alone.shortlist if each.backbone == CONVNEXT)
    assert not left_out.included
    kept = next(each for each in plan(120.0, FOUR, keep=[CONVNEXT]).shortlist if each.backbone == CONVNEXT)
    assert kept.included
    assert kept.reason == f"in the study already; {left_out.reason}"


def test_the_largest_batch_is_that_of_a_trial() -> None:
    found = replace(cost(0.01), available_mb=1000.0, fixed_mb={0.0: 100.0}, image_mb={0.0: 10.0})
    made = replace(plan(600.0, {RESNET: 0.01}), screened=[replace(screened({RESNET: 0.01})[0], cost=found)])
    whole, quarter = (
        next(
            each for each in plan_lines(replace(made, memory_share=share), dataset()) if each.startswith(f"  {RESNET}")
        )
        for share in (1.0, 0.25)
    )
    assert (found.largest_batch(0.0, pixels=1.0, share=1.0) or 0) > (
        found.largest_batch(0.0, pixels=1.0, share=0.25) or 0
    )
    assert f" {found.largest_batch(0.0, pixels=1.0, share=0.25):,} " in quarter
    assert whole != quarter


def test_what_takes_longer_than_the_search_is_named() -> None:
    made = plan(120.0, {RESNET: 0.01, EFFICIENTNET: 2.0})
    (warning,) = made.warnings
    assert EFFICIENTNET in warning
    assert RESNET not in warning
    assert "everything" in warning
    assert "head only" not in warning
    hourly = made.budget["trials_per_hour"]
    assert 3600 / hourly <= made.budget["search_seconds"]  # of trials that fit


def test_a_plan_made_again_knows_what_trials_cost() -> None:
    spec = {**EVERYTHING, "backbone": EFFICIENTNET}
    before = plan(600.0, {RESNET: 0.01, EFFICIENTNET: 1.0})
    taught = make_costs(screened({EFFICIENTNET: 1.0}), dataset())
    attrs = {"spec": spec, "epoch_seconds": taught.epoch_seconds(spec) / 10, "startup_seconds": 1.0}
    after = plan(600.0, {RESNET: 0.01, EFFICIENTNET: 1.0}, trials=[create_trial(value=0.5, user_attrs=attrs)])
    ratio = after.trial_seconds[EFFICIENTNET]["everything"] / before.trial_seconds[EFFICIENTNET]["everything"]
    assert ratio == pytest.approx(0.1, abs=0.02)


def test_only_a_space_without_heads_says_when_there_is_a_first_answer() -> None:
    assert not [each for each in plan(120.0, FOUR).choices if each["name"] == "first answer"]
    text = "backbones: [test_resnet]\nparams: {freeze_depth: [0.0, 0.75]}"
    (told,) = [each for each in plan(120.0, {RESNET: 0.01}, text=text).choices if each["name"] == "first answer"]
    assert told["value"].startswith("after a whole trial")


def test_it_is_told_which_backbones_train_in_another_precision() -> None:
    config = small_config(f"backbones: [{RESNET}, {EFFICIENTNET}]")
    found = screened({RESNET: 0.01, EFFICIENTNET: 0.01})
    seconds = {"bfloat16": 0.4, "float32": 0.3}
    quicker = replace(found[1], cost=replace(found[1].cost, training_dtype="float32", dtype_seconds=seconds))
    reason = "with half frozen, a step takes of one in bfloat16: 0.75 with " + found[1].backbone
    reason += "; others train, and all are evaluated, in bfloat16"
    for several, told in (
        (found, []),
        ([found[0], quicker], [reason]),
    ):
        made = make_plan(
            config, dataset(), make_space([RESNET, EFFICIENTNET], config.params), several, seconds_left=600.0,
            seconds_spent=0.0, choices=[],
        )  # fmt: skip
        assert [each["reason"] for each in made.choices if each["name"] == "training precision"] == told


def test_batch_norm_is_estimated_anew_only_where_it_trains() -> None:
    costs = cost_model(small_config(), 0.04, images=100)
    light_head = EVERYTHING | {"freeze_depth": 1.0}
    assert costs.epoch_seconds(light_head) == pytest.approx((100 + 25) * 0.01)
    without = {name: replace(each, batch_norm=False) for name, each in costs.costs.items()}
    costs = replace(costs, costs=without)
    assert costs.epoch_seconds(EVERYTHING) == pytest.approx(100 * 0.04 + 25 * 0.01)


def test_without_the_time_for_a_refit_none_is_kept_for_it() -> None:
    made = plan(45.0, {RESNET: 0.5, EFFICIENTNET: 0.5})
    assert made.budget["refit_seconds"] == 0.0
    assert made.budget["closing_seconds"] > 0.0
    assert "to hand over" in "\n".join(plan_lines(made, dataset()))
    mixed = plan(60.0, {RESNET: 0.01, EFFICIENTNET: 0.5})
    assert mixed.budget["refit_seconds"] > made.budget["closing_seconds"]  # of the one that can be refitted


def test_what_could_not_be_screened_is_in_the_plan(tmp_path: Path) -> None:
    made = plan(120.0, {RESNET: 0.01}, unscreened=[Choice(VIT, False, "it cannot be screened: out of memory")])
    (tmp_path / "plan.json").write_text(made.to_json())
    assert load_plan(tmp_path / "plan.json") == made
    assert made.backbones == [RESNET]
    assert any(VIT in line and "out of memory" in line for line in plan_lines(made, dataset()))


def test_a_backbone_of_fixed_resolution_costs_the_same_at_any() -> None:
    fixed, free = "timm/gcvit_xxtiny.in1k", RESNET
    costs = CostModel(
        dict.fromkeys((fixed, free), cost(0.01)), {fixed: 224, free: 224}, train_images=100, validation_images=20
    )
    at = {side: [costs.epoch_seconds(EVERYTHING | {"backbone": name, "resolution": side}) for name in (fixed, free)]
          for side in (224, 448)}  # fmt: skip
    assert at[448][0] == at[224][0]
    assert at[448][1] == pytest.approx(4 * at[224][1])


def test_a_budget_too_short_for_one_trial_is_refused_with_the_least_that_would_do() -> None:
    made = plan(2.0, {RESNET: 0.01, EFFICIENTNET: 0.02}, spent=10.0)
    with pytest.raises(NoTrialFinishedError, match=r"a budget of 12 s is too short for one trial .* --budget \d+s"):
        made.check_budget()
    assert "so a search would refuse it: use at least --budget" in made.warnings[0]
    enough = float(made.budget["least_seconds"])
    replace(made, budget=made.budget | {"total_seconds": enough}).check_budget()


def test_a_budget_for_heads_alone_is_a_warning() -> None:
    made = plan(45.0, {RESNET: 0.5, EFFICIENTNET: 0.5})
    assert "too short to train anything past the head" in made.warnings[0]
    made.check_budget()


@pytest.mark.parametrize("given", [False, True])
def test_the_plan_says_on_which_images_the_best_are_trained_again(monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    monkeypatch.setitem(SPLITS, "validation", "given" if given else "drawn")
    made = plan(3600.0, FOUR, text=SPACE.replace("repeats: 0", "repeats: 2"))
    reasons = {each["name"]: each["reason"] for each in made.choices}
    assert ("new splits" in reasons["train again"]) is not given
    assert ("the validation images that were given" in reasons["train again"]) is given


def test_a_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    made = plan(120.0, FOUR)
    speed = Speed("CPU, 2 threads", "float32", Latency(1, 2.0, 2.5, 10), Latency(8, 9.0, 9.5, 3))
    made.screened[0] = replace(made.screened[0], speeds={32: speed})
    (tmp_path / "plan.json").write_text(made.to_json())
    assert load_plan(tmp_path / "plan.json") == made


def test_a_plan_with_no_list_where_there_should_be_one_is_refused(tmp_path: Path) -> None:
    content = json.loads(plan(120.0, FOUR).to_json())
    (tmp_path / "plan.json").write_text(json.dumps({**content, "order": 5}))
    with pytest.raises(UsageError, match=r"cannot read the plan .*; start a new study with --out"):
        load_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("dtype", ["float64", None, 3, ["float32"]])
@pytest.mark.parametrize("seconds", [{}, None, {"float32": "1"}, {"float32": 0.0}])
def test_a_plan_whose_precision_took_no_seconds_is_refused(tmp_path: Path, dtype: object, seconds: object) -> None:
    content = json.loads(plan(120.0, FOUR).to_json())
    content["screening"][0] |= {"training_dtype": dtype, "dtype_seconds": seconds}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="cannot read the plan"):
        load_plan(tmp_path / "plan.json")


def test_the_plan_in_words_names_everything() -> None:
    lines = "\n".join(plan_lines(plan(120.0, FOUR), dataset()))
    assert "Plan: 150 images in 2 classes (100 train, 20 validation, 30 test)" in lines
    for name in FOUR:
        assert name in lines
    assert "left out: number 4 by search space order" in lines
    assert "Budget: 2:10 min = 0:10 min until here" in lines
    assert "Chosen: device cpu (none other)" in lines
    assert re.search(r"Shortlist: .*\(number 1 by search space order\)", lines)


def test_what_trains_past_the_head_is_not_head_only() -> None:
    assert CostModel.is_head_only(HEAD)
    changes: list[dict[str, Any]] = [{"mixup": 0.1}, {"cutmix": 0.1}, {"augmentation": "light"}, {"freeze_depth": 0.75}]
    assert not any(CostModel.is_head_only(HEAD | change) for change in changes)
