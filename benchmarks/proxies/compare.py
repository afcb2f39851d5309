"""Which cheap look predicts the rank of fully fine-tuned backbones, and what it costs: from what `record.py` recorded.

    python -m benchmarks.proxies.compare

Writes `results/tau.csv`, `results/seconds.csv`, `results/proxies.md` and `results/proxies.svg`.

**The rank to predict** is by accuracy on the 550 validation and test images, of the better of the two sound defaults,
the mean of the seeds recorded. **Agreement** is Kendall's tau-b over the backbones of a set: 1 the same order, 0 none.
"mean of sets" is the plain mean of the sets' tau.

**Intervals** are 95 % percentiles of 1,000 bootstrap samples of everything that was drawn: the backbones (with
replacement, within each set), the images that the fine-tuned accuracy was measured on (the same for all backbones), and
the images of each probe and look. The log loss of a look is recorded without its images, so there only backbones and
fine-tuned accuracies are drawn. The seeds of fine-tuning are not drawn: there is one. Differences between two proxies
are taken within a sample, so that what both suffer from cancels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import kendalltau, rankdata

from benchmarks.proxies.charts import interval_chart
from benchmarks.proxies.sets import HERE, SETS
from benchmarks.tables import markdown

OUT = HERE / "results"
SAMPLES = 1000
IMAGES = 550  # validation and test
NAMES = {"textile": "textile, 224 px", "fashion-mnist": "Fashion-MNIST, 96 px", "digits": "digits, 96 px"}
GROUPS = {"all": "all backbones", "pretrained": "pretrained only", "none": "random weights only"}
SCREENING = ("build_seconds", "embed_seconds", "knn_seconds", "linear_seconds", "cost_seconds")

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Recorded:
    """A set: its screening rows, which images each probe and look had right ``(backbones, images)``; and how often
    fine-tuning was, of the seeds, ``(defaults, backbones, images)``."""

    rows: pd.DataFrame
    right: dict[str, Bools]
    fine_tuned: Floats


@dataclass(frozen=True)
class Sample:
    """One bootstrap sample of a set: accuracy by probe or look, fixed figures by name, fine-tuned accuracy."""

    accuracy: dict[str, Floats]
    rows: pd.DataFrame
    fine_tuned: Floats


Proxy = Callable[[Sample], Floats]


def _accuracy(name: str) -> Proxy:
    return lambda sample: sample.accuracy[name]


def _prior(sample: Sample) -> Floats:
    """Published top-1 of the weights; random weights have none and tie for the last place."""
    top1 = sample.rows["published_top1"].to_numpy(float)
    return np.where(sample.rows["weights"] == "none", 0.0, top1)


def _mean_rank(*proxies: Proxy) -> Proxy:
    return lambda sample: np.mean([rankdata(proxy(sample)) for proxy in proxies], axis=0)


KNN, LINEAR, LOOK, HALF = (_accuracy(name) for name in ("knn", "linear", "look", "look_half"))


def _look_loss(sample: Sample) -> Floats:
    return -sample.rows["look_log_loss"].to_numpy(float)


PROXIES: dict[str, Proxy] = {
    "prior": _prior,
    "k-NN": KNN,
    "linear probe": LINEAR,
    "union (mean rank of these three)": _mean_rank(_prior, KNN, LINEAR),
    "k-NN, half the resolution": _accuracy("knn_half"),
    "linear probe, half the resolution": _accuracy("linear_half"),
    "linear probe, both (mean)": lambda sample: LINEAR(sample) + sample.accuracy["linear_half"],
    "look, accuracy": LOOK,
    "look, log loss": _look_loss,
    "look at half, accuracy": HALF,
    "look at half, log loss": lambda sample: -sample.rows["look_half_log_loss"].to_numpy(float),
    "union with the look, accuracy": _mean_rank(_prior, KNN, LINEAR, LOOK),
    "union with the look, log loss": _mean_rank(_prior, KNN, LINEAR, _look_loss),
}
COMPARED = [
    ("linear probe", "k-NN"),
    ("linear probe, both (mean)", "linear probe"),
    ("look, accuracy", "linear probe"),
    ("look, log loss", "linear probe"),
    ("look at half, accuracy", "linear probe"),
    ("look at half, log loss", "linear probe"),
    ("union with the look, accuracy", "union (mean rank of these three)"),
    ("union with the look, log loss", "union (mean rank of these three)"),
]


def load(name: str) -> Recorded | None:
    """Return what is recorded of the set `name`: the backbones that were screened and fine-tuned; None if none were."""
    paths = HERE / f"{name}.csv", HERE / f"{name}-runs.csv"
    if not all(path.exists() for path in paths):
        return None
    rows, runs = (pd.read_csv(path, keep_default_na=False) for path in paths)
    depths = sorted(set(runs["freeze_depth"]))
    counts = runs.groupby("backbone")["freeze_depth"].nunique()
    rows = rows[rows["backbone"].map(counts).eq(len(depths))].reset_index(drop=True)
    if len(rows) < 3:
        return None
    right = {
        key: np.array([bits(row[f"{key}_right"], row[f"{key}_images"]) for _, row in rows.iterrows()])
        for key in ("knn", "linear", "knn_half", "linear_half", "look", "look_half")
    }
    of_run = runs.groupby(["freeze_depth", "backbone"])["right"]
    fine_tuned = [
        [np.mean([bits(each, IMAGES) for each in of_run.get_group((depth, name))], axis=0) for name in rows["backbone"]]
        for depth in depths
    ]
    return Recorded(rows, right, np.array(fine_tuned))


def bits(digits: str, count: int) -> Bools:
    """Inverse of `to_hex`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8))[:count].astype(bool)


def sampled(recorded: Recorded, members: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Sample:
    """Return a bootstrap sample of the backbones `members`, or (without `rng`) what was recorded of them."""

    def drawn(images: int) -> npt.NDArray[np.int64]:
        return np.arange(images) if rng is None else rng.integers(0, images, images)

    chosen = members if rng is None else members[rng.integers(0, len(members), len(members))]
    images = drawn(IMAGES)
    accuracy = {key: right[np.ix_(chosen, drawn(right.shape[1]))].mean(axis=1) for key, right in recorded.right.items()}
    fine_tuned = recorded.fine_tuned[:, chosen][:, :, images].mean(axis=2).max(axis=0)
    return Sample(accuracy, recorded.rows.iloc[chosen], fine_tuned)


def tau(sample: Sample, proxy: Proxy) -> float:
    """Kendall's tau-b of the proxy's order and the fine-tuned one; NaN where one of them knows no order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(kendalltau(proxy(sample), sample.fine_tuned).statistic)


def compare(sets: dict[str, Recorded], group: str) -> pd.DataFrame:
    """Return one row per set (and their mean) and proxy or difference, with its interval."""
    members = {name: np.flatnonzero(each.rows["weights"].eq(group) | (group == "all")) for name, each in sets.items()}
    rng = np.random.default_rng(0)
    measured = {name: [tau(sampled(each, members[name], None), proxy) for proxy in PROXIES.values()]
                for name, each in sets.items()}  # fmt: skip
    spread = {name: np.empty((SAMPLES, len(PROXIES))) for name in sets}
    for name, each in sets.items():
        for number in range(SAMPLES):
            sample = sampled(each, members[name], rng)
            spread[name][number] = [tau(sample, proxy) for proxy in PROXIES.values()]
    if len(sets) > 1:
        measured["mean of sets"] = list(np.mean([measured[name] for name in sets], axis=0))
        spread["mean of sets"] = np.mean([spread[name] for name in sets], axis=0)
    names, rows = list(PROXIES), []
    for name in measured:
        at, around = np.array(measured[name]), spread[name]
        count = len(members[name]) if name in sets else sum(map(len, members.values()))
        of = [(proxy, at[i], around[:, i]) for i, proxy in enumerate(names)]
        for one, other in ((names.index(one), names.index(other)) for one, other in COMPARED):
            of.append((f"{names[one]} − {names[other]}", at[one] - at[other], around[:, one] - around[:, other]))
        for proxy, value, samples in of:
            known = samples[np.isfinite(samples)]
            low, high = np.percentile(known, [2.5, 97.5]) if len(known) and np.isfinite(value) else (np.nan, np.nan)
            row = {"group": group, "set": name, "backbones": count, "proxy": proxy}
            rows.append(row | {"tau": value, "low": low, "high": high})
    return pd.DataFrame(rows)


def seconds(sets: dict[str, Recorded]) -> pd.DataFrame:
    """Return, per set and backbone, CPU seconds of the screening's parts and of one epoch, and the ratios."""
    tables = []
    for name, each in sets.items():
        rows = each.rows
        table = pd.DataFrame({"set": name, "backbone": rows["backbone"], "weights": rows["weights"]})
        table["embed"] = rows["embed_seconds"]
        table["probes"] = rows["knn_seconds"] + rows["linear_seconds"]
        table["cost"] = rows["cost_seconds"]
        table["screening"] = rows[list(SCREENING)].sum(axis=1)
        table["second resolution"] = rows[["embed_half_seconds", "knn_half_seconds", "linear_half_seconds"]].sum(axis=1)
        table["look"] = rows["look_seconds"]
        table["look at half"] = rows["look_half_seconds"]
        table["epoch"] = rows["epoch_seconds"]
        for part in ("screening", "second resolution", "look", "look at half"):
            table[f"{part} / epoch"] = table[part] / table["epoch"]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def main() -> None:
    sets = {name: recorded for name in SETS if (recorded := load(name)) is not None}
    OUT.mkdir(exist_ok=True)
    table = pd.concat([compare(sets, group) for group in GROUPS], ignore_index=True)
    table.round(4).to_csv(OUT / "tau.csv", index=False, lineterminator="\n")
    cost = seconds(sets)
    cost.round(4).to_csv(OUT / "seconds.csv", index=False, lineterminator="\n")
    (OUT / "proxies.md").write_text(report(sets, table, cost), encoding="utf-8")
    shown = table[(table["group"] == "all") & table["proxy"].isin(PROXIES)]
    interval_chart(OUT / "proxies.svg", shown, title="Kendall's tau with the fine-tuned rank, 95 % interval")
    print((OUT / "proxies.md").read_text(encoding="utf-8"))


def report(sets: dict[str, Recorded], table: pd.DataFrame, cost: pd.DataFrame) -> str:
    """Return the results as Markdown."""
    lines = ["# What predicts the fine-tuned rank", "", "Written by `python -m benchmarks.proxies.compare`.", ""]
    for group, title in GROUPS.items():
        part = table[table["group"] == group]
        text = part.apply(lambda row: f"{row['tau']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})", axis=1)
        wide = part.assign(text=text.where(part["tau"].notna(), "–"))
        order = [*PROXIES, *(f"{one} − {other}" for one, other in COMPARED)]
        wide = wide.pivot(index="proxy", columns="set", values="text").loc[order]
        counts = part.groupby("set")["backbones"].first()
        wide = wide[[name for name in [*SETS, "mean of sets"] if name in wide]]
        wide.columns = [f"{NAMES.get(name, name)} ({counts[name]})" for name in wide.columns]
        lines += [f"## Kendall's tau-b, {title} (95 % interval)", "", markdown(wide.reset_index()), ""]
    ratios = cost.groupby("set")[[each for each in cost if str(each).endswith("/ epoch")]].agg(["median", "max"])
    ratios.columns = [f"{part}, {how}" for part, how in ratios.columns]
    lines += ["## CPU seconds against one epoch of fine-tuning everything (300 images, evaluation included)", ""]
    lines += [markdown(ratios.round(2).reset_index()), ""]
    lines += ["screening: build, embed 450 images, both probes, and the measurement of the cost.", ""]
    for name, each in sets.items():
        rows = each.rows
        accuracy = each.fine_tuned.mean(axis=2)
        shown = pd.DataFrame({"backbone": rows["backbone"], "weights": rows["weights"]})
        shown["fine-tuned"] = accuracy.max(axis=0).round(3)
        shown["everything / three quarters frozen"] = [f"{low:.3f} / {high:.3f}" for low, high in accuracy.T]
        shown["prior"] = [f"{float(top1):.3f}" if kind != "none" else "–" for top1, kind in
                          zip(rows["published_top1"], rows["weights"], strict=True)]  # fmt: skip
        for key in ("knn", "linear", "look", "look_half"):
            shown[key] = rows[f"{key}_accuracy"].round(3)
        lines += [f"## {NAMES[name]}", "", markdown(shown.sort_values("fine-tuned", ascending=False)), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
