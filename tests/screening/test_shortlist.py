from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.screening import Candidate, Choice, shortlist


def candidate(name: str, knn: float, linear: float, seconds: float = 10.0, **known: Any) -> Candidate:
    return Candidate(name, knn, linear, seconds, **known)


CANDIDATES = [
    candidate("prior", 0.1, 0.1),
    candidate("middle", 0.5, 0.5),
    candidate("linear", 0.2, 0.9),
    candidate("knn", 0.9, 0.2),
]


def included(choices: list[Choice]) -> list[str]:
    return [choice.backbone for choice in choices if choice.included]


def test_the_best_of_each_ranking_come_first() -> None:
    choices = shortlist(CANDIDATES, search_seconds=60)
    assert included(choices) == ["prior", "linear", "knn"]
    assert [choice.reason for choice in choices] == [
        "number 1 by search space order",
        "number 2 by search space order, 2 by linear probe, 2 by k-NN: two trials of about 10 s no longer fit the "
        "budget after better candidates",
        "number 1 by linear probe",
        "number 1 by k-NN",
    ]


def test_a_published_figure_goes_before_the_order_of_the_space() -> None:
    published = [replace(each, prior=value) for each, value in zip(CANDIDATES, (0.7, 0.9, 0.8, 0.6), strict=True)]
    choices = shortlist(published, search_seconds=60)
    assert included(choices) == ["middle", "linear", "knn"]
    assert choices[1].reason == "number 1 by ImageNet top-1"
    assert choices[0].reason.startswith("number 3 by ImageNet top-1, 4 by linear probe, 4 by k-NN: two trials")


def test_what_is_pinned_is_kept_and_paid_for() -> None:
    pinned = [replace(each, pinned=each.backbone == "middle") for each in CANDIDATES]
    assert included(shortlist(pinned, search_seconds=40, at_least=1)) == ["prior", "middle"]
    kept = shortlist(pinned, search_seconds=0, at_least=1)
    assert included(kept) == ["middle"]
    assert kept[1].reason == "pinned in the search space"
    dear = [replace(each, pinned=True, trial_seconds=1e6) for each in CANDIDATES]
    assert len(included(shortlist(dear, search_seconds=1))) == 4


def test_everything_that_fits_is_kept() -> None:
    assert included(shortlist(CANDIDATES, search_seconds=80)) == [each.backbone for each in CANDIDATES]


@pytest.mark.parametrize(("at_least", "kept"), [(1, ["prior"]), (2, ["prior", "linear"]), (9, None)])
def test_some_are_kept_whatever_the_budget(at_least: int, kept: list[str] | None) -> None:
    choices = shortlist(CANDIDATES, search_seconds=0, at_least=at_least)
    assert included(choices) == (kept or [each.backbone for each in CANDIDATES])
    assert all(("two trials of 10 s do not fit" in each.reason) == each.included for each in choices)
    assert not any("do not fit" in each.reason for each in shortlist(CANDIDATES, search_seconds=80))


def test_a_cheap_one_is_kept_where_a_dear_one_does_not_fit() -> None:
    several = [candidate("a", 0.9, 0.9), candidate("dear", 0.8, 0.8, 1000), candidate("cheap", 0.7, 0.7, 1)]
    assert included(shortlist(several, search_seconds=50, at_least=1)) == ["a", "cheap"]


def test_one_candidate_that_leads_everywhere_counts_once() -> None:
    several = [candidate("best", 0.9, 0.9), candidate("second", 0.8, 0.8), candidate("third", 0.7, 0.7)]
    assert included(shortlist(several, search_seconds=40, at_least=2)) == ["best", "second"]


def test_nothing_to_decide() -> None:
    assert shortlist([], search_seconds=100) == []


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 100)), max_size=12),
    st.floats(0, 1000),
    st.integers(0, 4),
)
def test_every_candidate_is_decided_once_in_order_and_the_budget_holds(
    measured: list[tuple[float, float, float]], seconds: float, at_least: int
) -> None:
    candidates = [candidate(f"b{number}", *values) for number, values in enumerate(measured)]
    choices = shortlist(candidates, search_seconds=seconds, at_least=at_least)
    assert [choice.backbone for choice in choices] == [each.backbone for each in candidates]
    assert all(choice.reason for choice in choices)
    kept = [each for each, choice in zip(candidates, choices, strict=True) if choice.included]
    assert len(kept) >= min(at_least, len(candidates))
    if len(kept) > at_least:
        assert 2 * sum(each.trial_seconds for each in kept) <= seconds + 1e-6
    left = [each.trial_seconds for each, choice in zip(candidates, choices, strict=True) if not choice.included]
    spent = 2 * sum(each.trial_seconds for each in kept)
    assert all(spent + 2 * each > seconds - 1e-6 for each in left)
