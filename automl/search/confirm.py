"""One confirmation run: a trial's configuration trained again, with another seed and on another split."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl.paths import StudyFolder
from automl.search.spec import TrialSpec
from automl.search.trial import load_dataset, run_trial
from automl.search.watch import watched

__all__ = ["ConfirmationRun", "confirm_on_worker"]


@dataclass(frozen=True)
class ConfirmationRun:
    """The `run`-th time, from 1 on, that `trial` is trained again, and the seconds of silence after which it is ended.

    `spec` has the run's own seed; all trials of a run share the split that `split_seed` draws.
    """

    trial: int
    run: int
    spec: TrialSpec
    split_seed: int
    hang_after: float

    @classmethod
    def of(cls, trial: int, run: int, spec: TrialSpec, *, seed: int, hang_after: float) -> ConfirmationRun:
        """Return the run with the seeds that follow from the search's `seed`."""
        drawn = [np.random.SeedSequence(each).generate_state(1)[0] for each in ([seed, trial, run], [seed, 0, run])]
        return cls(trial, run, replace(spec, seed=int(drawn[0])), int(drawn[1]), hang_after)


def confirm_on_worker(root: str, wanted: ConfirmationRun) -> dict[str, Any]:
    """Train, leave the validation logits in the run's folder, and return what is recorded of it, as JSON values.

    A run that was interrupted goes on from its checkpoint.

    Raises:
        FloatingPointError: It diverged.
        DataError: There is no other split that keeps groups together.
    """
    study = StudyFolder(Path(root))
    folder = study.confirmation(wanted.trial, wanted.run)
    train, validation = load_dataset(study).redrawn(wanted.split_seed)
    with watched(folder.log, wanted.hang_after, lambda facts: None) as report:
        outcome = run_trial(
            wanted.spec,
            study,
            folder,
            train_rows=train,
            validation_rows=validation,
            keep_weights=False,
            report=report,
        )
    if outcome.reason != "complete":
        raise FloatingPointError(f"{outcome.reason} after {outcome.epochs} epochs")
    last = json.loads(folder.metrics.read_text().splitlines()[-1])
    folder.checkpoint.unlink(missing_ok=True)
    return {
        "trial": wanted.trial,
        "run": wanted.run,
        "score": last[wanted.spec.metric],
        "epochs": outcome.epochs,
        "seconds": round(outcome.seconds, 1),
        "train_images": len(train),
        "validation_images": len(validation),
    }
