"""What the race found, as tables, a plot, and the verdict against its targets. Needs only its CSV files.

`race.csv` has one row per set, seed, contender and budget; `curves.csv` has the incumbents of every run over time.
Where a contender handed nothing over, its test accuracy is empty in the file and 0 in the medians.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib import rcParams
from matplotlib.figure import Figure

from benchmarks.curves.recorded import COLOURS
from benchmarks.race.contenders import KINDS
from benchmarks.tables import COMMITS, markdown

KEYS = ["set", "seed", "contender", "minutes"]
NO_BUDGET = 0.0  # the minutes of a contender that takes as long as it takes
TEXTILE_TARGET = 0.97
TOLERANCE = 0.02  # by which `automl search` may take longer than its budget: what a rival finds later does not count


class Verdict(NamedTuple):
    """A target, what was measured, and whether it is met: None where runs are missing."""

    target: str
    measured: str
    met: bool | None


def medians(rows: pd.DataFrame) -> pd.Series:
    """Return the median test accuracy over the seeds, by set, contender and minutes."""
    return rows.assign(test=rows["test_accuracy"].fillna(0.0)).groupby(["set", "contender", "minutes"])["test"].median()


def judge(rows: pd.DataFrame, *, short: float = 3.0, long: float = 8.0) -> list[Verdict]:
    """Hold `rows` against the targets: at `long` minutes a median of 0.97 on textile and on every set at least the best
    rival's; at `short` minutes at least the best rival's that searches for `long`. Fair only if budgets are kept."""
    found = medians(rows)
    searches = [(name, long) for name, kind in KINDS.items() if kind == "peers"]
    rivals = [*searches, *((name, NO_BUDGET) for name, kind in KINDS.items() if kind == "fixed")]
    verdicts = []
    ours = found.get(("textile", "automl", long))
    met = None if ours is None else bool(ours >= TEXTILE_TARGET)
    verdicts.append(Verdict(f"textile, {long:g} min: at least {TEXTILE_TARGET}", _shown(ours), met))
    for name in sorted(set(rows["set"])):
        for minutes, against, whose in (
            (long, rivals, "rival's"),
            (short, searches, f"rival's that searches for {long:g} min"),
        ):
            ours = found.get((name, "automl", minutes))
            theirs = {contender: found.get((name, contender, budget)) for contender, budget in against}
            known = {contender: value for contender, value in theirs.items() if value is not None}
            best = max(known, key=lambda each: known[each], default=None)
            met = None if ours is None or best is None or len(known) < len(theirs) else bool(ours >= known[best])
            measured = f"{_shown(ours)} against {_shown(known.get(best))}" + (f" ({best})" if best else "")
            verdicts.append(Verdict(f"{name}, {minutes:g} min: at least the best {whose}", measured, met))
    for minutes in (short, long):
        own = rows[(rows["contender"] == "automl") & (rows["minutes"] == minutes)]
        share = float(own["wall_seconds"].max()) / (60 * minutes) if len(own) else None
        measured = "not run" if share is None else f"the longest run took {share:.1%}"
        met = None if share is None else share <= 1 + TOLERANCE
        verdicts.append(Verdict(f"{minutes:g} min are kept, up to {TOLERANCE:.0%}", measured, met))
    return verdicts


def _shown(value: float | None) -> str:
    return "not run" if value is None else f"{value:.4f}"


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line per set, contender and budget: the median of the test accuracy, and of every seed."""
    lines = []
    order = rows.assign(place=rows["contender"].map(list(KINDS).index)).sort_values(["set", "place", "minutes", "seed"])
    for (name, contender, minutes), group in order.groupby(["set", "contender", "minutes"], sort=False):
        lines.append(
            {
                "set": name,
                "contender": contender,
                "minutes": f"{minutes:g}" if minutes != NO_BUDGET else "no budget",
                "test accuracy, median": f"{group['test_accuracy'].fillna(0.0).median():.4f}",
                "each seed": ", ".join(
                    "nothing" if pd.isna(value) else f"{value:.4f}" for value in group["test_accuracy"]
                ),
                "validation": ", ".join("-" if pd.isna(value) else f"{value:.3f}" for value in group["validation"]),
                "wall seconds": ", ".join(f"{value:.0f}" for value in group["wall_seconds"]),
                "others' share of the CPU": ", ".join(f"{value:.0%}" for value in group["others_share"]),
                "commits": ", ".join(dict.fromkeys(group["commit"].fillna("earlier"))),
            }
        )
    return pd.DataFrame(lines)


def write(out: Path) -> str:
    """Write `out`/race.md and `out`/race.svg from the CSV files. Returns the text."""
    rows, curves = pd.read_csv(out / "race.csv", dtype=COMMITS), pd.read_csv(out / "curves.csv")
    words = {True: "met", False: "**missed**", None: "not decided"}
    verdicts = pd.DataFrame([each._replace(met=words[each.met]) for each in judge(rows)])
    what = rows[[*KEYS, "model"]].fillna("nothing")
    counts = rows.groupby("set")["test_images"].max()
    seeds = rows.groupby(KEYS[:1] + KEYS[2:])["seed"].nunique()
    over = f"{seeds.min()} to {seeds.max()} seeds" if seeds.min() < seeds.max() else f"{seeds.max()} of 3 seeds"
    text = (
        f"# The race\n\nTest images: {', '.join(f'{name} {count}' for name, count in counts.items())}. "
        f"Medians are over {over}. After the refit "
        "the search's model has seen all given images but its test split's; rivals keep a fifth for validation.\n\n"
        f"{markdown(verdicts)}\n{markdown(table(rows))}\nWhat was handed over:\n\n{markdown(what)}"
    )
    (out / "race.md").write_text(text)
    plot(rows, curves, out / "race.svg")
    return text


def plot(rows: pd.DataFrame, curves: pd.DataFrame, path: Path) -> None:
    """Draw one panel per set: incumbents' accuracy on the contender's own validation images over minutes, a line for
    each seed, and as points the test accuracy of what was handed over; a setting without a budget at the time it took.
    """
    rcParams["svg.hashsalt"] = "race"  # the same figures give the same file
    names = sorted(set(rows["set"]))
    figure = Figure(figsize=(4 + 4 * len(names), 4.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for number, (contender, kind) in enumerate(KINDS.items()):
            colour, label = COLOURS[(number + 1) % len(COLOURS)], contender
            own = rows[(rows["set"] == name) & (rows["contender"] == contender)]
            lines = curves[(curves["set"] == name) & (curves["contender"] == contender)]
            for (_, minutes), line in lines.groupby(["seed", "minutes"]):
                end = minutes if minutes != NO_BUDGET else line["seconds"].max() / 60
                times = [*(line["seconds"] / 60), max(end, line["seconds"].max() / 60)]
                values = [*line["validation"], line["validation"].iloc[-1]]
                axes.step(times, values, where="post", color=colour, linewidth=1, alpha=0.6)
            marker, handed = {"automl": "*", "fixed": "s", "peers": "o"}[kind], own.dropna(subset="test_accuracy")
            minutes = handed["minutes"] if kind == "peers" else handed["wall_seconds"] / 60
            axes.plot(minutes, handed["test_accuracy"], marker, color=colour, markersize=7, label=label)
        axes.set(title=name, xlabel="minutes since the command", ylabel="accuracy")
        axes.set_xlim(left=0)
        axes.grid(color="#dddddd", linewidth=0.6)
    handles, labels = axes.get_legend_handles_labels()
    title = "points: test accuracy of what was handed over; lines: validation accuracy of the incumbents"
    figure.legend(handles, labels, loc="outside lower center", ncols=len(KINDS), title=title)
    figure.savefig(path, metadata={"Date": None})
