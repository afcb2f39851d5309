"""Does a search gain from earlier ones, and from weighing its proposals by them? Replays over the recorded curves.

    python -m benchmarks.curves.replay_warm_start [--seeds 20]

The worlds are those of `replay_samplers.py` called gp. An earlier search of the full horizon, cold, in one world; then
searches in another one that differ in what they take from it:

cold                 nothing
enqueued             its best configurations are tried first and to their end (`automl.search.warm_start`)
weighed              the sampler's proposals are weighed by the density around them, with β 10
enqueued, weighed    both, for several β

same     both searches are of one world, on other images of it
alike    the earlier world is made of one half of the recorded configurations, the new one of the other half
unlike   the earlier world is of the other set; choices that the new space lacks are moved to the nearest ones

The head-only defaults come first and the other defaults after what is enqueued. Writes `results/warm-start.csv` (median
and quartiles of regret over seeds at shares of the horizon, and of the share at which the cold search's final regret of
the same seed is reached) and `results/warm-start.md` beside the curves.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
from optuna.trial import FrozenTrial

from automl.search.defaults import default_trials
from automl.search.earlier import good_trials
from automl.search.prior import Prior, alike
from automl.search.sampler import make_sampler
from automl.space import Space
from benchmarks.curves import recorded
from benchmarks.curves.recorded import HERE, SETS, Params, World, is_head_only
from benchmarks.curves.replay_samplers import SHARES, Proposer, default_rule, search
from benchmarks.tables import markdown, merge

SHOWN = (0.04, 0.1, 0.2, 0.3, 0.5, 1.0)
BETAS = (3.0, 10.0, 30.0)
TAKEN = 3
KINDS = ("same", "alike", "unlike")


def proposer(
    space: Space, world: World, seed: int, taken: Sequence[Params], *, enqueued: bool, beta: float | None
) -> Proposer:
    """Return the program's order of trials, with what is `taken` from an earlier search."""
    sound = default_trials(space.choices("backbone"), space, recorded.EPOCHS)
    heads, rest = ([each for each in sound if is_head_only(each) == wanted] for wanted in (True, False))
    first = [each for each in taken if each not in heads] if enqueued else []
    density = Prior(space.distributions, taken) if beta is not None else None
    sampler = make_sampler(seed, lambda each: world.cost([each])[0], density=density, beta=beta or 0.0)
    return Proposer(sampler, space, [*heads, *first, *(each for each in rest if each not in first)])


def take(trials: Sequence[FrozenTrial], space: Space) -> list[Params]:
    """Return the best distinct configurations, moved into `space`."""
    found: list[Params] = []
    for trial in good_trials(trials, maximize=True):
        params = space.nearest(trial.params)
        if len(found) < TAKEN and not any(alike(space.distributions, params, each) for each in found):
            found.append(params)
    return found


def variants(space: Space, world: World) -> dict[str, Callable[[int, Sequence[Params]], Proposer]]:
    def of(enqueued: bool, beta: float | None) -> Callable[[int, Sequence[Params]], Proposer]:
        return lambda seed, taken: proposer(space, world, seed, taken, enqueued=enqueued, beta=beta)

    made = {"cold": of(False, None), "enqueued": of(True, None)}
    made |= {f"weighed, β {beta:g}": of(False, beta) for beta in BETAS[1:2]}
    return made | {f"enqueued, weighed, β {beta:g}": of(True, beta) for beta in BETAS}


def replay(name: str, kind: str, seeds: int, folder: Path) -> list[dict[str, object]]:
    """Return a row per variant and quartile of searches in the world of `name`."""
    other = next(each for each in SETS if each != name)
    curves, space = recorded.load_curves(name, folder), recorded.load_space(name)
    if kind == "same":
        before, now, space_before = curves, curves, space
    elif kind == "alike":
        before, now, space_before = curves[::2], curves[1::2], space
    else:
        before, now, space_before = recorded.load_curves(other, folder), curves, recorded.load_space(other)
    worlds = recorded.make_world("gp", before, space_before), recorded.make_world("gp", now, space)
    horizons = [sum(sum(each.seconds) for each in some) for some in (before, now)]
    regrets: dict[str, list[np.ndarray]] = {}
    reached: dict[str, list[float]] = {}
    for seed in range(seeds):
        worlds[0].start(1000 + seed)
        earlier = proposer(space_before, worlds[0], 1000 + seed, [], enqueued=False, beta=None)
        search(worlds[0], earlier, horizons[0], default_rule(worlds[0].epochs))
        taken = take(earlier.study.get_trials(deepcopy=False), space)
        for variant, make in variants(space, worlds[1]).items():
            worlds[1].start(seed)
            whole = taken if variant.startswith("enqueued") else []
            found = search(worlds[1], make(seed, taken), horizons[1], default_rule(worlds[1].epochs), whole)
            regrets.setdefault(variant, []).append(found)
            there = SHARES[found <= regrets["cold"][-1][-1] + 1e-12]
            reached.setdefault(variant, []).append(float(there[0]) if len(there) else np.inf)
    rows: list[dict[str, object]] = []
    for variant, found in regrets.items():
        at = reached[variant]
        for quartile, part in (("lower", 25), ("median", 50), ("upper", 75)):
            values = np.percentile(np.array(found), part, axis=0).round(4)
            shares = dict(zip(map(str, SHARES), values.tolist(), strict=True))
            share = np.percentile(at, part, method="nearest")
            rows.append({"set": name, "earlier": kind, "sampler": variant, "quartile": quartile, "seeds": seeds,
                         "reached": share, "minutes": round(horizons[1] / 60, 1), **shares})  # fmt: skip
    return rows


def publish(results: pd.DataFrame, out: Path) -> None:
    lines = ["# Searches after an earlier one\n", "Median regret over the seeds after a share of the horizon, and the"]
    lines.append("share after which a search is as good as the cold search of the same seed in the end.\n")
    for (name, kind), some in results.groupby(["set", "earlier"], sort=False):
        medians = some[some["quartile"] == "median"]
        rows = [
            {"search": each["sampler"]}
            | {f"{share:.0%}": f"{each[str(share)]:.3f}" for share in SHOWN}
            | {"cold's end at": "never" if np.isinf(each["reached"]) else f"{each['reached']:.0%}"}
            for _, each in medians.iterrows()
        ]
        seeds, minutes = medians["seeds"].iloc[0], medians["minutes"].iloc[0]
        lines += [f"## {name}, earlier search {kind}, {seeds} seeds, 100 % is {minutes} min\n"]
        lines.append(markdown(pd.DataFrame(rows)))
    (out / "warm-start.md").write_text("\n".join(lines))


def main() -> None:
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--curves", type=Path, default=HERE)
    given = parser.parse_args()
    out = given.curves / "results"
    for kind in given.kinds:
        for name in given.sets:
            rows = pd.DataFrame(replay(name, kind, given.seeds, given.curves))
            publish(merge(out / "warm-start.csv", rows, ["set", "earlier", "sampler"]), out)
            shown = rows[rows["quartile"] == "median"][["set", "earlier", "sampler", *map(str, SHOWN), "reached"]]
            print(shown.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
