"""Compare samplers at equal seconds, on surrogates of the recorded curves, and publish the regret curves.

    python -m benchmarks.curves.replay_samplers [--sets textile] [--samplers random "plain TPE"] [--seeds 20]

(draft)
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState
from scipy.special import expit, logit
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge

from automl.search.plan import default_trials
from automl.search.scheduler import Rungs, group_of
from automl.search.study import make_sampler
from automl.space import Space
from benchmarks.curves.recorded import HERE, RESULTS, SETS, Curve, line_chart, load_curves, load_space, markdown

VALIDATION_IMAGES = 200
SHARES = np.linspace(0.02, 1.0, 50)  # of the horizon
Params = Mapping[str, Any]


def is_head_only(params: Params) -> bool:
    return params["freeze_depth"] == 1.0 and params["augmentation"] == "none"


def features(points: Sequence[Params], space: Space) -> np.ndarray:
    """Return a row of numbers in about 0 to 1 for each point."""
    columns = [[float(each[name] == choice) for each in points] for name in ("backbone", "augmentation") for choice in space.choices(name)]
    sides = space.choices("resolution")
    columns.append([each["freeze_depth"] for each in points])
    columns.append([each["freeze_depth"] == 1.0 for each in points])
    columns.append([each["resolution"] == max(sides) for each in points])
    columns.append([np.log10(each["learning_rate"]) + 3 for each in points])
    return np.array(columns, dtype=float).T


class Gp:
    def __init__(self, x, y):
        n = x.shape[1]
        kernel = ConstantKernel(1.0, (0.05, 20)) * Matern(np.full(n, 2.0), (0.3, 30), nu=2.5) + WhiteKernel(0.1, (1e-3, 1))
        self.mean, self.sd = y.mean(0), y.std(0) + 1e-9
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.gp = GaussianProcessRegressor(kernel, n_restarts_optimizer=0, random_state=0).fit(x, (y - self.mean) / self.sd)

    def predict(self, x):
        return self.gp.predict(x).reshape(len(x), -1) * self.sd + self.mean


class Trees:
    def __init__(self, x, y):
        self.trees = ExtraTreesRegressor(100, random_state=0).fit(x, y)

    def predict(self, x):
        return self.trees.predict(x).reshape(len(x), -1)


def logits(curve: Curve, epochs: int) -> np.ndarray:
    values = list(curve.values) + [0.1] * (epochs - len(curve.values))
    return logit(np.clip(values, 1 / (2 * VALIDATION_IMAGES), 1 - 1 / (2 * VALIDATION_IMAGES)))


class Cost:
    """Seconds per epoch"""

    def __init__(self, curves, space):
        self.space = space
        self.head = float(np.median([sum(c.seconds) for c in curves if c.head_only])) if any(c.head_only for c in curves) else 1.0
        rest = [c for c in curves if not c.head_only and not c.diverged]
        self.epochs = max(len(c.values) for c in curves)
        x = self.columns([c.params for c in rest])
        y = np.log([sum(c.seconds) / self.epochs for c in rest])
        self.ridge = Ridge(1e-3).fit(x, y)
        self.error = float((y - self.ridge.predict(x)).std())

    def columns(self, points):
        x = features(points, self.space)[:, :-1]
        return np.hstack([x, x[:, -3:-2] ** 2, x[:, -3:-2] * x[:, -1:]])

    def __call__(self, points: Sequence[Params]) -> np.ndarray:
        """seconds of full trials"""
        seconds = np.exp(self.ridge.predict(self.columns(points))) * self.epochs
        return np.where([is_head_only(p) for p in points], self.head, seconds)


class SurrogateWorld:
    def __init__(self, curves, space, model, rng):
        self.space, self.rng = space, rng
        self.epochs = max(len(c.values) for c in curves)
        self.cost = Cost(curves, space)
        self.model = model(features([c.params for c in curves], space), np.array([logits(c, self.epochs) for c in curves]))
        dense = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        self.best = max(self.truth([dense.ask(space.distributions).params for _ in range(5000)] + [c.params for c in curves])[:, -1])

    def truth(self, points):
        return expit(self.model.predict(features(points, self.space)))

    def start(self, seed):
        self.rng = np.random.default_rng(seed)

    def run(self, params):
        """told params, observed values, seconds by epoch, true final"""
        curve = self.truth([params])[0]
        values = self.rng.binomial(VALIDATION_IMAGES, curve) / VALIDATION_IMAGES
        seconds = self.cost([params])[0] * np.exp(self.rng.normal() * self.cost.error) / self.epochs
        return params, values, np.full(self.epochs, seconds), curve[-1]


class TableWorld:
    """nearest unused"""

    def __init__(self, curves, space):
        self.space, self.curves = space, curves
        self.epochs = max(len(c.values) for c in curves)
        self.cost = Cost(curves, space)
        self.x = features([c.params for c in curves], space)
        self.best = max(c.final for c in curves)
        self.start(0)

    def start(self, seed):
        self.unused = np.ones(len(self.curves), bool)

    def run(self, params):
        if not self.unused.any():
            return None
        distance = np.abs(self.x - features([params], self.space)).sum(1)
        number = int(np.where(self.unused, distance, np.inf).argmin())
        self.unused[number] = False
        c = self.curves[number]
        return c.params, np.array(c.values), np.array(c.seconds), c.final


class CostTpe(optuna.samplers.TPESampler):
    def __init__(self, cost, power, **k):
        super().__init__(**k)
        self.cost_of, self.power, self.left = cost, power, 1.0

    def _compute_acquisition_func(self, samples, mpe_below, mpe_above):
        ratio = super()._compute_acquisition_func(samples, mpe_below, mpe_above)
        names = list(samples)
        points = [
            {n: mpe_below._search_space[n].to_external_repr(samples[n][i]) for n in names} for i in range(len(ratio))
        ]
        return ratio - self.power * self.left * np.log(self.cost_of(points))


class Proposer:
    """Asks one study; what varies is the sampler, the list of defaults and the choice among k proposals."""

    def __init__(self, sampler, space, defaults=(), cost=None, k=1, mode="best", power=1.0):
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.space, self.defaults, self.cost, self.k, self.mode = space, list(defaults), cost, k, mode
        self.queue = []
        self.power = power

    def propose(self, left):
        if isinstance(self.study.sampler, CostTpe):
            self.study.sampler.left = left
        if self.defaults:
            return self.defaults.pop(0)
        if self.queue:
            return self.queue.pop(0)
        asked = [self.study.ask(self.space.distributions) for _ in range(self.k)]
        for each in asked:
            self.study.tell(each, state=TrialState.FAIL)
        points = [each.params for each in asked]
        if self.k > 1:
            points = [points[i] for i in np.argsort(self.cost(points))]
            if self.mode == "reorder":
                self.queue = points[1:]
        return points[0]

    def tell(self, params, values, complete):
        self.study.add_trial(
            optuna.trial.create_trial(
                params=dict(params), distributions=self.space.distributions,
                state=TrialState.COMPLETE if complete else TrialState.PRUNED,
                value=float(values[-1]) if complete else None,
                intermediate_values={e: float(v) for e, v in enumerate(values, 1)},
            )
        )


class EiPerSecond(Proposer):
    """GP/forest EI per second"""

    def __init__(self, sampler, space, defaults, cost, seed, power=1.0, cool=False, floor=0.0):
        super().__init__(sampler, space, defaults, cost)
        self.rng, self.seen, self.cool, self.power, self.floor = np.random.default_rng(seed), [], cool, power, floor
        self.seed = seed

    def propose(self, left):
        if self.defaults or len(self.seen) < 5:
            return super().propose(left)
        dense = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=int(self.rng.integers(1 << 30))))
        points = [dense.ask(self.space.distributions).params for _ in range(300)]
        x = features([p for p, _ in self.seen], self.space)
        y = np.array([v for _, v in self.seen])
        trees = ExtraTreesRegressor(30, random_state=self.seed, bootstrap=True, min_samples_leaf=1).fit(x, y)
        each = np.array([t.predict(features(points, self.space)) for t in trees.estimators_])
        m, s = each.mean(0), each.std(0) + 1e-3
        from scipy.stats import norm
        z = (m - y.max()) / s
        ei = s * (z * norm.cdf(z) + norm.pdf(z))
        c = np.maximum(self.cost(points), self.floor)
        score = np.log(ei + 1e-12) - self.power * (left if self.cool else 1.0) * np.log(c)
        return points[int(score.argmax())]

    def tell(self, params, values, complete):
        super().tell(params, values, complete)
        self.seen.append((dict(params), float(values[-1])))


def makers(space: Space, cost: Cost) -> dict[str, Callable[[int], Proposer]]:
    names = space.choices("backbone")
    defaults = default_trials(names, space)
    cheap = sorted(defaults, key=lambda p: cost([p])[0])
    S = optuna.samplers
    typical = float(np.median(cost([optuna.create_study(sampler=S.RandomSampler(seed=1)).ask(space.distributions).params for _ in range(1)])))
    tpe = make_sampler
    return {
        "random": lambda s: Proposer(S.RandomSampler(seed=s), space),
        "plain TPE": lambda s: Proposer(S.TPESampler(seed=s, multivariate=True, constant_liar=True), space),
        "GP": lambda s: Proposer(S.GPSampler(seed=s), space),
        "defaults + random": lambda s: Proposer(S.RandomSampler(seed=s), space, defaults),
        "defaults + TPE": lambda s: Proposer(tpe(s), space, defaults),
        "cheap defaults + TPE": lambda s: Proposer(tpe(s), space, cheap),
        "cheap, cheapest of 2": lambda s: Proposer(tpe(s), space, cheap, cost, 2),
        "cheap, cheapest of 3": lambda s: Proposer(tpe(s), space, cheap, cost, 3),
        "cheap, reorder 4": lambda s: Proposer(tpe(s), space, cheap, cost, 4, "reorder"),
        "cheap, TPE/cost": lambda s: Proposer(CostTpe(cost, 1.0, seed=s, n_startup_trials=5, multivariate=True, constant_liar=True), space, cheap),
        "cheap, TPE/cost^.5": lambda s: Proposer(CostTpe(cost, .5, seed=s, n_startup_trials=5, multivariate=True, constant_liar=True), space, cheap),
        "cheap, EI/s trees": lambda s: EiPerSecond(tpe(s), space, cheap, cost, s),
        "cheap, EI/s^.5 trees": lambda s: EiPerSecond(tpe(s), space, cheap, cost, s, .5),
        "cheap, EI trees": lambda s: EiPerSecond(tpe(s), space, cheap, cost, s, 0.),
        "cheap, EI/s cooled": lambda s: EiPerSecond(tpe(s), space, cheap, cost, s, 1., True),
        "cheap GP": lambda s: Proposer(S.GPSampler(seed=s, n_startup_trials=5), space, cheap),
    }


def search(world, proposer: Proposer, horizon: float, stopping: bool) -> np.ndarray:
    """regret at SHARES"""
    rungs = Rungs(grace_epochs=2, reduction=3, max_epochs=world.epochs, maximize=True)
    now, number = 0.0, 0
    best, handed, steps = -1.0, 0.0, []
    while now < horizon and number < 400:
        done = world.run(proposer.propose(1 - now / horizon))
        if done is None:
            break
        params, values, seconds, final = done
        reached = []
        goes_on = True
        for epoch, (value, took) in enumerate(zip(values, seconds), 1):
            now += took
            reached.append(value)
            goes_on = not stopping or is_head_only(params) or rungs.goes_on(number, group_of(params["backbone"], params["freeze_depth"]), epoch, value)
            if not goes_on:
                break
        complete = len(reached) == world.epochs
        proposer.tell(params, reached, complete)
        if complete and reached[-1] > best:
            best, handed = reached[-1], final
            steps.append((now, handed))
        number += 1
    if not steps:
        return np.full(len(SHARES), world.best), number
    at, finals = (np.array(each) for each in zip(*steps))
    index = np.searchsorted(at, SHARES * horizon, side="right") - 1
    return world.best - np.where(index < 0, 0.0, finals[np.maximum(index, 0)]), number


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, default=HERE)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--worlds", nargs="+", default=["gp", "trees", "table"])
    parser.add_argument("--samplers", nargs="+")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--stopping", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    import time
    for name in given.sets:
        curves, space = load_curves(name, given.curves), load_space(name)
        horizon = sum(sum(c.seconds) for c in curves)
        for which in given.worlds:
            world = TableWorld(curves, space) if which == "table" else SurrogateWorld(curves, space, {"gp": Gp, "trees": Trees}[which], None)
            print(name, which, "best", world.best, "horizon", horizon, "cost err", world.cost.error)
            for stopping in given.stopping:
                for label, make in makers(space, world.cost).items():
                    if given.samplers and label not in given.samplers:
                        continue
                    t = time.time()
                    all_, ns = [], []
                    for seed in range(given.seeds):
                        world.start(seed)
                        r, n = search(world, make(seed), horizon, bool(stopping))
                        all_.append(r); ns.append(n)
                    med = np.median(all_, 0)
                    print(f"{stopping} {label:24s}", " ".join(f"{med[i]:.3f}" for i in (0, 1, 2, 4, 7, 9, 14, 24, 36, 49)), f"mean {np.mean(all_):.4f} n {np.mean(ns):.0f} {time.time()-t:.1f}s", flush=True)


if __name__ == "__main__":
    main()
