"""Filters of the leaderboard: only trials whose model is quick and small enough for where it will run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from automl.ranking import words
from automl.ranking.ranks import is_ranked, superseded
from automl.search.snapshot import view

__all__ = ["Limits", "Within", "limited"]

_MEASURES = {"max_latency_ms": "latency_ms", "max_parameters": "model_parameters", "max_memory_mb": "peak_memory_mb"}
_LEAST = {
    "latency_ms": ("the quickest", words.milliseconds),
    "model_parameters": ("the smallest", lambda value: f"{words.integer(value)} parameters"),
    "peak_memory_mb": ("the least memory", words.megabytes),
}


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

    @property
    def options(self) -> str:
        """As options of a command; empty without limits."""
        given = [(name, value) for name, value in asdict(self).items() if value is not None]
        return "".join(f" --{name.replace('_', '-')} {value:.12g}" for name, value in given)

    def allow(self, attrs: Mapping[str, Any]) -> bool:
        """Whether a trial with these user attributes keeps within the limits; what was not measured does not."""
        for limit, measure in _MEASURES.items():
            most, value = getattr(self, limit), attrs.get(measure)
            if most is not None and (value is None or not value <= most):
                return False
        return True


@dataclass(frozen=True)
class Within:
    """What a leaderboard was filtered by, the `whole` study, and how many ranked trials of it were `excluded`."""

    limits: Limits
    whole: optuna.Study
    excluded: int = 0

    def nothing_left(self) -> str:
        """Say that no trial keeps within the limits, and how near one comes to each."""
        ranked = [each.user_attrs for each in self.whole.get_trials(deepcopy=False) if is_ranked(each)]
        least = []
        for limit, measure in _MEASURES.items():
            if getattr(self.limits, limit) is not None:
                known = [attrs[measure] for attrs in ranked if attrs.get(measure) is not None]
                name, text = _LEAST[measure]
                least.append(f"{name} is {text(min(known))}" if known else f"{name} was not measured")
        return f"None of {words.count(self.excluded, 'trial')} keeps within {self.limits}: {', '.join(least)}."


def limited(study: optuna.Study, limits: Limits) -> tuple[optuna.Study, Within]:
    """Return `study` without the trials that exceed `limits`, and what was left out.

    Best, ties and intervals of a leaderboard built from it answer the question among what is left.
    """
    if not limits:
        return study, Within(limits, study)
    trials = study.get_trials(deepcopy=False)
    kept = [trial for trial in trials if not is_ranked(trial) or limits.allow(trial.user_attrs)]
    hidden = superseded(trials)
    alone = hidden - superseded(kept)  # attempts whose continuation, which stands for them, exceeds the limits
    kept = [trial for trial in kept if trial.number not in alone]
    left = {trial.number for trial in kept}
    excluded = sum(trial.number not in hidden and trial.number not in left for trial in trials)
    return view(study, kept), Within(limits, study, excluded)
