"""Replay early-stopping rules (`stopping.py`) over the recorded curves, in virtual time, and publish their regret.

    python -m benchmarks.curves.replay_schedulers [--sets textile] [--workers 2] [--rules "ASHA per"] [--orders 200]

Workers take the configurations in a random order, asynchronously; an epoch takes its recorded seconds. A rule sees what
the search's scheduler sees after each epoch and says whether the trial goes on. What the search would hand over is the
best of the trials that ran in full or still run (of all, where there is none), retrained in full. Its regret is the
best final accuracy recorded minus its own, by validation accuracy (what rules see) and by the 400 held-out images.

Heads on cached features, which take seconds and which the search never stops, are left out. Besides the recorded sets
there is a simulated one, `recorded.slow_warmers`: the recorded backbones are three of a kind, and a rule must stand
where they are not, too.

Merges into `results/schedulers.csv` beside the curves (means over the orders with 95 % intervals), and writes from all
that is in there `results/schedulers.md` (two workers) and `results/schedulers-<set>.svg` (regret by epochs spent).
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.curves import recorded
from benchmarks.curves.recorded import HERE, SETS, Curve
from benchmarks.curves.stopping import Rule, kind, rules
from benchmarks.tables import markdown, merge

SIMULATED = "slow-warmers"  # `recorded.slow_warmers`
SHARES = np.linspace(0.04, 1.0, 25).round(2)  # of the epochs of no early stopping

DRAWN = ("none", "ASHA 1/3", "ASHA 3/3", "ASHA per backbone 2/3", "ASHA per both 2/3", "promotion per kind 1/3",
         "search's, per kind or both 1/3",
         "thaw by improvement per second, grace 1", "reach, grace 1, quantile 1")  # fmt: skip


def judged(name: str, folder: Path) -> list[list[Curve]]:
    """Return the configurations of set `name` that the search compares at rungs; of the simulated set, 40 draws."""
    if name == SIMULATED:
        return [recorded.slow_warmers(seed) for seed in range(40)]
    return [[each for each in recorded.load_curves(name, folder) if not each.head_only]]


def replay(curves: list[Curve], rule: Rule, workers: int) -> list[tuple[float, int, int]]:
    """Return (seconds, epochs spent, position in `curves` of what would be handed over) after each epoch of a trial.

    A rule with a method `promote` pauses trials instead of stopping them, and is asked which to resume by each worker
    that becomes free, before that takes a new one.
    """
    promote = getattr(rule, "promote", lambda curves: None)
    waiting, idle, now, spent = iter(range(len(curves))), workers, 0.0, 0
    ends: list[tuple[float, int, int]] = []
    reached: dict[int, int] = {}
    standing: dict[int, tuple[float, int]] = {}  # running or complete → its last value and minus when it started
    stopped: dict[int, tuple[float, int]] = {}  # handed over only where nothing else is there
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
            stopped[trial] = (curve.values[epoch - 1] if epoch <= len(curve.values) else 0.0, -trial)
        if goes_on and epoch < len(curve.seconds):
            heapq.heappush(ends, (now + curve.seconds[epoch], trial, epoch + 1))
        else:
            idle += 1
        there = standing or stopped
        steps.append((now, spent, max(there, key=there.__getitem__)))


def measure(draws: list[list[Curve]], make: Callable[[], Rule], orders: int, workers: int) -> dict[str, float]:
    """Return means and half widths over `orders` orders, and the mean regret at each of SHARES of the epochs."""
    regrets, ends = [], []
    for seed in range(orders):
        curves = draws[seed % len(draws)]
        final, test = np.array([each.final for each in curves]), np.array([each.test for each in curves])
        epochs, seconds = sum(len(each.seconds) for each in curves), sum(sum(each.seconds) for each in curves)
        order = np.random.default_rng(seed).permutation(len(curves))
        at, spent, picks = map(np.array, zip(*replay([curves[each] for each in order], make(), workers), strict=True))
        picked = order[picks]
        index = np.searchsorted(spent / epochs, SHARES, side="right") - 1
        regrets.append(final.max() - np.where(index < 0, 0.0, final[picked[np.maximum(index, 0)]]))
        end = {"regret": final.max() - final[picked[-1]], "test regret": test.max() - test[picked[-1]]}
        ends.append({**end, "epochs": spent[-1] / epochs, "seconds": at[-1] * workers / seconds})
    found = {}
    for name, values in pd.DataFrame(ends).items():
        mean, half = recorded.interval(values.to_numpy())
        found |= {str(name): round(mean, 4), f"{name} ±": round(half, 4)}
    return found | dict(zip(map(str, SHARES), np.mean(regrets, axis=0).round(4), strict=True))


def agreement(curves: list[Curve]) -> pd.DataFrame:
    """Return the rank correlation of each epoch's accuracy with the last one's: low where slow warmers are."""
    groups: dict[str, list[Curve]] = {}
    for each in curves:
        for name in ("all", str(kind(each)), f"{each.params['resolution']} px"):
            groups.setdefault(name, []).extend([] if each.diverged else [each])
    rows = []
    for name, some in sorted(groups.items()):
        final = [each.final for each in some]
        early = {
            f"epoch {epoch}": f"{spearmanr([each.values[epoch - 1] for each in some], final)[0]:.2f}"
            for epoch in range(1, len(some[0].values) if len(some) > 3 else 1)
        }
        rows.append({"trials": name, "number": len(some), "best": max(final, default=0.0), **early})
    return pd.DataFrame(rows).fillna("")


def publish(results: pd.DataFrame, folder: Path) -> None:
    """Write the table and the charts of everything in `results` for two workers."""
    two = results[results["workers"] == 2]
    charts = folder / "results"
    lines = ["# Early stopping\n", "Two workers; means over random orders, epochs as a share of no early stopping.\n"]
    for name, some in two.groupby("set", sort=False):
        curves = judged(str(name), folder)[0]
        some = some[some["configurations"] == len(curves)].sort_values("epochs")
        lines.append(f"## {name}, {len(curves)} configurations, {some['orders'].max()} orders\n")
        shown = some[["rule", "epochs", "seconds"]].astype({"epochs": str, "seconds": str})
        for regret in ("regret", "test regret"):
            shown[regret] = [f"{a:.4f} ± {b:.4f}" for a, b in zip(some[regret], some[f"{regret} ±"], strict=True)]
        lines += [markdown(shown), "Rank correlation of the accuracy after an epoch with the last one:\n"]
        lines.append(markdown(agreement(curves)))
        drawn = some[some["rule"].isin(DRAWN)].set_index("rule")[[str(share) for share in SHARES]]
        series = {str(rule): (SHARES, regrets.to_numpy(float)) for rule, regrets in drawn.iterrows()}
        if not series:
            continue
        recorded.line_chart(
            charts / f"schedulers-{name}.svg", series, title=f"{name}: mean regret, two workers",
            x="epochs spent, share of no early stopping", y="regret",
        )  # fmt: skip
    (charts / "schedulers.md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=(*SETS, SIMULATED), choices=(*SETS, SIMULATED))
    parser.add_argument("--rules", nargs="+", default=[""], help="the beginnings of their names")
    parser.add_argument("--orders", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--curves", type=Path, default=HERE)
    given = parser.parse_args()
    for name in given.sets:
        draws = judged(name, given.curves)
        rows = []
        for rule, make in rules(max(len(each.values) for each in draws[0])).items():
            for workers in given.workers if rule.startswith(tuple(given.rules)) else ():
                found = measure(draws, make, given.orders, workers)
                given_rule = {"set": name, "rule": rule, "workers": workers, "orders": given.orders}
                rows.append({**given_rule, "configurations": len(draws[0]), **found})
                print(name, rule, workers, *[f"{key} {found[key]}" for key in ("regret", "test regret", "epochs")])
        results = merge(given.curves / "results/schedulers.csv", pd.DataFrame(rows), ["set", "rule", "workers"])
    publish(results, given.curves)


if __name__ == "__main__":
    main()
