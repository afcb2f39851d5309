from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automl.paths import StudyFolder
from automl.search.show import warm_start_lines
from automl.search.study import StudyRecord
from automl.search.taken import Taken, WarmStart
from automl.search.warm_start import IN_ALL, PER_STUDY, learn
from automl.space import Space, make_space
from tests.earlier import FEATURES, POINT, write_earlier
from tests.small import EFFICIENTNET, RESNET, VIT, epoch, make_driver, new_record, small_config

RATES = (0.0001, 0.0005, 0.002, 0.01, 0.05)  # each unlike the others
MANY = [({"learning_rate": rate}, 0.9 - number / 100) for number, rate in enumerate(RATES)] * 2
NAMES = [RESNET, EFFICIENTNET]


def space(names: list[str] = NAMES, **params: Any) -> Space:
    return make_space(names, {**small_config().params, **params})


def taught(*folders: StudyFolder, into: Space | None = None, metric: str = "accuracy", weights: str = "none") -> Any:
    within = into or space()
    kinds = dict.fromkeys(within.choices("backbone"), weights)
    return learn(folders, FEATURES, within, metric=metric, weights=kinds)


def test_the_best_distinct_configurations_are_taken(tmp_path: Path) -> None:
    near = write_earlier(tmp_path / "near", MANY)
    found = taught(near)
    assert [each.trial for each in found.taken] == [0, 1, 2]
    assert [each.params["learning_rate"] for each in found.taken] == list(RATES[:PER_STUDY])
    first = found.taken[0]
    assert (first.study, first.metric, first.score, first.moved) == (str(near.root), "accuracy", 0.9, ())
    assert {**POINT, "learning_rate": 0.0001}.items() <= first.params.items()
    assert found.studies[0].distance == 0.0
    # 5 and 6 are those again, and ran longer
    assert [(each.trial, each.why) for each in found.left_out] == [
        (number, "it is like one that is taken") for number in (5, 6)
    ]


def test_the_nearest_studies_come_first_and_not_more_than_so_many(tmp_path: Path) -> None:
    far, near, nearer = (replace(FEATURES, images=images) for images in (36000, 360, 72))
    others = [({"augmentation": "none", "learning_rate": rate}, 0.3) for rate in RATES]
    third = [({"backbone": EFFICIENTNET, "learning_rate": rate}, 0.99) for rate in RATES]
    folders = [
        write_earlier(tmp_path / name, scores, features=features)
        for name, scores, features in (("far", third, far), ("near", others, near), ("nearer", MANY, nearer))
    ]
    found = taught(*folders)
    assert [Path(each.study).name for each in found.taken] == ["nearer"] * 3 + ["near"] * 3
    assert len(found.taken) == IN_ALL
    assert [(Path(each.study).name, each.taken) for each in found.studies] == [("nearer", 3), ("near", 3), ("far", 0)]
    assert [each.distance for each in found.studies] == [0.301, 1.0, 3.0]
    assert "farther away" in found.studies[2].why


def test_of_equally_near_ones_the_one_that_found_more_comes_first(tmp_path: Path) -> None:
    little = write_earlier(tmp_path / "a", [({"learning_rate": 0.05}, 0.5)])
    more = write_earlier(tmp_path / "b", [({"learning_rate": 0.001}, 0.8)])
    assert [each.score for each in taught(little, more).taken] == [0.8, 0.5]


def test_of_equally_near_ones_that_of_the_same_metric_comes_first(tmp_path: Path) -> None:
    other = write_earlier(tmp_path / "a", [({"learning_rate": 0.05}, 0.99)], metric="auroc")
    same = write_earlier(tmp_path / "b", [({"learning_rate": 0.001}, 0.8)])
    assert [each.score for each in taught(other, same).taken] == [0.8, 0.99]
    assert [each.score for each in taught(other, same, metric="auroc").taken] == [0.99, 0.8]


def test_what_had_to_move_is_said(tmp_path: Path) -> None:
    earlier = write_earlier(tmp_path / "a", [({"freeze_depth": 0.0}, 0.9)], label_smoothing=0.2, resolution=64)
    within = space(freeze_depth=[0.5, 1.0], resolution=[32, 96], learning_rate=0.03, augmentation=["trivial", "none"])
    (found,) = taught(earlier, into=within).taken
    assert set(found.moved) == {
        *("freeze_depth 0 → 0.5", "resolution 64 → 32", "learning_rate 0.01 → 0.03"),
        *("augmentation light → trivial", "label_smoothing 0.2 → 0.1"),
    }
    assert found.params == within.params(within.nearest(found.params))
    assert "moved here: freeze_depth 0 → 0.5" in "\n".join(warm_start_lines(taught(earlier, into=within)))


def test_a_backbone_that_is_not_shortlisted_or_begins_with_other_weights_is_left_out(tmp_path: Path) -> None:
    earlier = write_earlier(tmp_path / "a", [({"backbone": EFFICIENTNET}, 0.9), ({}, 0.8), ({}, 0.1)])
    found = taught(earlier, into=space([RESNET, VIT]))
    assert [each.trial for each in found.taken] == [1]
    assert [(each.trial, each.why) for each in found.left_out] == [
        (0, f"its backbone {EFFICIENTNET} is not on the shortlist")
    ]
    lines = "\n".join(warm_start_lines(found))
    assert "trial 1, accuracy 0.8000" in lines
    assert f"trial 0 not: its backbone {EFFICIENTNET}" in lines
    pretrained = taught(earlier, weights="/weights")
    assert not pretrained.taken
    assert all("began with random weights" in each.why for each in pretrained.left_out)
    assert "not used: none of its good configurations" in "\n".join(warm_start_lines(pretrained))


def test_only_metrics_of_one_direction_are_compared(tmp_path: Path) -> None:
    other = write_earlier(tmp_path / "a", MANY, metric="macro_f1")
    loss = write_earlier(tmp_path / "b", MANY, metric="log_loss")
    found = taught(other, loss)
    assert {each.metric for each in found.taken} == {"macro_f1"}
    assert [(Path(each.study).name, each.taken) for each in found.studies] == [("a", 3), ("b", 0)]
    assert "ranked by log_loss, this search by accuracy" in found.studies[1].why
    assert {each.metric for each in taught(other, loss, metric="log_loss").taken} == {"log_loss"}


def test_one_that_cannot_be_read_is_named_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torn, good = write_earlier(tmp_path / "torn", MANY), write_earlier(tmp_path / "good", MANY)
    torn.database.write_bytes(b"torn")
    found = taught(torn, good)
    assert len(found.taken) == 3
    assert (found.studies[-1].study, found.studies[-1].distance) == (str(torn.root), None)
    assert f"warm start: {torn.root} is not used: cannot read" in caplog.text
    assert f"{torn.root}: not used: cannot read" in "\n".join(warm_start_lines(found))


def test_it_survives_json(tmp_path: Path) -> None:
    found = taught(write_earlier(tmp_path / "a", MANY), write_earlier(tmp_path / "b", [], metric="log_loss"))
    assert found.taken
    assert WarmStart.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert WarmStart.from_dict({}) == WarmStart()


# What the driver makes of it

TAKEN = tuple(
    Taken("runs/a", number, "accuracy", 0.9, {**POINT, "resolution": 32, "batch_size": 16, "learning_rate": rate}, ())
    for number, rate in enumerate((0.0007, 0.05))
)


def started(driver: Any) -> Any:
    assignment = driver.next()
    return driver.record.trials()[assignment.number]


def run(driver: Any) -> Any:
    """Run a trial to its end. Returns it as it started."""
    trial = started(driver)
    if all(driver.report(trial.number, epoch(each, 0.5)) for each in range(1, 5)):
        driver.report(trial.number, {"reason": "complete"})
    driver.finish(trial.number)
    return trial


def test_it_is_tried_after_the_heads_and_before_the_other_defaults(tmp_path: Path) -> None:
    driver = make_driver(StudyFolder(tmp_path / "new"), small_config(), taken=TAKEN)
    trials = [started(driver) for _ in range(6)]
    assert [each.user_attrs["origin"] for each in trials] == ["default"] * 2 + ["warm start"] * 2 + ["default"] * 2
    assert [each.params["freeze_depth"] for each in trials] == [1.0, 1.0, 0.75, 0.75, 0.0, 0.75]
    assert trials[2].params["learning_rate"] == 0.0007
    assert trials[3].user_attrs["warm_start"] == {
        "study": "runs/a", "trial": 1, "metric": "accuracy", "score": 0.9, "moved": [],
    }  # fmt: skip


def test_a_default_that_was_good_before_is_tried_once(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "new")
    plain = make_driver(folder, small_config())
    last = plain._agenda.defaults[-1]
    shutil.rmtree(folder.root)
    driver = make_driver(folder, small_config(), taken=(replace(TAKEN[0], params={**TAKEN[0].params, **last}),))
    trials = [started(driver) for _ in range(len(plain._agenda.defaults))]
    assert [each.params for each in trials].count(last) == 1
    assert trials[2].params == last
    assert trials[2].user_attrs["origin"] == "warm start"
    assert started(driver).user_attrs["origin"] == "sampler"


def test_it_runs_to_its_end_however_it_compares(tmp_path: Path) -> None:
    def compared(name: str, taken: tuple[Taken, ...]) -> list[tuple[str, str]]:
        """Trials that are worse from one to the next."""
        driver = make_driver(StudyFolder(tmp_path / name), small_config(), taken=taken)
        for place in range(6):
            trial = started(driver)
            for each in range(1, 5):
                if not driver.report(trial.number, epoch(each, 0.9 - place / 10)):
                    break
            driver.finish(trial.number)
        return [(each.user_attrs["origin"], each.user_attrs["reason"]) for each in driver.record.trials()]

    warm = compared("warm", (*TAKEN, replace(TAKEN[0], params={**TAKEN[0].params, "learning_rate": 0.009})))
    assert [reason for origin, reason in warm if origin == "warm start"] == ["truncated"] * 3
    assert ("default", "paused") in compared("cold", ())


def test_what_does_not_fit_the_time_left_is_not_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small_config(budget=60.0)
    driver = make_driver(StudyFolder(tmp_path / "new"), config, taken=TAKEN, seconds=10.0)
    while driver.next() is not None:
        pass
    assert not [each for each in driver.record.trials() if each.user_attrs.get("origin") == "warm start"]
    caplog.set_level("INFO", logger="automl")
    driver.finish_rest()
    assert caplog.text.count("not tried") >= 2


def test_a_resumed_study_tries_what_is_left_of_it(tmp_path: Path) -> None:
    folder, config = StudyFolder(tmp_path / "new"), small_config()
    record = new_record(folder, config)
    first = make_driver(folder, config, record, taken=TAKEN)
    before = [run(first).user_attrs["origin"] for _ in range(3)]
    again = make_driver(folder, config, StudyRecord(record.study), taken=TAKEN)
    after = [started(again) for _ in range(2)]
    assert before == ["default", "default", "warm start"]
    assert [each.user_attrs["origin"] for each in after] == ["warm start", "default"]
    assert after[0].params["learning_rate"] == TAKEN[1].params["learning_rate"]


def test_the_sampler_is_weighed_by_what_was_taken(tmp_path: Path) -> None:
    """By a density that knows only one augmentation and one backbone."""

    def proposed(name: str, taken: tuple[Taken, ...]) -> list[dict[str, Any]]:
        config = small_config(scheduler="none", seed=3)
        driver = make_driver(StudyFolder(tmp_path / name), config, taken=taken, defaults=False)
        return [run(driver).params for _ in range(20)][-12:]

    def like(params: list[dict[str, Any]]) -> int:
        return sum(each["backbone"] == RESNET and each["augmentation"] == "light" for each in params)

    assert like(proposed("warm", TAKEN)) > like(proposed("cold", ()))
