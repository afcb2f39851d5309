"""Replay early-stopping rules over the recorded curves, in virtual time, and publish regret against epochs and seconds.

    python -m benchmarks.curves.replay_schedulers [--orders 200] [--workers 1 2 4 8] [--curves FOLDER]

Workers take configurations in a random order, asynchronously; an epoch takes its recorded seconds. A rule sees what the
search's scheduler sees (trial, params, epoch, validation accuracy) and says whether the trial goes on. At any moment
the search would hand over the best trial that ran in full or runs still, retrained in full: its regret is the best
recorded final accuracy minus the final accuracy of that configuration.
"""

from __future__ import annotations

import argparse
import heapq
from collections import defaultdict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from automl.search.scheduler import Rungs, group_of
from benchmarks.curves.recorded import HERE, RESULTS, SETS, Curve, interval, line_chart, load_curves, markdown

VALIDATION_IMAGES = 200
SHARES = np.linspace(0.02, 1.0, 50)  # of the epochs, or seconds, of no early stopping


class Rule(Protocol):
    """Says after each epoch whether a trial goes on."""

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool: ...


class Never:
    """No early stopping."""

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        return True


def kind_of(curve: Curve) -> str:
    return group_of(curve.params["backbone"], curve.params["freeze_depth"])[1]


def everything(curve: Curve) -> Hashable:
    return None


def backbone(curve: Curve) -> Hashable:
    return curve.params["backbone"]


def backbone_and_kind(curve: Curve) -> Hashable:
    return group_of(curve.params["backbone"], curve.params["freeze_depth"])


class Grouped:
    """The product's rungs (with one group: ray.tune's ASHA), compared within `group`."""

    def __init__(self, epochs: int, grace: int, reduction: int, group: Callable[[Curve], Hashable]) -> None:
        self.rungs = Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=True)
        self.group = group

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        return self.rungs.goes_on(trial, self.group(curve), epoch, value)


class Margin:
    """Rungs at which a trial stops only when it lies below the cutoff by more than `noise` standard errors."""

    def __init__(self, epochs: int, grace: int, reduction: int, group: Callable[[Curve], Hashable], noise: float):
        self.rungs = Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=True).epochs
        self.top, self.group, self.noise = 100 * (1 - 1 / reduction), group, noise
        self.values: dict[Hashable, list[float]] = defaultdict(list)

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        if epoch not in self.rungs:
            return True
        others = self.values[self.group(curve), epoch]
        cutoff = np.percentile(others, self.top) if others else 0.0
        others.append(value)
        return bool(value >= cutoff - self.noise * np.sqrt(2 * cutoff * (1 - cutoff) / VALIDATION_IMAGES))


class Median:
    """Vizier's median rule: stop when the best so far is below the median of the others' running means."""

    def __init__(self, grace: int) -> None:
        self.grace = grace
        self.curves: dict[int, list[float]] = defaultdict(list)

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        self.curves[trial].append(value)
        others = [np.mean(each[:epoch]) for key, each in self.curves.items() if key != trial and len(each) >= epoch]
        return epoch < self.grace or len(others) < 3 or max(self.curves[trial]) >= np.median(others)


class Reach:
    """Stop when the most that trials of the same kind still gained from here would not bring it to the incumbent."""

    def __init__(self, epochs: int, grace: int, quantile: float, noise: float, least: int, group=kind_of) -> None:
        self.epochs, self.grace, self.quantile, self.noise, self.least = epochs, grace, quantile, noise, least
        self.curves: dict[int, list[float]] = defaultdict(list)
        self.gains: dict[Hashable, list[float]] = defaultdict(list)
        self.best, self.group = 0.0, group

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        own, kind = self.curves[trial], self.group(curve)
        own.append(value)
        if epoch == self.epochs:
            self.best = max(self.best, value)
            for at, before in enumerate(own, 1):
                self.gains[kind, at].append(value - before)
        gains = self.gains[kind, epoch]
        if epoch < self.grace or len(gains) < self.least:
            return True
        slack = self.noise * np.sqrt(2 * self.best * (1 - self.best) / VALIDATION_IMAGES)
        return bool(value + np.quantile(gains, self.quantile) + slack >= self.best)


class ForecastRungs(Reach):
    """ASHA with one rung table over forecasts: value plus the typical remaining gain of its kind."""

    def __init__(self, epochs: int, grace: int, reduction: int, quantile: float, least: int) -> None:
        super().__init__(epochs, grace, quantile, 0.0, least)
        self.rungs = Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=True).epochs
        self.top = 100 * (1 - 1 / reduction)
        self.recorded: dict[int, list[tuple[Hashable, float]]] = defaultdict(list)

    def forecast(self, kind: Hashable, epoch: int, value: float) -> float:
        gains = self.gains[kind, epoch]
        return value + float(np.quantile(gains, self.quantile)) if gains else np.inf

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        kind = self.group(curve)
        super().goes_on(trial, curve, epoch, value)
        if epoch not in self.rungs:
            return True
        others = [self.forecast(k, epoch, v) for k, v in self.recorded[epoch]]
        self.recorded[epoch].append((kind, value))
        if len(self.gains[kind, epoch]) < self.least:
            return True
        finite = [each for each in others if np.isfinite(each)]
        return not finite or self.forecast(kind, epoch, value) >= np.percentile(finite, self.top)


class Both:
    """Go on only where all rules say so; each sees every value."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        return all([rule.goes_on(trial, curve, epoch, value) for rule in self.rules])


class Seen:
    """What a rule sees instead of the accuracy: the best so far, or the log loss (less coarse than 200 images)."""

    def __init__(self, rule: Rule, what: str) -> None:
        self.rule, self.what = rule, what

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        seen = max(curve.values[:epoch]) if self.what == "best" else -curve.losses[epoch - 1]
        return self.rule.goes_on(trial, curve, epoch, seen)


class HeadsInFull:
    """What the search does: trials on cached features run in full, unseen by the rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        return curve.head_only or self.rule.goes_on(trial, curve, epoch, value)


class Promotion:
    """ASHA as published: trials pause at rungs, a free worker resumes one of the top 1/reduction before a new one."""

    def __init__(self, epochs: int, grace: int, reduction: int, group: Callable[[Curve], Hashable]) -> None:
        self.rungs = Rungs(grace_epochs=grace, reduction=reduction, max_epochs=epochs, maximize=True).epochs
        self.reduction, self.group = reduction, group
        self.recorded: dict[tuple[int, Hashable], dict[int, float]] = defaultdict(dict)
        self.promoted: set[tuple[int, int]] = set()

    def goes_on(self, trial: int, curve: Curve, epoch: int, value: float) -> bool:
        if epoch in self.rungs:
            self.recorded[epoch, self.group(curve)][trial] = value
        return epoch not in self.rungs

    def promote(self, curves: list[Curve]) -> int | None:
        for (epoch, _), values in sorted(self.recorded.items(), key=lambda each: -each[0][0]):
            for trial in sorted(values, key=lambda each: -values[each])[: len(values) // self.reduction]:
                if (trial, epoch) not in self.promoted and self.allowed(epoch):
                    self.promoted.add((trial, epoch))
                    return trial
        return None

    def allowed(self, epoch: int) -> bool:
        return True


class Pasha(Promotion):
    """PASHA (arXiv 2207.06940): a rung opens only once the order of trials in the two below it disagrees."""

    def allowed(self, epoch: int) -> bool:
        at = self.rungs.index(epoch)
        if at < 1:
            return True
        for low, high in zip(self.rungs[:at], self.rungs[1:at + 1]):
            below, above = self.recorded[low, None], self.recorded[high, None]
            both = sorted(above, key=lambda t: -above[t])
            noise = 0.0
            if [*both] == sorted(above, key=lambda t: -below[t]):
                return False
        return True


class Thaw(Reach):
    """Pauses after every epoch; resumes the trial with the largest expected improvement per second"""

    def __init__(self, epochs: int, grace: int, fresh: bool = True) -> None:
        super().__init__(epochs, grace, 1.0, 0.0, 2)
        self.paused: dict[int, tuple[int, float]] = {}

    def goes_on(self, trial, curve, epoch, value):
        super().goes_on(trial, curve, epoch, value)
        if epoch < self.epochs and epoch >= self.grace:
            self.paused[trial] = (epoch, value)
            return False
        return True

    def promote(self, curves):
        if not self.paused:
            return None
        from scipy.stats import norm
        scores = {}
        for trial, (epoch, value) in self.paused.items():
            gains = np.array(self.gains[self.group(curves[trial]), epoch])
            if len(gains) < 2:
                m, s = value + 0.2, 0.3
            else:
                m, s = value + gains.mean(), np.hypot(gains.std(ddof=1), 0.03)
            z = (m - self.best) / s
            scores[trial] = s * (z * norm.cdf(z) + norm.pdf(z)) / (sum(curves[trial].seconds[:epoch]) / epoch * (self.epochs - epoch))
            scores[trial] = (scores[trial], s * (z * norm.cdf(z) + norm.pdf(z)))
        trial = max(scores, key=lambda t: scores[t][0])
        if scores[trial][1] < 0.002:
            return None
        del self.paused[trial]
        return trial


def rules(epochs: int) -> dict[str, Callable[[], Rule]]:
    """Return a maker of each rule by its name in the tables."""
    made: dict[str, Callable[[], Rule]] = {"none": Never}
    for grace, reduction in ((1, 3), (1, 4), (2, 3), (3, 3)):
        made[f"ASHA grace {grace} reduction {reduction}"] = lambda g=grace, r=reduction: Grouped(epochs, g, r, everything)
    for grace, reduction in ((1, 2), (1, 3), (2, 2), (2, 3), (3, 2), (3, 3)):
        made[f"ASHA per backbone {grace}/{reduction}"] = lambda g=grace, r=reduction: Grouped(epochs, g, r, backbone)
        made[f"ASHA per kind {grace}/{reduction}"] = lambda g=grace, r=reduction: HeadsInFull(Grouped(epochs, g, r, kind_of))
        made[f"ours {grace}/{reduction}"] = lambda g=grace, r=reduction: HeadsInFull(Grouped(epochs, g, r, backbone_and_kind))
    for noise in (1.0, 2.0):
        made[f"margin {noise:g} all 2/3"] = lambda n=noise: HeadsInFull(Margin(epochs, 2, 3, everything, n))
        made[f"margin {noise:g} kind 2/3"] = lambda n=noise: HeadsInFull(Margin(epochs, 2, 3, kind_of, n))
    for what in ("best", "loss"):
        for grace, reduction in ((1, 3), (2, 3), (1, 2)):
            made[f"ASHA {what} {grace}/{reduction}"] = lambda w=what, g=grace, r=reduction: Seen(Grouped(epochs, g, r, everything), w)
            made[f"ASHA per kind {what} {grace}/{reduction}"] = lambda w=what, g=grace, r=reduction: HeadsInFull(Seen(Grouped(epochs, g, r, kind_of), w))
            made[f"ours {what} {grace}/{reduction}"] = lambda w=what, g=grace, r=reduction: HeadsInFull(Seen(Grouped(epochs, g, r, backbone_and_kind), w))
        for q in (.5, 1.):
            made[f"reach {what} g1 q{q}"] = lambda w=what, q=q: Seen(Reach(epochs, 1, q, 0., 2), w)
            made[f"reach {what} g2 q{q}"] = lambda w=what, q=q: Seen(Reach(epochs, 2, q, 0., 2), w)
    made["median"] = lambda: HeadsInFull(Median(2))
    for grace in (1, 2):
        for quantile in (0.5, 0.75, 1.0):
            for noise in (0.0, 1.0):
                made[f"reach g{grace} q{quantile} z{noise:g}"] = lambda g=grace, q=quantile, n=noise: Reach(epochs, g, q, n, 2)
    for grace in (1, 2):
        for reduction in (2, 3):
            made[f"forecast rungs {grace}/{reduction}"] = lambda g=grace, r=reduction: ForecastRungs(epochs, g, r, 0.5, 1)
    for grace, reduction in ((1, 2), (1, 3), (2, 3)):
        made[f"promotion {grace}/{reduction}"] = lambda g=grace, r=reduction: Promotion(epochs, g, r, everything)
        made[f"promotion per kind {grace}/{reduction}"] = lambda g=grace, r=reduction: Promotion(epochs, g, r, kind_of)
    made["pasha 1/2"] = lambda: Pasha(epochs, 1, 2, everything)
    made["thaw 1"] = lambda: Thaw(epochs, 1)
    made["thaw 2"] = lambda: Thaw(epochs, 2)
    return made


def replay(curves: list[Curve], rule: Rule, workers: int) -> list[tuple[float, int, int]]:
    """Return (seconds, epochs spent, position in `curves` of what would be handed over) after each epoch of a trial.

    A rule with a method `promote` does not stop trials but pauses them, and is asked which to resume by each worker
    that becomes free, before that takes a new one.
    """
    promote = getattr(rule, "promote", lambda curves: None)
    waiting, idle, now, spent = iter(range(len(curves))), workers, 0.0, 0
    ends: list[tuple[float, int, int]] = []
    reached: dict[int, int] = {}
    standing: dict[int, tuple[float, int]] = {}  # running or complete → its last value and minus when it started
    steps = []
    while True:
        while idle:
            trial = promote(curves)
            if trial is None and (trial := next(waiting, None)) is None:
                break
            epoch = reached.get(trial, 0)
            heapq.heappush(ends, (now + curves[trial].seconds[epoch], trial, epoch + 1))
            idle -= 1
        if not ends:
            return steps
        now, trial, epoch = heapq.heappop(ends)
        curve, spent = curves[trial], spent + 1
        reached[trial] = epoch
        goes_on = epoch <= len(curve.values) and rule.goes_on(trial, curve, epoch, curve.values[epoch - 1])
        if goes_on:
            standing[trial] = (curve.values[epoch - 1], -trial)
        else:
            standing.pop(trial, None)
        if goes_on and epoch < len(curve.seconds):
            heapq.heappush(ends, (now + curve.seconds[epoch], trial, epoch + 1))
        else:
            idle += 1
        if standing:
            steps.append((now, spent, max(standing, key=standing.__getitem__)))


def measure(curves: list[Curve], make: Callable[[], Rule], orders: int, workers: int) -> dict[str, np.ndarray]:
    """Replay one rule over `orders` orders. Regrets have the shape (orders, len(SHARES)), the rest (orders,)."""
    final, test = np.array([each.final for each in curves]), np.array([each.test for each in curves])
    epochs, seconds = sum(len(each.seconds) for each in curves), sum(sum(each.seconds) for each in curves)
    found = defaultdict(list)
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(len(curves))
        steps = replay([curves[each] for each in order], make(), workers)
        at, spent, picks = (np.array(each) for each in zip(*steps, strict=True))
        picked = order[picks]
        for unit, position in (("epochs", spent / epochs), ("seconds", at * workers / seconds)):
            index = np.searchsorted(position, SHARES, side="right") - 1
            chosen = np.where(index < 0, 0.0, final[picked[np.maximum(index, 0)]])
            found[f"regret by {unit}"].append(final.max() - chosen)
        found["regret"].append(final.max() - final[picked[-1]])
        found["test regret"].append(test.max() - test[picked[-1]])
        found["epochs"].append(spent[-1] / epochs)
        found["seconds"].append(at[-1] * workers / seconds)
    return {name: np.array(each) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--curves", type=Path, default=HERE)
    parser.add_argument("--rules", nargs="+")
    given = parser.parse_args()
    rows = []
    for name in SETS:
        curves = load_curves(name, given.curves)
        for rule, make in rules(max(len(each.values) for each in curves)).items():
            if given.rules and not any(each in rule for each in given.rules):
                continue
            for workers in given.workers:
                found = measure(curves, make, given.orders, workers)
                row = {"set": name, "rule": rule, "workers": workers}
                for each in ("regret", "test regret", "epochs", "seconds"):
                    mean, half = interval(found[each])
                    row |= {each: round(mean, 4), f"{each} ±": round(half, 4)}
                rows.append(row)
    table = pd.DataFrame(rows)
    print(markdown(table))


if __name__ == "__main__":
    main()
