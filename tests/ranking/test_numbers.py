"""Every number that the page shows is the one in leaderboard.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from sklearn import metrics as sk

from automl.ranking import words
from automl.ranking.facts import schema
from automl.ranking.leaderboard import build
from tests.ranking.conftest import sklearn_scores
from tests.ranking.html import Page, plain, tokens

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


def test_figures_draw_the_numbers_of_the_json(page: Page, content: dict[str, Any]) -> None:
    figures = page.scripts["figures"]
    drawn = {
        (x, y) for trace in figures["history"]["data"] if trace["mode"] == "markers"
        for x, y in zip(trace["x"], trace["y"], strict=True)
    }  # fmt: skip
    assert drawn == {(row["trial"], round(100 * row["score"], 4)) for row in content["rows"]}
    for front in content["fronts"]:
        line = figures[f"cost-{front['cost']}"]["data"][0]
        rows = {row["trial"]: row for row in content["rows"]}
        assert line["y"] == [round(100 * rows[trial]["score"], 4) for trial in front["trials"]]
    bins = content["winner"]["reliability"]
    assert figures["reliability"]["data"][1]["y"] == [round(100 * each["accuracy"], 3) for each in bins]
    laid = content["embedding_map"]
    points = [trace for trace in figures["embedding"]["data"] if trace["name"] != "mistaken"]
    assert sorted(x for trace in points for x in trace["x"]) == sorted(laid["x"])


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
