"""Early stopping: asynchronous successive halving by promotion (ASHA, arXiv 1810.05934), rungs per group of trials.

Every trial belongs to two groups: how much of it trains (a frozen backbone starts high and flattens, a trainable one
starts low and overtakes), and within that its backbone (some warm up more slowly than others). The first of each wide
group runs whole, so that there is an answer soon; the first of each narrow group passes the first rung, where another
backbone that warms up sooner says nothing about it. Each later one goes on from a rung if it is among the best
``1/reduction`` of the narrow group there, or half of that share of the wide one. If not it pauses: its checkpoint
stays, and as more trials reach the rung, the best of those that wait are resumed. So an early comparison that went the
wrong way is not the end of a slow warmer. What this was compared with: `benchmarks/curves/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable

__all__ = ["Rungs", "groups_of"]

WIDER = 2  # times fewer of a wide group go on
IN_LINE = 5  # places behind the best share, up to which a paused trial is kept for later

Groups = tuple[Hashable, ...]


def groups_of(backbone: str, freeze_depth: float) -> tuple[str, tuple[str, str]]:
    """Return the groups in which a trial is compared at rungs, the widest first."""
    kind = "head only" if freeze_depth == 1.0 else "mostly frozen" if freeze_depth > 0.5 else "mostly trainable"
    return kind, (backbone, kind)


class Rungs:
    """Decides at each rung which trials go on, which pause, and which of those are resumed.

    A trial is any number that stays the same when it is resumed or tried again. Of equal values the earlier number is
    the better one.
    """

    def __init__(self, *, grace_epochs: int, reduction: int, max_epochs: int, maximize: bool) -> None:
        self.epochs: list[int] = []
        epoch = grace_epochs
        while 3 * epoch <= 2 * max_epochs:  # one in the last third would save little
            self.epochs.append(epoch)
            epoch *= reduction
        self._last, self._reduction, self._sign = max_epochs, reduction, 1.0 if maximize else -1.0
        self._values: defaultdict[tuple[Hashable, int], dict[int, float]] = defaultdict(dict)
        self._paused: dict[int, tuple[Groups, int]] = {}

    def goes_on(self, trial: int, groups: Groups, epoch: int, value: float) -> bool:
        """Record `value` of `trial` at `epoch` and return whether it goes on, or pauses; True between rungs."""
        self._paused.pop(trial, None)
        if epoch not in self.epochs:
            return True
        for group in groups:
            self._values[group, epoch][trial] = self._sign * value
        self._paused[trial] = groups, epoch
        if any(trial in self._order(group, epoch)[: self._share(group, groups, epoch)] for group in groups):
            self.resume(trial)
        return trial not in self._paused

    def resume(self, trial: int) -> None:
        """Take `trial` from those that pause: it runs again, or ended otherwise."""
        self._paused.pop(trial, None)

    def resumable(self) -> list[int]:
        """Return the paused trials that are among the best of a rung by now, the most advanced first."""
        return self._most_advanced(self._places(lambda share: slice(0, share)))

    def out_of_line(self) -> list[int]:
        """Return the paused trials that so many others have overtaken that they need not be kept."""
        return sorted(set(self._paused) - set(self._places(lambda share: slice(0, share + IN_LINE))))

    def epochs_to_next(self, trial: int) -> int:
        """Return how many epochs a paused trial is from where it is judged next, or ends."""
        here = self._paused[trial][1]
        return next((each for each in self.epochs if each > here), self._last) - here

    def _places(self, part: Callable[[int], slice]) -> set[int]:
        """Return who pauses in the `part` of a rung's order that depends on how many go on there."""
        rungs = {(group, groups, epoch) for groups, epoch in self._paused.values() for group in groups}
        there = [
            (epoch, trial)
            for group, groups, epoch in rungs
            for trial in self._order(group, epoch)[part(self._share(group, groups, epoch))]
        ]
        return {trial for epoch, trial in there if trial in self._paused and self._paused[trial][1] == epoch}

    def _most_advanced(self, trials: Iterable[int]) -> list[int]:
        def key(trial: int) -> tuple[int, float, int]:
            groups, epoch = self._paused[trial]
            return -epoch, -self._values[groups[0], epoch][trial], trial

        return sorted(trials, key=key)

    def _share(self, group: Hashable, groups: Groups, epoch: int) -> int:
        """How many of `group` go on at the rung `epoch`."""
        number = len(self._values[group, epoch])
        least = 1 if number == 1 and (group == groups[0] or epoch == self.epochs[0]) else 0
        return max(least, number // (self._reduction if group == groups[-1] else WIDER * self._reduction))

    def _order(self, group: Hashable, epoch: int) -> list[int]:
        values = self._values[group, epoch]
        return sorted(values, key=lambda trial: (-values[trial], trial))
