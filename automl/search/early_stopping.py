"""Early stopping within a study: whose turn it is at the rungs, rebuilt from the record, and which checkpoints stay."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from optuna.trial import FrozenTrial

from automl.config import SearchConfig
from automl.paths import StudyFolder
from automl.search.budget import CostModel
from automl.search.rungs import Rungs, groups_of
from automl.search.study import StudyRecord

__all__ = ["EarlyStopping", "root_of"]


class EarlyStopping:
    """Compares trials at the rungs. A trial is known by its `root`, the number of its first attempt."""

    def __init__(self, record: StudyRecord, folder: StudyFolder, config: SearchConfig) -> None:
        self._record, self._folder = record, folder
        self._wanted = config.search.scheduler != "none"
        self._rungs = Rungs(
            grace_epochs=config.search.grace_epochs,
            reduction=config.search.reduction,
            max_epochs=config.training.epochs,
            maximize=record.maximize,
        )
        self._attempts: dict[int, int] = {}  # root → number of the latest attempt

    def take_up(self, frozen: FrozenTrial, params: Mapping[str, Any]) -> None:
        """Learn what `frozen`, of complete `params`, reached before this driver began: by the whole schedule, since one
        that was shortened for want of time reaches more, sooner. Trials come in their order."""
        root, shortened = root_of(frozen), frozen.user_attrs.get("shortened", [])
        self.starts(root, frozen.number)
        for epoch, value in sorted(frozen.intermediate_values.items()):
            if epoch not in shortened:
                self.goes_on(root, params, epoch, value)
        if frozen.user_attrs.get("reason") != "paused" or not self._folder.trial(frozen.number).checkpoint.exists():
            self._rungs.resume(root)

    def starts(self, root: int, number: int) -> None:
        """Trial `number` is the latest attempt at `root`, which pauses no longer."""
        self._attempts[root] = number
        self._rungs.resume(root)

    def goes_on(self, root: int, params: Mapping[str, Any], epoch: int, value: float) -> bool:
        """Record `value` after `epoch` and return whether the trial goes on. It always does on cached features, where a
        trial takes seconds in all, and where an earlier study has trained it to its end and it was among the best: an
        epoch says less."""
        if not self._wanted or CostModel.is_head_only(params):
            return True
        goes_on = self._rungs.goes_on(root, _groups(params), epoch, value)
        if not goes_on and self._record.trials()[root].user_attrs.get("origin") == "warm start":
            self._rungs.resume(root)
            return True
        return goes_on

    def resumable(self, running: Iterable[int], fits: Callable[[Mapping[str, Any], int], bool]) -> FrozenTrial | None:
        """Return the paused trial to resume before anything new starts, if there is one.

        Args:
            running: Roots of what runs: these may have been stopped and not have ended yet.
            fits: Whether there is time to train parameters for a number of epochs.
        """
        busy = set(running)
        for root in self._rungs.resumable():
            paused = self._latest(root)
            if root not in busy and fits(paused.params, self._rungs.epochs_to_next(root)):
                return paused
        return None

    def resume(self, paused: FrozenTrial) -> None:
        """Let what `resumable` returned be asked for next."""
        self._rungs.resume(root_of(paused))
        self._record.resume(paused.number)

    def has_checkpoint(self, frozen: FrozenTrial) -> bool:
        """Whether `frozen` can be gone on with."""
        return self._folder.trial(frozen.number).checkpoint.exists()

    def let_go(self) -> None:
        """Delete the checkpoints of paused trials that will hardly be resumed."""
        for root in self._rungs.out_of_line():
            self._rungs.resume(root)
            self._folder.trial(self._attempts[root]).checkpoint.unlink(missing_ok=True)

    def _latest(self, root: int) -> FrozenTrial:
        return self._record.trials()[self._attempts[root]]


def root_of(trial: FrozenTrial) -> int:
    """Return the number of the first attempt at what `trial` tries."""
    return int(trial.user_attrs.get("root", trial.number))


def _groups(params: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return groups_of(params["backbone"], float(params["freeze_depth"]))
