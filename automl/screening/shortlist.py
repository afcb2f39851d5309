"""Which of the screened backbones the search tries, each with its reason.

The shortlist is what the person pinned and the union of the best by prior (published ImageNet accuracy, else the order
of the search space file, which its author chose), by linear probe and by k-NN, as many as the budget can train. No
probe decides alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automl.screening.imagenet_top1 import by_prior

__all__ = ["Candidate", "Choice", "shortlist"]


@dataclass(frozen=True)
class Candidate:
    """A screened backbone: cross-validated accuracies 0…1 of the probes, seconds that one full trial will take, its
    published ImageNet top-1 0…1 (None: there is none), whether its weights are pretrained and whether it is pinned."""

    backbone: str
    knn_accuracy: float
    linear_accuracy: float
    trial_seconds: float
    prior: float | None = None
    pretrained: bool = True
    pinned: bool = False


@dataclass(frozen=True)
class Choice:
    """Whether a backbone is searched, and why. `place`: how early it was chosen, from 0 on; who was not comes last."""

    backbone: str
    included: bool
    reason: str
    place: int = 0


def shortlist(candidates: Sequence[Candidate], *, search_seconds: float, at_least: int = 3) -> list[Choice]:
    """Decide for every candidate, given in the order of the search space.

    What is pinned is kept. Of the others, as many as the budget can train twice each (once everything, once mostly
    frozen), and at least `at_least` with the pinned ones; they are taken in turn from the three rankings.
    """
    published = any(each.prior is not None and each.pretrained for each in candidates)
    rankings = {
        "ImageNet top-1" if published else "search space order": by_prior(candidates),
        "linear probe": sorted(candidates, key=lambda each: -each.linear_accuracy),
        "k-NN": sorted(candidates, key=lambda each: -each.knn_accuracy),
    }
    chosen = {each.backbone: "pinned in the search space" for each in candidates if each.pinned}
    spent = sum(2 * each.trial_seconds for each in candidates if each.pinned)
    for place in range(len(candidates)):
        for name, ranking in rankings.items():
            candidate = ranking[place]
            if candidate.backbone in chosen:
                continue
            affordable = spent + 2 * candidate.trial_seconds <= search_seconds
            if affordable or len(chosen) < at_least:
                chosen[candidate.backbone] = f"number {place + 1} by {name}"
                if not affordable:
                    dear = f"two trials of {candidate.trial_seconds:.0f} s do not fit"
                    chosen[candidate.backbone] += f"; kept as one of {at_least}, though {dear}"
                spent += 2 * candidate.trial_seconds
    places = {backbone: place for place, backbone in enumerate(chosen)}
    return [
        Choice(each.backbone, True, chosen[each.backbone], places[each.backbone])
        if each.backbone in chosen
        else Choice(each.backbone, False, _excluded(each, rankings), len(chosen))
        for each in candidates
    ]


def _excluded(candidate: Candidate, rankings: dict[str, list[Candidate]]) -> str:
    places = [f"{ranking.index(candidate) + 1} by {name}" for name, ranking in rankings.items()]
    cost = f"two trials of about {candidate.trial_seconds:.0f} s no longer fit the budget after better candidates"
    return f"number {', '.join(places)}: {cost}"
