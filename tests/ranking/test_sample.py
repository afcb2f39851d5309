"""The sample that is committed is a report as the program writes it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from automl.ranking.facts import schema

SAMPLE = Path(__file__).parents[2] / "reports" / "sample"


def test_the_sample_keeps_to_the_schema_of_today_which_lies_beside_it() -> None:
    content = json.loads((SAMPLE / "leaderboard.json").read_text("utf-8"))
    described = json.loads(schema())
    jsonschema.validate(content, described)
    assert json.loads((SAMPLE / "leaderboard.schema.json").read_text("utf-8")) == described
    assert content["rows"][0]["tied_with_best"]
    assert content["refit"]["test"]["accuracy"] > 0.9
