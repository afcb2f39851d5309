"""Early-stopping rules for `replay_schedulers.py`: the search's own, ray.tune's, published ones, and ideas."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from functools import partial
from typing import Protocol

import numpy as np
from scipy.stats import norm

from automl.search.rungs import Rungs, groups_of
from benchmarks.curves.recorded import VALIDATION_IMAGES, Curve

Group = Callable[[Curve], Hashable]


class Rule(Protocol):
    """Says after each epoch whether a trial goes on. `value` is to be maximised."""

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool: ...


def everything(curve: Curve) -> Hashable:
    return None


def backbone(curve: Curve) -> Hashable:
    return curve.params["backbone"]


def kind(curve: Curve) -> Hashable:
    return groups_of(curve.params["backbone"], curve.params["freeze_depth"])[0]


def both(curve: Curve) -> Hashable:
    return groups_of(curve.params["backbone"], curve.params["freeze_depth"])[1]


def rungs(epochs: int, grace: int, reduction: int) -> list[int]:
    return Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=True).epochs


class Never:
    """No early stopping."""

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        return True


class Asha:
    """Stops what is below the best 1/reduction of those that reached the rung before, as ray.tune's ASHAScheduler does
    with one group for everything; nothing is resumed."""

    def __init__(self, epochs: int, grace: int, reduction: int, group: Group) -> None:
        self.rungs, self.top, self.group = rungs(epochs, grace, reduction), 100 * (1 - 1 / reduction), group
        self.values: dict[Hashable, list[float]] = defaultdict(list)

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        if epoch not in self.rungs:
            return True
        others = self.values[self.group(curve), epoch]
        cutoff = self.cutoff(others)
        others.append(value)
        return value >= cutoff

    def cutoff(self, others: list[float]) -> float:
        return float(np.percentile(others, self.top)) if others else -np.inf


class Search:
    """The search's own rule, `automl.search.rungs.Rungs`, in any groups, the widest first."""

    def __init__(self, epochs: int, grace: int, reduction: int, *groups: Group) -> None:
        self.rungs = Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=True)
        self.groups = groups

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        groups = tuple(group(curve) for group in self.groups)
        return self.rungs.goes_on(trial, groups, epoch, value)

    def promote(self, curves: list[Curve]) -> int | None:
        for trial in self.rungs.out_of_line():
            self.rungs.resume(trial)
        for trial in self.rungs.resumable()[:1]:
            self.rungs.resume(trial)
            return trial
        return None


class Margin(Asha):
    """ASHA that stops a trial only if it is below the cutoff by more than the noise of the validation accuracy."""

    def cutoff(self, others: list[float]) -> float:
        cutoff = float(np.percentile(others, self.top)) if others else 0.0
        return float(cutoff - np.sqrt(2 * cutoff * (1 - cutoff) / VALIDATION_IMAGES))


class Reach:
    """Stop a trial when what its kind gains from here on (a quantile of what trials that ran in full gained) would
    leave it below the incumbent. Nothing stops before two of its kind ran in full."""

    def __init__(self, epochs: int, grace: int, quantile: float, group: Group = kind) -> None:
        self.epochs, self.grace, self.quantile, self.group, self.best = epochs, grace, quantile, group, -np.inf
        self.curves: dict[int, list[float]] = defaultdict(list)
        self.gains: dict[Hashable, list[float]] = defaultdict(list)

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        own = self.curves[trial]
        own.append(value)
        if epoch == self.epochs:
            self.best = max(self.best, value)
            for at, before in enumerate(own, 1):
                self.gains[self.group(curve), at].append(value - before)
        gains = self.gains[self.group(curve), epoch]
        return epoch < self.grace or len(gains) < 2 or value + float(np.quantile(gains, self.quantile)) >= self.best


class Forecast(Reach):
    """ASHA with one table of forecasts instead of values: the value plus the median remaining gain of its kind."""

    def __init__(self, epochs: int, grace: int, reduction: int) -> None:
        super().__init__(epochs, grace, 0.5)
        self.rungs = rungs(epochs, grace, reduction)
        self.top = 100 * (1 - 1 / reduction)
        self.recorded: dict[int, list[tuple[Hashable, float]]] = defaultdict(list)

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        super().goes_on(trial, curve, epoch, value)
        if epoch not in self.rungs:
            return True
        self.recorded[epoch].append((self.group(curve), value))
        forecasts = [
            before + float(np.median(self.gains[group, epoch]))
            for group, before in self.recorded[epoch]
            if self.gains[group, epoch]
        ]
        return not self.gains[self.group(curve), epoch] or forecasts[-1] >= np.percentile(
            forecasts[:-1] or [-1.0], self.top
        )


class Promotion:
    """ASHA as published: every trial pauses at each rung; a free worker first resumes one of a rung's best."""

    def __init__(self, epochs: int, grace: int, reduction: int, group: Group) -> None:
        self.rungs, self.reduction, self.group = rungs(epochs, grace, reduction), reduction, group
        self.recorded: dict[tuple[int, Hashable], dict[int, float]] = defaultdict(dict)
        self.promoted: set[tuple[int, int]] = set()

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        if epoch in self.rungs:
            self.recorded[epoch, self.group(curve)][trial] = value
        return epoch not in self.rungs

    def promote(self, curves: list[Curve]) -> int | None:
        for (epoch, _), values in sorted(self.recorded.items(), key=lambda each: -each[0][0]):
            for trial in sorted(values, key=lambda each: -values[each])[: len(values) // self.reduction]:
                if (trial, epoch) not in self.promoted and self.opened(epoch):
                    self.promoted.add((trial, epoch))
                    return trial
        return None

    def opened(self, epoch: int) -> bool:
        return True


class Pasha(Promotion):
    """PASHA (arXiv 2207.06940): a rung opens when the two before it put their trials in different orders."""

    def opened(self, epoch: int) -> bool:
        at = self.rungs.index(epoch)
        low, high = self.recorded[self.rungs[at - 1], None], self.recorded[epoch, None]
        return at == 0 or sorted(high, key=lambda each: low[each]) != sorted(high, key=lambda each: high[each])


class Thaw(Reach):
    """Pauses after each epoch and resumes the trial with the largest expected improvement per second, if it is one."""

    def __init__(self, epochs: int, grace: int) -> None:
        super().__init__(epochs, grace, 1.0)
        self.paused: dict[int, tuple[int, float]] = {}

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        super().goes_on(trial, curve, epoch, value)
        if self.grace <= epoch < self.epochs:
            self.paused[trial] = (epoch, value)
        return trial not in self.paused

    def promote(self, curves: list[Curve]) -> int | None:
        worth = {}
        for trial, (epoch, value) in self.paused.items():
            gains = self.gains[self.group(curves[trial]), epoch]
            mean, spread = (np.mean(gains), max(0.02, np.std(gains, ddof=1))) if len(gains) > 1 else (0.2, 0.3)
            z = (value + mean - max(self.best, 0.0)) / spread
            worth[trial] = spread * (z * norm.cdf(z) + norm.pdf(z))
        each = {trial: worth[trial] / sum(curves[trial].seconds[self.paused[trial][0] :]) for trial in worth}
        best = max(each, key=each.__getitem__, default=None)
        if best is None or worth[best] < 0.5 / VALIDATION_IMAGES:
            return None
        del self.paused[best]
        return best


class Seen:
    """Shows a rule the best accuracy so far, or minus the log loss (finer than an accuracy of 200 images)."""

    def __init__(self, what: str, make: Callable[[], Rule]) -> None:
        self.what, self.rule = what, make()

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        seen = max(curve.values[:epoch]) if self.what == "best" else -curve.losses[epoch - 1]
        return self.rule.goes_on(trial, curve, epoch, seen)


def rules(epochs: int) -> dict[str, Callable[[], Rule]]:
    """Return a maker of each rule by its name in the tables; a pair of numbers is grace/reduction."""
    made: dict[str, Callable[[], Rule]] = {"none": Never}
    for grace, reduction in ((1, 4), (1, 3), (2, 3), (3, 3)):
        made[f"ASHA {grace}/{reduction}"] = partial(Asha, epochs, grace, reduction, everything)
    for name, group in {"backbone": backbone, "kind": kind, "both": both}.items():
        for grace, reduction in ((1, 2), (1, 3), (2, 2), (2, 3), (3, 3)):
            one = partial(Asha, epochs, grace, reduction, group)
            made[f"ASHA per {name} {grace}/{reduction}"] = one
            for what in ("best", "loss") if (grace, reduction) == (2, 3) else ():
                made[f"ASHA per {name} on {what} {grace}/{reduction}"] = partial(Seen, what, one)
    made["ASHA per kind with margin 2/3"] = partial(Margin, epochs, 2, 3, kind)
    for name, group in {"promotion": everything, "promotion per kind": kind, "promotion per both": both}.items():
        for reduction in (2, 3):
            made[f"{name} 1/{reduction}"] = partial(Promotion, epochs, 1, reduction, group)
    for name, groups in {"kind": [kind], "kind or both": [kind, both], "both": [both], "all": [everything]}.items():
        for grace, reduction in ((1, 2), (1, 3), (2, 2), (2, 3)):
            made[f"search's, per {name} {grace}/{reduction}"] = partial(Search, epochs, grace, reduction, *groups)
    made["PASHA 1/2"] = partial(Pasha, epochs, 1, 2, everything)
    for grace in (1, 2):
        made[f"thaw by improvement per second, grace {grace}"] = partial(Thaw, epochs, grace)
        made[f"ASHA on forecasts {grace}/2"] = partial(Forecast, epochs, grace, 2)
        for quantile in (0.5, 0.75, 1.0):
            one = partial(Reach, epochs, grace, quantile)
            made[f"reach, grace {grace}, quantile {quantile:g}"] = one
        made[f"reach on best, grace {grace}, quantile 1"] = partial(Seen, "best", one)
    return made
