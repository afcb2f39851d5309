"""Which of the screened backbones the search tries, each with its reason.

The shortlist is the union of the best by prior (the order of the search space file, which its author chose), by k-NN
and by linear probe, as many as the budget can train. No probe decides alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "Choice", "shortlist"]


@dataclass(frozen=True)
class Candidate:
    """A screened backbone: probe accuracies 0…1 on validation images, seconds that one full trial will take."""

    backbone: str
    knn_accuracy: float
    linear_accuracy: float
    trial_seconds: float


@dataclass(frozen=True)
class Choice:
    """Whether a backbone is searched, and why."""

    backbone: str
    included: bool
    reason: str


def shortlist(candidates: Sequence[Candidate], *, search_seconds: float, at_least: int = 3) -> list[Choice]:
    """Decide for every candidate, in the order given, which is the prior.

    As many backbones are kept as the budget can train twice each (once everything, once mostly frozen), and at least
    `at_least`; they are taken in turn from the three rankings.
    """
    rankings: Mapping[str, list[Candidate]] = {
        "search space order": list(candidates),
        "linear probe": sorted(candidates, key=lambda each: -each.linear_accuracy),
        "k-NN": sorted(candidates, key=lambda each: -each.knn_accuracy),
    }
    chosen: dict[str, str] = {}
    spent = 0.0
    for place in range(len(candidates)):
        for name, ranking in rankings.items():
            candidate = ranking[place]
            if candidate.backbone in chosen:
                continue
            affordable = spent + 2 * candidate.trial_seconds <= search_seconds
            if affordable or len(chosen) < at_least:
                chosen[candidate.backbone] = f"number {place + 1} by {name}"
                spent += 2 * candidate.trial_seconds
    return [
        Choice(
            candidate.backbone,
            candidate.backbone in chosen,
            chosen.get(
                candidate.backbone,
                f"two trials of about {candidate.trial_seconds:.0f} s no longer fit the budget after better candidates",
            ),
        )
        for candidate in candidates
    ]
