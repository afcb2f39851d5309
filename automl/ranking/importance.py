"""Which parameters separate the best trials from the rest (PED-ANOVA), over all backbones and within each."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from automl.ranking.ranks import superseded
from automl.search.snapshot import view

__all__ = ["MIN_TRIALS", "Importance", "importance", "importance_by_backbone"]

MIN_TRIALS = 10
_TOP = 5


@dataclass(frozen=True)
class Importance:
    """Shares by parameter, largest first, summing to 1; empty where they cannot be told, and `note` says why."""

    shares: dict[str, float]
    trials: int
    top: int
    note: str


def importance(study: optuna.Study) -> Importance:
    """Return how much each parameter's choice separates the best finished trials from all finished trials.

    PED-ANOVA (S. Watanabe, A. Bansal, F. Hutter, IJCAI 2023, https://arxiv.org/abs/2304.10255), which is Optuna's
    default. Optuna advises at least 5 trials above the target quantile, so the quantile is the paper's 0.1 or as much
    as holds 5 trials, and fewer than 10 finished trials give no answer.
    """
    return _importance(study, _finished(study), skip=())


def importance_by_backbone(study: optuna.Study, most: int | None = None) -> dict[str, Importance]:
    """Return the importance of the other parameters among the trials of each backbone, the most tried one first; of so
    many backbones at `most`."""
    trials: defaultdict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in _finished(study):
        if "backbone" in trial.params:
            trials[str(trial.params["backbone"])].append(trial)
    tried = sorted(trials, key=lambda name: (-len(trials[name]), name))
    return {name: _importance(study, trials[name], skip=("backbone",)) for name in tried[:most]}


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that finished; of one that was trained on, what came of it last."""
    trials = study.get_trials(deepcopy=False)
    hidden = superseded(trials)
    return [each for each in trials if each.state == TrialState.COMPLETE and each.number not in hidden]


def _importance(study: optuna.Study, trials: Sequence[FrozenTrial], skip: Sequence[str]) -> Importance:
    n = len(trials)
    if n < MIN_TRIALS:
        return Importance({}, n, 0, f"Too few finished trials to tell: {n} of at least {MIN_TRIALS}.")
    with _without_sklearn():
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, _TOP / n))
    shares = get_param_importances(view(study, trials), evaluator=evaluator)
    shares = {name: share for name, share in shares.items() if math.isfinite(share) and name not in skip}
    total = math.fsum(shares.values())
    shares = {name: share / total for name, share in shares.items()} if total > 0 else {}
    top = max(_TOP, -(-n // 10))
    if not shares or max(shares.values()) - min(shares.values()) < 1e-12 < len(shares) - 1:
        return Importance({}, n, top, "No parameter separates the best finished trials from the others.")
    rough = " With so few trials this is a hint, not a finding." if n < 30 else ""
    return Importance(
        shares, n, top, f"How far the choices of the best {top} differ from those of all {n} finished trials.{rough}"
    )


@contextmanager
def _without_sklearn() -> Iterator[None]:
    """Let Optuna's importance do without scikit-learn, as it can: only its other evaluators need it, and importing it
    takes a second, half of what `automl leaderboard` may take."""
    name = "sklearn.ensemble"
    if name in sys.modules or "optuna.importance" in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
