"""Filters of the leaderboard: only trials whose model is quick and small enough for where it will run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from automl.ranking import words
from automl.ranking.ranks import is_ranked
from automl.search.snapshot import view

__all__ = ["Limits", "limited"]

_MEASURES = {"max_latency_ms": "latency_ms", "max_parameters": "model_parameters", "max_memory_mb": "peak_memory_mb"}


@dataclass(frozen=True)
class Limits:
    """What a model may cost at most: milliseconds for one image, parameters, MB (2**20 bytes) at the peak of training.

    None: no limit.
    """

    max_latency_ms: float | None = None
    max_parameters: int | None = None
    max_memory_mb: float | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in asdict(self).values())

    def __str__(self) -> str:
        texts = (
            f"at most {words.milliseconds(self.max_latency_ms)} an image",
            f"at most {words.integer(self.max_parameters)} parameters",
            f"at most {words.megabytes(self.max_memory_mb)} in training",
        )
        given = [text for text, value in zip(texts, asdict(self).values(), strict=True) if value is not None]
        return ", ".join(given)

    def allow(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a trial with these user attributes keeps within the limits; what was not measured does not."""
        for limit, measure in _MEASURES.items():
            most, value = getattr(self, limit), attrs.get(measure)
            if most is not None and (value is None or not value <= most):
                return False
        return True


def limited(study: optuna.Study, limits: Limits) -> tuple[optuna.Study, int]:
    """Return `study` without the trials that exceed `limits`, and how many these are.

    Best, ties and intervals of a leaderboard built from it answer the question among what is left.
    """
    if not limits:
        return study, 0
    trials = study.get_trials(deepcopy=False)
    kept = [trial for trial in trials if not is_ranked(trial) or limits.allow(trial.user_attrs)]
    return view(study, kept), len(trials) - len(kept)
