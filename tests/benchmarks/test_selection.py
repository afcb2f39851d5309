from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks.selection import show

RESULTS = Path(show.__file__).parent / "results"


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    names = ("intervals", "groups", "few groups", "confirmation", "repeats", "metrics", "studies")
    return {name: pd.read_csv(RESULTS / f"{name.replace(' ', '-')}.csv") for name in names}


def targets(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    studies = tables["studies"]
    large, apart = studies["naive bias"] > show.LARGE, studies["population"] == show.INHERITED
    return show._targets(tables, large, apart).set_index("what")


def test_what_is_clearly_out_is_more_than_few_studies_explain(tables: dict[str, pd.DataFrame]) -> None:
    groups, what = tables["groups"], "the same, where images come in groups"
    for coverage, studies, out, clearly in (
        (0.90, 30, True, False),
        (0.90, 3000, True, True),
        (0.95, 30, False, False),
    ):
        groups["coverage"], groups["studies"] = coverage, studies
        found = targets(tables).loc[what]
        assert (found["below"], found["clearly out"]) == (24 * out, 24 * clearly)


def test_a_bias_is_clearly_out_where_its_standard_error_does_not_explain_it(tables: dict[str, pd.DataFrame]) -> None:
    confirmation = tables["confirmation"]
    confirmation["confirmed bias"], confirmation["studies"] = 0.4, 100
    for sd, clearly in ((0.1, 54), (1.0, 0)):
        confirmation["confirmed bias sd"] = sd
        found = targets(tables).loc["bias of the winner after training again"]
        assert (found["above"], found["clearly out"]) == (54, clearly)


def test_the_published_tables_are_those_of_the_files(tables: dict[str, pd.DataFrame]) -> None:
    assert (RESULTS / "selection.md").read_text() == show.summary(tables, quick=False)
