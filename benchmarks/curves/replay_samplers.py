"""Compare samplers at equal seconds in worlds made of the recorded curves, and publish regret against seconds.

    python -m benchmarks.curves.replay_samplers [--sets textile] [--worlds gp] [--samplers random TPE] [--seeds 20]

One worker; a search lasts as long as the recording of the set did. Three worlds answer what a sampler proposes:

gp, trees  A regression on the recorded curves (Gaussian process; extremely randomised trees) gives the true accuracy of
           every epoch anywhere in the space; the search measures it on 200 images, half of whose luck is common to all
           trials. The cross-validated errors of the regressions are in the results.
table      The proposal becomes the nearest recorded configuration not used yet, with its recorded curve.

Seconds come from a linear regression of the logarithm of the recorded ones, with its residual as noise; cost-aware
samplers know the prediction without the noise. The search hands over the best trial that ran in full, by what it
measured; regret is the true accuracy of the best point of the world minus that of the one handed over. Everything runs
without early stopping and with the search's own (`--stopping`).

Merges into `results/samplers.csv` beside the curves (quartiles of regret over seeds, by share of the search), and
writes from all that is in there `results/samplers.md` and `results/samplers-<set>-<stopping>.svg`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial
from scipy.stats import norm
from sklearn.ensemble import ExtraTreesRegressor

from automl.search.defaults import default_trials
from automl.search.rungs import Rungs, groups_of
from automl.search.sampler import make_sampler
from automl.space import Space
from benchmarks.curves import recorded
from benchmarks.curves.recorded import EPOCHS, HERE, SETS, Cost, Curve, Params, World, features, points_of
from benchmarks.tables import markdown, merge

SHARES = np.linspace(0.02, 1.0, 50).round(2)  # of the horizon
SHOWN = (0.02, 0.04, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of them in the tables
PLAIN = ("random", "TPE", "GP")
MAX_TRIALS = 300


class Proposer:
    """Defaults in order, then what an Optuna sampler proposes."""

    def __init__(self, sampler: BaseSampler, space: Space, defaults: Iterable[Params] = ()) -> None:
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.space, self.defaults = space, list(defaults)

    def propose(self, left: float) -> Params:
        """Return what to try; `left` is the share of the horizon that is left."""
        if self.defaults:
            return self.defaults.pop(0)
        trial = self.study.ask(self.space.distributions)
        self.study.tell(trial, state=TrialState.FAIL)  # it is told again, as it ran
        return trial.params

    def tell(self, curve: Curve, reached: int) -> None:
        values = curve.values[:reached]
        whole = reached == len(curve.seconds)
        state = TrialState.COMPLETE if whole else TrialState.PRUNED
        self.study.add_trial(
            create_trial(
                params=dict(curve.params), distributions=self.space.distributions, state=state,
                value=values[-1] if whole else None, intermediate_values=dict(enumerate(values, 1)),
            )
        )  # fmt: skip


class CostTpe(TPESampler):
    """TPE whose acquisition, log l(x)/g(x), loses `power` times the logarithm of the predicted seconds."""

    def __init__(self, cost: Cost, power: float, seed: int) -> None:
        super().__init__(seed=seed, n_startup_trials=5, multivariate=True, constant_liar=True)
        self.cost, self.power = cost, power

    def _compute_acquisition_func(self, samples: Any, mpe_below: Any, mpe_above: Any) -> np.ndarray:
        found = super()._compute_acquisition_func(samples, mpe_below, mpe_above)
        spaces = mpe_below._search_space
        points = [
            {name: spaces[name].to_external_repr(samples[name][each]) for name in samples} for each in range(len(found))
        ]
        return found - self.power * np.log(self.cost(points))


class ImprovementPerSecond(Proposer):
    """Expected improvement of a forest of extremely randomised trees over random points, per predicted second, to the
    power of the share of time left where `cooled` (CArBO, arXiv 2003.10870)."""

    def __init__(self, space: Space, defaults: Iterable[Params], cost: Cost, seed: int, cooled: bool = False) -> None:
        super().__init__(make_sampler(seed), space, defaults)
        self.pool = points_of(space, 1000, seed)
        self.features, self.seconds = features(self.pool, space), cost(self.pool)
        self.cooled, self.rng, self.seed = cooled, np.random.default_rng(seed), seed
        self.told: list[tuple[Params, float]] = []

    def propose(self, left: float) -> Params:
        if self.defaults or len(self.told) < 5:
            return super().propose(left)
        values = np.array([value for _, value in self.told])
        forest = ExtraTreesRegressor(20, bootstrap=True, random_state=self.seed)
        forest.fit(features([params for params, _ in self.told], self.space), values)
        some = self.rng.choice(len(self.pool), 200, replace=False)
        each = np.array([tree.predict(self.features[some]) for tree in forest.estimators_])
        mean, spread = each.mean(axis=0), each.std(axis=0) + 1e-3
        z = (mean - values.max()) / spread
        worth = np.log(np.maximum(spread * (z * norm.cdf(z) + norm.pdf(z)), 1e-12))
        power = left if self.cooled else 1.0
        return self.pool[some[int((worth - power * np.log(self.seconds[some])).argmax())]]

    def tell(self, curve: Curve, reached: int) -> None:
        super().tell(curve, reached)
        self.told.append((curve.params, curve.values[:reached][-1] if curve.values else 0.0))


def samplers(space: Space, cost: Cost) -> dict[str, Callable[[int], Proposer]]:
    """Return a maker of each sampler, from its seed, by its name in the tables."""
    pairs = default_trials(space.choices("backbone"), space, EPOCHS)
    cheap = sorted(pairs, key=lambda each: cost([each])[0])

    def cheapest_of(candidates: int, defaults: list[Params] = cheap) -> Callable[[int], Proposer]:
        return lambda seed: Proposer(make_sampler(seed, lambda each: cost([each])[0], candidates), space, defaults)

    return {
        "random": lambda seed: Proposer(RandomSampler(seed=seed), space),
        "TPE": lambda seed: Proposer(TPESampler(seed=seed, multivariate=True, constant_liar=True), space),
        "GP": lambda seed: Proposer(GPSampler(seed=seed), space),
        "defaults, random": lambda seed: Proposer(RandomSampler(seed=seed), space, cheap),
        "defaults by backbone, TPE": lambda seed: Proposer(make_sampler(seed), space, pairs),
        "defaults, TPE": lambda seed: Proposer(make_sampler(seed), space, cheap),
        "defaults, GP": lambda seed: Proposer(GPSampler(seed=seed, n_startup_trials=5), space, cheap),
        "the search's: defaults by backbone, cheapest of 2 by TPE": cheapest_of(2, pairs),
        "defaults, cheapest of 2 by TPE": cheapest_of(2),
        "defaults, cheapest of 4 by TPE": cheapest_of(4),
        "defaults, TPE by cost^0.5": lambda seed: Proposer(CostTpe(cost, 0.5, seed), space, cheap),
        "defaults, TPE by cost": lambda seed: Proposer(CostTpe(cost, 1.0, seed), space, cheap),
        "defaults, improvement per second": lambda seed: ImprovementPerSecond(space, cheap, cost, seed),
        "defaults, improvement per second, cooled": lambda seed: ImprovementPerSecond(
            space, cheap, cost, seed, cooled=True
        ),
    }


def default_rule(epochs: int) -> Rungs:
    return Rungs(grace_epochs=1, reduction=3, max_epochs=epochs, maximize=True)


def search(
    world: World, proposer: Proposer, horizon: float, rungs: Rungs | None, whole: Sequence[Params] = ()
) -> np.ndarray:
    """Return the regret at each of SHARES of `horizon` seconds. `whole` configurations run to their end."""
    now, best, steps = 0.0, -1.0, [(-1.0, 0.0)]
    runs: list[tuple[Curve, float]] = []
    reached: list[int] = []
    while now < horizon and len(runs) < MAX_TRIALS:
        for trial in rungs.resumable()[:1] if rungs else ():
            rungs.resume(trial)
            break
        else:
            found = world.run(proposer.propose(1 - now / horizon))
            if found is None:
                break
            trial = len(runs)
            runs.append(found)
            reached.append(0)
        (curve, truth), goes_on = runs[trial], True
        while goes_on and reached[trial] < len(curve.seconds):
            now += curve.seconds[reached[trial]]
            reached[trial] += 1
            goes_on = reached[trial] <= len(curve.values)
            if goes_on and rungs is not None and not curve.head_only:
                groups = groups_of(curve.params["backbone"], curve.params["freeze_depth"])
                goes_on = rungs.goes_on(trial, groups, reached[trial], curve.values[reached[trial] - 1])
                if not goes_on and curve.params in whole:
                    rungs.resume(trial)
                    goes_on = True
        proposer.tell(curve, min(reached[trial], len(curve.values)))
        if goes_on and curve.values[-1] > best:
            best = curve.values[-1]
            steps.append((now, truth))
    at, truths = map(np.array, zip(*steps, strict=True))
    return world.best - truths[np.searchsorted(at, SHARES * horizon, side="right") - 1]


def publish(results: pd.DataFrame, notes: pd.DataFrame, out: Path) -> None:
    """Write the tables and the charts of everything in `results`, with what `notes` says of each world."""
    medians = results[results["quartile"] == "median"]
    lines = ["# Samplers at equal seconds\n", "Median regret over the seeds after a share of the horizon.\n"]
    for (name, world, stopping), some in medians.groupby(["set", "world", "stopping"], sort=False):
        curves = some.set_index("sampler")[[str(share) for share in SHARES]].rename(columns=float)
        note = notes[(notes["set"] == name) & (notes["world"] == world)].iloc[0]
        curves = curves[(some["configurations"] == note["configurations"]).to_numpy()]
        rows = []
        for sampler, regrets in curves.iterrows():
            row = {"sampler": sampler} | {f"{share:.0%}": f"{regrets[share]:.3f}" for share in SHOWN}
            if set(PLAIN) <= set(curves.index):
                there = regrets.index[regrets <= curves.loc["random", 1.0]]
                row["random's final value at"] = f"{there[0]:.0%}" if len(there) else "never"
                row["most above the best plain one"] = f"{max(0.0, (regrets - curves.loc[[*PLAIN]].min()).max()):.3f}"
            rows.append(row)
        lines.append(f"## {name}, world {world}, early stopping {stopping}, 100 % is {note['minutes']} min\n")
        lines += [f"{some['seeds'].iloc[0]} seeds; {note['note']}\n", markdown(pd.DataFrame(rows))]
        if world == "gp":
            minutes = SHARES * float(note["minutes"])
            recorded.line_chart(
                out / f"samplers-{name}-{stopping}.svg",
                {str(each): (minutes, regrets.to_numpy()) for each, regrets in curves.iterrows()},
                title=f"{name}, early stopping {stopping}: median regret", x="minutes", y="regret",
            )  # fmt: skip
    (out / "samplers.md").write_text("\n".join(lines))


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--worlds", nargs="+", default=("gp", "table"), choices=("gp", "trees", "table"))
    parser.add_argument("--stopping", nargs="+", default=("none", "default"), choices=("none", "default"))
    parser.add_argument("--samplers", nargs="+", help="names; all without it")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--curves", type=Path, default=HERE)
    given = parser.parse_args()
    out = given.curves / "results"
    for name in given.sets:
        curves, space = recorded.load_curves(name, given.curves), recorded.load_space(name)
        horizon = sum(sum(each.seconds) for each in curves)
        for world_name in given.worlds:
            world = recorded.make_world(world_name, curves, space)
            print(name, world_name, world.note)
            note = pd.DataFrame([
                {"set": name, "world": world_name, "minutes": round(horizon / 60, 1),
                 "configurations": len(curves), "note": world.note}
            ])  # fmt: skip
            notes = merge(out / "worlds.csv", note, ["set", "world"])
            for stopping in given.stopping:
                for sampler, make in samplers(space, world.cost).items():
                    if given.samplers and sampler not in given.samplers:
                        continue
                    regrets = []
                    for seed in range(given.seeds):
                        world.start(seed)
                        rule = None if stopping == "none" else default_rule(world.epochs)
                        regrets.append(search(world, make(seed), horizon, rule))
                    quartiles = np.percentile(regrets, [25, 50, 75], axis=0).round(4)
                    print(stopping, sampler, *[quartiles[1][list(SHARES).index(share)] for share in SHOWN], flush=True)
                    keys = {"set": name, "world": world_name, "stopping": stopping, "sampler": sampler}
                    rows = [
                        {
                            **keys,
                            "quartile": quartile,
                            "seeds": given.seeds,
                            "configurations": len(curves),
                            **dict(zip(map(str, SHARES), values, strict=True)),
                        }
                        for quartile, values in zip(("lower", "median", "upper"), quartiles, strict=True)
                    ]
                    results = merge(out / "samplers.csv", pd.DataFrame(rows), list(keys))
    publish(results, notes, out)


if __name__ == "__main__":
    main()
