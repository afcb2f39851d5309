from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import kendalltau

from automl.ranking import facts, tables, words
from automl.ranking.answer import answer
from automl.ranking.fronts import COSTS, front, fronts
from automl.ranking.importance import importance, importance_by_backbone
from automl.ranking.leaderboard import build
from automl.ranking.limits import Limits, limited
from automl.ranking.plain import At, dump, plain
from automl.ranking.statistics import BestCorrected
from automl.ranking.terminal import table
from automl.ranking.why import why


def told(made: Any, limits: Limits | None = None) -> tuple[Any, Any]:
    study, within = limited(made.study, limits or Limits())
    board = build(made.folder, study=study)
    return board, facts.collect(made.folder, study, board, within)


@pytest.mark.parametrize("cost", COSTS)
def test_pareto_front_is_what_nothing_beats(textile: Any, cost: str) -> None:
    board = build(textile.folder, study=textile.study)
    rows = [row for row in board.rows if row.state == "COMPLETE"]

    def beaten(row: Any) -> bool:
        mine = (row.score, -getattr(row, cost))
        others = [(other.score, -getattr(other, cost)) for other in rows]
        return any(each != mine and each[0] >= mine[0] and each[1] >= mine[1] for each in others)

    found = front(board, cost)
    assert {(row.score, getattr(row, cost)) for row in found} == {
        (row.score, getattr(row, cost)) for row in rows if not beaten(row)
    }
    costs = [getattr(row, cost) for row in found]
    assert costs == sorted(costs)
    assert found[-1].score == board.rows[0].score


def test_no_front_against_what_was_never_measured(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=0)
    for value in (0.5, 0.6):
        made.study.add_trial(create_trial(state=TrialState.COMPLETE, value=value, user_attrs={"train_seconds": 3.0}))
    assert [(each.cost, each.trials) for each in fronts(build(made.folder, study=made.study))] == [
        ("train_seconds", (1,))
    ]


def test_limits_rank_again_among_what_is_left(textile: Any) -> None:
    whole, _ = told(textile)
    limits = Limits(max_latency_ms=16.0)
    board, found = told(textile, limits)
    quick = [row for row in whole.rows if row.latency_ms <= 16.0]
    assert 0 < len(quick) < len(whole.rows)
    assert [row.trial for row in board.rows] == [row.trial for row in quick]
    assert [row.rank for row in board.rows] == list(range(1, len(quick) + 1))
    assert board.rows[0].tied_with_best
    assert found.excluded == len(whole.rows) - len(quick)
    assert len(board.failures) == len(whole.failures)
    for text in (table(board, found), tables.to_markdown(board, found)):
        assert "at most 16.0 ms an image" in text
        assert words.left_out(found.excluded) in text


@pytest.mark.parametrize(
    ("limits", "attrs", "allowed"),
    [
        (Limits(), {}, True),
        (Limits(max_latency_ms=5), {"latency_ms": 5.0}, True),
        (Limits(max_latency_ms=5), {"latency_ms": 5.1}, False),
        (Limits(max_latency_ms=5), {}, False),
        (Limits(max_latency_ms=5), {"latency_ms": float("nan")}, False),
        (Limits(max_parameters=10, max_memory_mb=3), {"model_parameters": 10, "peak_memory_mb": 4}, False),
        (Limits(max_parameters=10, max_memory_mb=3), {"model_parameters": 10, "peak_memory_mb": 3}, True),
    ],
)
def test_what_limits_allow(limits: Limits, attrs: dict[str, Any], allowed: bool) -> None:
    assert limits.allow(attrs) is allowed


def test_nothing_within_the_limits_is_no_answer(textile: Any) -> None:
    board, found = told(textile, Limits(max_parameters=1))
    assert board.best is None
    assert found.excluded == 12
    assert "12 others are left out" in table(board, found)
    assert found.answer[0].startswith("None of 12 trials keeps within at most 1 parameters: the smallest is ")
    for text in (table(board, found), tables.to_markdown(board, found)):
        assert found.answer[0] in text
        assert "No trial has a score" not in text
    assert found.why.not_tried == told(textile)[1].why.not_tried  # a filter does not undo what was tried


def test_why_counts_what_is_there(textile: Any) -> None:
    board, found = told(textile)
    reasons = found.why
    for each in reasons.backbones:
        rows = [row for row in board.rows if row.backbone == each.backbone]
        assert each.ranked == len(rows)
        assert each.failed == sum(failure.backbone == each.backbone for failure in board.failures)
        assert each.best_score == rows[0].score
        whole = [row.score for row in rows if row.state == "COMPLETE"]
        assert each.median_score == pytest.approx(np.median(whole))
        assert each.train_seconds == pytest.approx(sum(row.train_seconds for row in rows))
    assert {each.reason: each.trials for each in reasons.failures} == {"diverged": 1, "out_of_memory": 1, "crashed": 1}
    assert [each.realised_rank for each in reasons.backbones] == [1, 2, 3]
    assert not {each.what for each in reasons.not_tried} & {each.backbone for each in reasons.backbones}  # all were
    assert reasons.stage_seconds == textile.study.user_attrs["stage_seconds"]
    assert reasons.budget_seconds == 600.0


def test_probes_are_held_against_what_came_of_it(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=0)
    choices = CategoricalDistribution([f"b{i}" for i in range(6)])
    scores, knn = [0.5, 0.9, 0.6, 0.8, 0.7, 0.4], [0.4, 0.8, 0.8, 0.7, 0.5, 0.1]
    for i, score in enumerate(scores):
        made.study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=score,
                params={"backbone": f"b{i}"},
                distributions={"backbone": choices},
            )
        )
    screening = [{"backbone": f"b{i}", "knn_accuracy": value, "linear_accuracy": 0.5} for i, value in enumerate(knn)]
    made.folder.plan.write_text(json.dumps({"screening": screening}))
    found = why(made.folder, made.study, build(made.folder, study=made.study))
    by_probe = {each.probe: each for each in found.probes}
    assert by_probe["knn"].kendall_tau == pytest.approx(kendalltau(knn, scores).statistic, abs=1e-12)
    assert by_probe["knn"].backbones == 6
    assert by_probe["linear"].kendall_tau is None  # all equal: no order


def test_what_was_not_tried_is_named_with_the_reason(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=2)
    made.study.set_user_attr("stop_reason", "budget")
    made.study.enqueue_trial({"freeze_depth": 0.0})
    made.study.add_trial(
        create_trial(
            state=TrialState.FAIL, user_attrs={"reason": "skipped", "message": "needs about 45 s, 16 s are left"}
        )
    )
    board = build(made.folder, study=made.study)
    found = {each.what: each.why for each in why(made.folder, made.study, board).not_tried}
    assert "automl resume goes on with it" in found["1 planned trial"]
    assert "16 s are left" in found["1 proposal of the sampler"]
    assert found["freeze_depth 1.0"].startswith("none of the first configurations has it")  # two trials had 0.5
    assert "freeze_depth 0.5" not in found
    assert any("too slow" in reason for reason in found.values())


@pytest.mark.parametrize(
    ("outcome", "warnings", "why_not"),
    [
        ("skipped", [], "no trial with this choice ran to its end: 2 not begun for lack of time"),
        ("out_of_memory", [], "no trial with this choice ran to its end: 2 out of memory"),
        (None, ["the budget is too short to train anything past the head: …"], "the plan found the budget too short"),
        (None, ["another"], "none of the first configurations has it"),
    ],
)
def test_why_a_choice_has_no_score(
    make_study: Callable[..., Any], outcome: str | None, warnings: list[str], why_not: str
) -> None:
    made = make_study(trials=2)
    space = {"freeze_depth": CategoricalDistribution([0.0, 0.5, 1.0])}
    for depth in (0.0, 0.0) if outcome else (1.0,):
        state = TrialState.FAIL if outcome else TrialState.COMPLETE
        trial = create_trial(
            state=state, params={"freeze_depth": depth}, distributions=space,
            user_attrs={"reason": outcome}, value=None if outcome else 0.5,
        )  # fmt: skip
        made.study.add_trial(trial)
    made.folder.plan.write_text(json.dumps({"screening": [], "warnings": warnings}))
    board = build(made.folder, study=made.study)
    found = {each.what: each.why for each in why(made.folder, made.study, board).not_tried}
    assert found["freeze_depth 0.0"].startswith(why_not)


def test_first_configurations_for_which_no_time_was_left_are_named(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=2)
    made.study.set_user_attr("not_tried", {"b, freeze_depth 0": "needs about 80 s, 30 s are left"})
    board = build(made.folder, study=made.study)
    found = {each.what: each.why for each in why(made.folder, made.study, board).not_tried}
    assert found["b, freeze_depth 0"] == "needs about 80 s, 30 s are left"


@pytest.mark.parametrize("over", [True, False])
def test_what_is_planned_is_told_as_such_while_the_search_runs_and_counted_when_it_is_over(
    make_study: Callable[..., Any], over: bool
) -> None:
    made = make_study(trials=2)
    made.study.set_user_attr("stop_reason", "trials" if over else None)
    made.study.set_user_attr("not_begun", [{"freeze_depth": 1.0}, {"freeze_depth": 1.0, "learning_rate": 0.1}])
    made.study.enqueue_trial({"freeze_depth": 0.5})
    board = build(made.folder, study=made.study)
    found = {each.what: each.why for each in why(made.folder, made.study, board).not_tried}
    ended = "the search ended before their turn; automl resume --trials +3 goes on with them"
    assert found["3 planned trials"] == (ended if over else "their turn has not come yet")
    assert ("its turn has not come yet" in found["freeze_depth 1.0"]) is not over


def test_backbones_that_a_killed_search_had_not_looked_at_are_named(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=2)
    content = json.loads(made.folder.plan.read_text())
    names = [*(each["backbone"] for each in content["screening"]), "timm/resnet18.a1_in1k"]
    made.study.set_user_attr("config", "backbones: [" + ", ".join(names) + "]\n")
    for unfinished in (True, False):
        made.folder.plan.write_text(json.dumps({**content, "unfinished": unfinished}))
        found = {
            each.what: each.why for each in why(made.folder, made.study, build(made.folder, study=made.study)).not_tried
        }
        assert ("timm/resnet18.a1_in1k" in found) == unfinished
    assert not unfinished


@pytest.mark.parametrize(
    "screening",
    [3, {"a": 1}, [1, None, "x"], [{"backbone": ["x"]}], [{"backbone": "a", "knn_accuracy": "x"}],
     [{"backbone": "a", "linear_ci95": [1]}]],
)  # fmt: skip
def test_a_damaged_plan_costs_what_it_would_have_said(make_study: Callable[..., Any], screening: Any) -> None:
    made = make_study(trials=3)
    made.folder.plan.write_text(json.dumps({"screening": screening}))
    found = why(made.folder, made.study, build(made.folder, study=made.study))
    assert [each.backbone for each in found.backbones if each.knn_accuracy is not None] == []
    assert len(found.backbones) == 3


@pytest.mark.parametrize("damage", [{"counts": "x"}, {"counts": {"a": None}}, {"duplicates": [{"copies": None}]}])
def test_a_damaged_audit_costs_what_it_would_have_said(make_study: Callable[..., Any], damage: Any) -> None:
    made = make_study(trials=3)
    made.folder.audit.write_text(json.dumps(json.loads(made.folder.audit.read_text()) | damage))
    assert len(build(made.folder, study=made.study, metric="auroc").rows) == 3


def test_a_space_with_one_backbone_has_tried_it(make_study: Callable[..., Any]) -> None:
    made = make_study(trials=0)
    attrs = {"spec": {"backbone": "a"}, "predicted_seconds": [1.0, 1.0], "startup_seconds": 1.0, "epoch_seconds": 1.0}
    made.study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs={**attrs, "epochs": 1}))
    made.folder.plan.write_text(json.dumps({"screening": [{"backbone": "a", "included": True}]}))
    reasons = why(made.folder, made.study, build(made.folder, study=made.study))
    assert not any(each.what == "a" for each in reasons.not_tried)
    assert [each.what for each in reasons.foreseen] == ["all", "a"]


def test_importance_within_a_backbone_is_that_of_its_trials_alone() -> None:
    study = optuna.create_study(direction="maximize")
    rng = np.random.default_rng(0)
    spaces = {
        "backbone": CategoricalDistribution(["a", "b"]), "x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)
    }  # fmt: skip
    for i in range(120):
        params = {"backbone": "ab"[i % 2], "x": float(rng.random()), "y": float(rng.random())}
        value = params["x"] if params["backbone"] == "a" else params["y"]
        study.add_trial(create_trial(value=value, params=params, distributions=spaces))
    found = importance_by_backbone(study)
    assert {name: next(iter(each.shares)) for name, each in found.items()} == {"a": "x", "b": "y"}
    assert all(sum(each.shares.values()) == pytest.approx(1) for each in found.values())
    assert all(set(each.shares) == {"x", "y"} and each.trials == 60 for each in found.values())
    assert set(importance(study).shares) == {"backbone", "x", "y"}


def test_importance_counts_a_trial_that_was_trained_on_once() -> None:
    study = optuna.create_study(direction="maximize")
    spaces = {"x": FloatDistribution(0, 1)}
    for i in range(12):
        attrs: dict[str, Any] = {"epochs": 2, "reason": "truncated"} if i == 0 else {"epochs": 4}
        study.add_trial(create_trial(value=i / 12, params={"x": i / 12}, distributions=spaces, user_attrs=attrs))
    again = {"epochs": 4, "resumes": 0}
    study.add_trial(create_trial(value=0.5, params={"x": 0.0}, distributions=spaces, user_attrs=again))
    assert importance(study).trials == 12


def test_terminal_tells_the_same_facts(textile: Any) -> None:
    board, found = told(textile)
    text = table(board, found, width=150)
    for phrase in (
        *("Best score for its latency", "Best score for its parameters", "Best score for its training time"),
        *(
            "=: cannot be told apart from the best",
            "What mattered:",
            "Kendall's τ: k-NN",
            "Without a score: diverged 1",
            "Time of 10 min: audit",
        ),
        *answer(board),
    ):
        assert phrase in text
    for each in found.why.backbones:
        assert words.number("accuracy", each.median_score) in text


def test_an_estimate_that_takes_the_luck_off_is_told(textile: Any) -> None:
    board = build(textile.folder, study=textile.study)
    assert board.best_corrected is not None
    assert board.best is not None
    assert board.best_corrected.luck > 0
    assert board.best_corrected.luck == pytest.approx(board.best.score - board.best_corrected.value)
    found = BestCorrected(0.951, (0.92, 0.97), 0.0123, 40, "some method")
    with_it, without = replace(board, best_corrected=found), replace(board, best_corrected=None)
    (sentence,) = (each for each in answer(with_it) if each not in answer(without))
    assert sentence == (
        "It was picked as the best of 40, which accounts for about 1.2 points of its score: "
        "expect 95.1 % (95 % interval 92.0 – 97.0 %) on new images."
    )
    found_out = facts.collect(textile.folder, textile.study, with_it)
    for text in (table(with_it, found_out), tables.to_markdown(with_it, found_out)):
        assert sentence in text
    assert json.loads(facts.to_json(with_it, found_out))["best_corrected"] == {
        "value": 0.951, "ci95": [0.92, 0.97], "luck": 0.0123, "trials": 40, "method": "some method",
    }  # fmt: skip
    alone = replace(board, best_corrected=replace(found, luck=0.0, trials=1))
    assert "No other trial was compared" in " ".join(answer(alone))


def test_pointers_know_where_they_are() -> None:
    at = At({"rows": [{"a/b": 1.5, "text": "<b>"}], "none": None})
    assert at.rows[0]["a/b"].path == "/rows/0/a~1b"
    assert at.rows[0]["a/b"].raw == 1.5
    assert [each.path for each in at.rows] == ["/rows/0"]
    assert not at.none
    assert not at.nowhere.deeper[3]
    assert str(at.nowhere) == ""
    assert [(key, value.path) for key, value in at.rows[0].pairs()] == [
        ("a/b", "/rows/0/a~1b"),
        ("text", "/rows/0/text"),
    ]


def test_dump_is_plain_json() -> None:
    content = {
        "rows": [{"a": np.float64(0.1)}, {"a": float("inf")}],
        "counts": {"é": np.int64(3)},
        "none": [],
        "x": (1,),
    }
    text = dump(plain(content))
    assert json.loads(text) == {"rows": [{"a": 0.1}, {"a": None}], "counts": {"é": 3}, "none": [], "x": [1]}
    assert len(text.splitlines()) == 9


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "100.0 %"), (0.9999999, "99.99 %"), (0.9997, "99.97 %"), (0.9995, "99.95 %"), (0.9994, "99.9 %")],
)
def test_what_is_not_all_is_not_a_hundred_percent(value: float, text: str) -> None:
    assert words.number("accuracy", value) == text


def test_limits_as_options_are_those_that_were_given() -> None:
    assert Limits(5.5, 5_000_000, 1024).options == " --max-latency-ms 5.5 --max-parameters 5000000 --max-memory-mb 1024"
    assert Limits().options == ""
