"""Every number that the page shows is the one in leaderboard.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sklearn import metrics as sk

from automl.ranking import plots, report, winner_plots, words
from automl.ranking.facts import schema
from automl.ranking.importance import Importance
from automl.ranking.leaderboard import build
from tests.ranking.html import Page, plain, tokens
from tests.ranking.study import sklearn_scores

TEMPLATES = Path(words.__file__).with_name("templates")


@pytest.fixture(scope="module")
def content(written: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written.parent / "leaderboard.json").read_text("utf-8"))
    return found


def at(content: Any, pointer: str) -> Any:
    """What a JSON Pointer (RFC 6901) points at."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        content = content[int(key)] if isinstance(content, list) else content[key]
    return content


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)] + list(value)
    if isinstance(value, list):
        return [leaf for each in value for leaf in leaves(each)] + [len(value)]
    return [value]


def test_every_marked_number_is_that_of_the_json(page: Page, content: dict[str, Any]) -> None:
    assert len(page.numbers) > 250
    for value, path, text in page.numbers:
        exact = at(content, path)
        assert float(value) == exact, path
        shown = text.split()[0].replace(",", "").replace("−", "-")
        if path.endswith(("rank", "trial", "support", "images", "epochs")):
            assert int(shown) == exact
    assert {path.split("/")[1] for _, path, _ in page.numbers} >= {
        *("rows", "why", "winner", "refit", "audit", "suspects", "near_duplicates", "fronts", "ranked", "plan"),
    }


def shown_as(exact: float) -> set[str]:
    """Every text that the page may have of a number."""
    numbers = {words.number(name, exact) for name in ("accuracy", "log_loss", "ece")}
    texts = {words.duration(exact), words.milliseconds(exact), words.integer(exact), words.megabytes(exact)}
    texts |= {words.difference(name, exact) for name in ("accuracy", "log_loss")}
    texts |= {f"{exact:,}", words.compact(exact), f"{exact:+.2f}".replace("-", "−")}
    return numbers | {each.removesuffix(" %") for each in numbers} | texts


@pytest.mark.parametrize("options", [{"metric": "log_loss"}, {"groups": True}, {"metric": "macro_f1"}], ids=str)
def test_what_is_shown_of_a_number_is_that_number(
    make_study: Callable[..., Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    made = make_study(**options)
    path = report.write(made.folder, tmp_path / "reports", study=made.study)
    content = json.loads((path.parent / "leaderboard.json").read_text("utf-8"))
    numbers = Page(path.read_text("utf-8")).numbers
    assert len(numbers) > 200
    for value, pointer, text in numbers:
        assert float(value) == at(content, pointer), pointer
        assert text.replace("\xa0", " ") in shown_as(at(content, pointer)), pointer


def test_every_shown_text_is_of_its_number(page: Page, content: dict[str, Any]) -> None:
    for _, pointer, text in page.numbers:
        assert text.replace("\xa0", " ") in shown_as(at(content, pointer)), pointer


def test_numbers_are_rounded_as_everywhere(page: Page, content: dict[str, Any]) -> None:
    shown = {path: text for _, path, text in page.numbers}
    for i, row in enumerate(content["rows"]):
        assert shown[f"/rows/{i}/score"] == words.number("accuracy", row["score"])
        assert shown[f"/rows/{i}/latency_ms"] == words.milliseconds(row["latency_ms"])
        assert shown[f"/rows/{i}/train_seconds"] == words.duration(row["train_seconds"])
        low, high = row["ci95"]
        limits = f"{shown[f'/rows/{i}/ci95/0']} – {shown[f'/rows/{i}/ci95/1']} %"
        assert limits == words.bounds("accuracy", (low, high))
    for i, each in enumerate(content["why"]["backbones"]):
        assert shown[f"/why/backbones/{i}/median_score"] == words.number("accuracy", each["median_score"])


def test_every_sentence_is_that_of_the_json(page: Page, content: dict[str, Any]) -> None:
    assert {"/answer/0", "/answer/1", "/rules/0", "/suspects/note", "/plan/warnings/0"} <= set(page.sentences)
    assert {"/near_duplicates/note", "/near_duplicates/warning"} <= set(page.sentences)
    for path, text in page.sentences.items():
        assert plain(text) == at(content, path)


def test_no_number_comes_from_elsewhere(page: Page, content: dict[str, Any], textile: Any) -> None:
    """What is not marked is a text of the JSON, a length of its lists, a sum of its counts, or the template's own."""
    board = build(textile.folder, study=textile.study)
    known = {token for leaf in leaves(content) for token in tokens(str(leaf))}
    known |= {token for path in TEMPLATES.glob("*.html") for token in tokens(path.read_text())}
    for row in (*board.rows, *board.failures):
        known |= tokens(" ".join(words.describe(row.params)) + getattr(row, "label", ""))
    known |= tokens(words.duration(sum(content["why"]["stage_seconds"].values())))
    counts = content["audit"]["counts"]
    sums = [sum(by.values()) for by in counts.values()]
    for split in ("train", "validation", "test"):
        sums.append(sum(by[split] for by in counts.values()))
    known |= {str(each) for each in (*sums, sum(sums[: len(counts)]))}
    known |= {str(len(board.tied)), *tokens(" ".join(page.scripts["figures"]))}
    picture_facts = [f"{n} picture" for n in range(25)]
    for text in page.rest:
        if not any(fact in text for fact in picture_facts):
            assert tokens(plain(text)) <= known, text


def test_rows_for_the_script_are_those_of_the_json(page: Page, content: dict[str, Any]) -> None:
    rows = page.scripts["rows"]

    def cells(column: Any) -> list[Any]:
        if isinstance(column, list):
            return column
        codes = column["codes"] or [0] * rows["rows"]
        return [column["values"][code] for code in codes]

    assert rows["rows"] == len(content["rows"])
    for name, column in rows["values"].items():
        key = {"tied": "tied_with_best"}.get(name, name)
        assert cells(column) == [row[key] for row in content["rows"]]
    assert cells(rows["texts"]["score"]) == [words.number("accuracy", row["score"]) for row in content["rows"]]
    assert cells(rows["texts"]["bounds"]) == [words.bounds("accuracy", row["ci95"]) for row in content["rows"]]
    details = {each["name"]: cells(each["column"]) for each in rows["details"]}
    assert details["macro F1"] == [words.number("macro_f1", row["metrics"]["macro_f1"]) for row in content["rows"]]
    assert details["learning rate"] == [words.compact(row["params"]["learning_rate"]) for row in content["rows"]]
    assert page.scripts["curves"] == content["curves"]


def drawn(figure: dict[str, Any], *, mode: str = "markers") -> list[tuple[Any, Any]]:
    """The points of the traces of this mode."""
    traces = [each for each in figure["data"] if each.get("mode") == mode]
    return sorted(point for each in traces for point in zip(each["x"], each["y"], strict=True))


def percent(value: float) -> float:
    return round(100 * value, 4)


def test_figures_of_trials_draw_the_numbers_of_the_json(page: Page, content: dict[str, Any]) -> None:
    figures, rows = page.scripts["figures"], {row["trial"]: row for row in content["rows"]}
    assert drawn(figures["history"]) == sorted((trial, percent(row["score"])) for trial, row in rows.items())
    finished = {trial: percent(row["score"]) for trial, row in rows.items() if row["state"] == "COMPLETE"}
    for at_trial, best in drawn(figures["history"], mode="lines"):
        assert best == max(score for trial, score in finished.items() if trial <= at_trial)
    names = {row["backbone"]: words.short(row["backbone"]) for row in content["rows"]}
    assert drawn(figures["backbones"]) == sorted(
        (percent(row["score"]), names[row["backbone"]]) for row in content["rows"]
    )
    for trace in figures["curves"]["data"]:
        trial = trace["name"].partition(": trial ")[2]
        points = [(epoch, percent(value)) for epoch, value in content["curves"][trial]]
        assert list(zip(trace["x"], trace["y"], strict=True)) == points
    assert len(figures["curves"]["data"]) == len(content["curves"])


def test_pareto_figures_draw_the_numbers_of_the_json(page: Page, content: dict[str, Any]) -> None:
    figures, rows = page.scripts["figures"], {row["trial"]: row for row in content["rows"]}
    for front in content["fronts"]:
        cost, figure = front["cost"], figures[f"cost-{front['cost']}"]
        unit = 1e6 if cost == "model_parameters" else 1.0
        place = {trial: (round(row[cost] / unit, 4), percent(row["score"])) for trial, row in rows.items()}
        assert drawn(figure, mode="lines") == sorted(place[trial] for trial in front["trials"])
        shown, expected = [], []
        for trace in figure["data"][1:]:
            error = trace["error_y"]
            shown += zip(trace["x"], trace["y"], error["arrayminus"], error["array"], strict=True)
        for trial, row in rows.items():
            if row["state"] == "COMPLETE":
                low, high = row["ci95"]
                expected.append((*place[trial], percent(row["score"] - low), percent(high - row["score"])))
        assert sorted(shown) == sorted(expected)


def test_the_figure_of_importance_draws_the_numbers_of_the_json(page: Page, content: dict[str, Any]) -> None:
    bars, found = page.scripts["figures"]["importance"]["data"][0], content["why"]["importance"]["shares"]
    shares = {name.replace("_", " "): round(100 * share, 2) for name, share in found.items()}
    assert dict(zip(bars["y"], bars["x"], strict=True)) == shares


def test_figures_that_only_larger_studies_have_draw_what_they_are_given() -> None:
    first, few, last = ({"learning_rate": 0.75, "magnitude": 0.25}, 40), ({}, 3), ({"learning_rate": 1.0}, 20)
    made = {name: Importance(shares, n, 5, "") for name, (shares, n) in zip("abc", (first, few, last), strict=True)}
    found = {f"timm/{name}": made[name] for name in "ab"}
    assert plots.importances_by_backbone(found) is None  # one row is no comparison
    heat = plots.importances_by_backbone(found | {"timm/c": made["c"]})["data"][0]  # type: ignore[index]
    assert (heat["x"], heat["y"]) == (["learning rate", "magnitude"], ["a (40)", "c (20)"])
    assert heat["z"] == [[75.0, 25.0], [100.0, 0.0]]
    drawn = winner_plots.confusion([[3, 1], [0, 0]], ["x", "y"])["data"][0]
    assert (drawn["z"], drawn["customdata"]) == ([[75.0, 25.0], [0.0, 0.0]], [[3, 1], [0, 0]])


def test_figures_of_the_winner_draw_the_numbers_of_the_json(page: Page, content: dict[str, Any]) -> None:
    figures, won, laid = page.scripts["figures"], content["winner"], content["embedding_map"]
    for figure, keys, unit in (
        ("losses", ("train_loss", "log_loss"), 1.0),
        ("scores", ("accuracy", "balanced_accuracy", "macro_f1"), 100.0),
    ):
        for trace, key in zip(figures[figure]["data"], keys, strict=True):
            points = [(line["epoch"], round(unit * line[key], 4)) for line in won["epochs"]]
            assert list(zip(trace["x"], trace["y"], strict=True)) == points
    bins, told = won["reliability"], figures["reliability"]["data"][1]
    assert told["x"] == [round(100 * each["confidence"], 3) for each in bins]
    assert told["y"] == [round(100 * each["accuracy"], 3) for each in bins]
    assert told["text"] == [words.count(each["images"], "image") for each in bins]
    for name, end, sign in (("arrayminus", 0, -1), ("array", 1, 1)):
        limits = [round(100 * sign * (each["accuracy95"][end] - each["accuracy"]), 3) for each in bins]
        assert told["error_y"][name] == pytest.approx(limits)
    points = [trace for trace in figures["embedding"]["data"] if trace["name"] != "mistaken"]
    placed = [point for trace in points for point in zip(trace["x"], trace["y"], strict=True)]
    assert sorted(placed) == sorted(zip(laid["x"], laid["y"], strict=True))
    (rings,) = (trace for trace in figures["embedding"]["data"] if trace["name"] == "mistaken")
    wrong = [i for i, mistaken in enumerate(laid["mistaken"]) if mistaken]
    assert list(zip(rings["x"], rings["y"], strict=True)) == [(laid["x"][i], laid["y"][i]) for i in wrong]


def test_there_is_no_other_figure(page: Page) -> None:
    costs = {f"cost-{name}" for name in ("latency_ms", "model_parameters", "train_seconds")}
    of_trials = {"history", "curves", "backbones", "importance"}
    assert set(page.scripts["figures"]) == costs | of_trials | {"losses", "scores", "reliability", "embedding"}


def test_metrics_are_scikit_learns(content: dict[str, Any], textile: Any) -> None:
    won = content["winner"]
    logits, targets = textile.logits[won["trial"]], textile.targets
    expected = sklearn_scores(logits, targets)
    for name in ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss"):
        assert won["metrics"][name] == pytest.approx(expected[name], abs=1e-9)
    assert won["confusions"][-1]["counts"] == sk.confusion_matrix(targets, logits.argmax(1), labels=range(4)).tolist()


def test_json_is_what_its_schema_says(written: Path, content: dict[str, Any]) -> None:
    described = json.loads((written.parent / "leaderboard.schema.json").read_text("utf-8"))
    assert described == json.loads(schema())
    assert content["$schema"] == "leaderboard.schema.json"
    validator = jsonschema.Draft202012Validator
    validator.check_schema(described)
    jsonschema.validate(content, described, cls=validator)
    assert set(content) <= set(described["properties"])
    for broken in ({**content, "rows": [{"rank": "first"}]}, {**content, "counts": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, described, cls=validator)
    without = {name: value for name, value in content.items() if name != "metric"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(without, described, cls=validator)


def test_the_winners_scores_begin_with_what_it_won_by(content: dict[str, Any]) -> None:
    epochs = content["winner"]["epochs"]
    for metric, shown in (
        ("auroc", ["AUROC", "accuracy", "balanced accuracy", "macro F1"]),
        ("macro_f1", ["macro F1", "accuracy", "balanced accuracy"]),
        ("log_loss", ["accuracy", "balanced accuracy", "macro F1"]),
    ):
        figure = winner_plots.scores(epochs, metric)
        assert figure is not None
        assert [trace["name"] for trace in figure["data"]] == shown
