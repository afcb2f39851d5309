"""How well the time and the memory that trials take were foreseen."""

from __future__ import annotations

import statistics as stats
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from automl.search.study import backbone_of

__all__ = ["Foreseen", "foreseen"]


@dataclass(frozen=True)
class Foreseen:
    """Seconds of trials as predicted when they started, against those they took from their first line on (a warm worker
    takes a tenth of a second more, the first that Ray starts seconds): medians over `trials` trials.

    `error` is the median of |predicted - taken| / taken. `what` is a backbone, "heads on kept features", or "all". The
    same of the memory of training steps in MB, of those trials past the head that ran on a GPU, whose allocator knows
    its peak; None where none did.
    """

    what: str
    trials: int
    predicted_seconds: float
    taken_seconds: float
    error: float
    predicted_mb: float | None = None
    taken_mb: float | None = None
    memory_error: float | None = None


def foreseen(trials: Iterable[FrozenTrial]) -> tuple[Foreseen, ...]:
    """Compare for every backbone, for heads on kept features, and for all trials together.

    Of trials that were stopped at a rung, the epochs that they ran count. Those that go on with another are left out.
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    memory: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for trial in trials:
        attrs = trial.user_attrs
        known = {"predicted_seconds", "startup_seconds", "epoch_seconds", "epochs"} <= attrs.keys()
        if not known or "resumes" in attrs or not trial.state.is_finished():
            continue
        start, epoch = attrs["predicted_seconds"]
        seconds = start + attrs["epochs"] * epoch, attrs["startup_seconds"] + attrs["epochs"] * attrs["epoch_seconds"]
        kind = "heads on kept features" if attrs.get("from_embeddings") else str(backbone_of(trial) or "all")
        for what in dict.fromkeys(("all", kind)):
            found[what].append(seconds)
            if attrs.get("predicted_mb") and attrs.get("peak_memory_mb") and attrs.get("device") not in (None, "cpu"):
                memory[what].append((attrs["predicted_mb"], attrs["peak_memory_mb"]))
    return tuple(
        Foreseen(what, len(pairs), *_medians(pairs), *(_medians(memory[what]) if what in memory else ()))
        for what, pairs in found.items()
    )


def _medians(pairs: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the medians of what was predicted, what was taken, and the relative error."""
    return (
        stats.median(predicted for predicted, _ in pairs),
        stats.median(taken for _, taken in pairs),
        stats.median(abs(predicted - taken) / max(taken, 1e-9) for predicted, taken in pairs),
    )
