"""The simulation's tables as Markdown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from automl.ranking.statistics.wilson import Z95, wilson_limits
from benchmarks.selection.worlds import POPULATIONS

__all__ = ["INHERITED", "summary"]

COVERED = (0.93, 0.97)  # how often 95 % intervals are to hold the truth
TIED = 0.95  # how often the tied set is to hold the trial that is really best, at least
LEFT = 0.3  # points of bias that may be left of a large one
LARGE = 1.5  # points that the naive estimate must be off by for the correction to be judged
INHERITED = "adaptive, shared"  # luck that no resampling can see
ESTIMATES = ("naive", "bootstrap of the bias", "empirical Bayes", "bootstrap bias correction", "corrected")
OF_KIND = ("population", "images", "trials", "studies", "confirmed bias sd")  # not averaged
OF_SIZE = ("images", "trials", "groups")

Limits = tuple["pd.Series | np.ndarray", "pd.Series | np.ndarray"]


def summary(tables: Mapping[str, pd.DataFrame], *, quick: bool) -> str:
    """Return the tables and what is to be read from them."""
    studies = tables["studies"]
    apart = studies["population"] == INHERITED
    large = studies["naive bias"] > LARGE
    parts = [
        "# Simulated studies\n",
        "Written by `python -m benchmarks.selection" + (" --quick`, too few studies to judge by." if quick else "`."),
        "True accuracies are known here, so it can be seen whether intervals hold them, how far the best score is from",
        "what the best trial is worth, and whether the trial that is really best is among the tied. Points are 0.01.",
        "Every kind of study has a row in `studies.csv`; the tables here are means over kinds.\n",
        "Populations of trials: " + "; ".join(f"*{name}*: {what}" for name, what in POPULATIONS.items()) + ".",
        "Trials share 0.8 of what makes an image hard, about the median of real ones (0.5 to 1 by study,",
        "`correlations`), and in some kinds of study 0.5 or nothing.\n",
        "## Against what was asked\n",
        "Every row of a results file counts once, also those of few simulated studies, whose share is itself uncertain",
        "(that of 95 % in 60 studies by 2.8 points, one standard error). *Clearly out* are rows whose own 95 %",
        "interval misses what was asked altogether; of few studies a row can hardly be. *Sizes met* has the means of",
        "each number of images (with numbers of trials, or groups instead), over all that was simulated of it. What no",
        "resampling can see, and only new images show, is luck that trials inherit from those that they were proposed",
        "near. After a single run, the score in the search has a say in what is expected, too.\n",
        _markdown(_targets(tables, large, apart)),
        "## Intervals of the accuracy\n",
        "Exact, by the binomial distribution, and averaged evenly over true accuracies from 0.600 to 0.995. A count of",
        "images is whole, so the coverage of any such interval swings about its mean; the worst point is named.\n",
        _markdown(tables["intervals"]),
        "## Intervals where images come in groups\n",
        "Mean over correlations within groups. *If groups were ignored* is Wilson's interval of all images.\n",
        _markdown(_mean(tables["groups"], ["groups", "accuracy"], ["coverage", "if groups were ignored"])),
        "## Ties where images come in few groups\n",
        "Of trials that are all alike, so that any is the best and no difference is one: how often the tied set holds",
        "a given one, and how often the interval of the difference of two leaves out 0 (5 % are asked for, at most).\n",
        _markdown(tables["few groups"].drop(columns="studies")),
        "## Intervals of the other metrics\n",
        "Mean over classifiers, and the worst of them; *bootstrap* is a percentile bootstrap.\n",
        _markdown(_metrics(tables["metrics"])),
        "## The best score, naive and corrected\n",
        f"Where the naive estimate is off by more than {LARGE} points ({(large & ~apart).sum()} of {(~apart).sum()}",
        "kinds of study; standard errors are of the simulation):\n",
        _markdown(_verdict(studies[large & ~apart])),
        "The same where later trials inherit mistakes from the trials that they were proposed near",
        f"({(large & apart).sum()} kinds). The whole search has then adapted to the images, which no resampling of",
        "them can see; only new images can: confirmation runs on new splits, and the test images.\n",
        _markdown(_verdict(studies[large & apart])),
        "## Training the best again\n",
        "The trials tied with the best (three to ten), each trained three times more on splits of their own. They are",
        "of four backbones, each with its cost; the winner is the cheapest within a standard error of the best mean.",
        "*Confirmed* is what is expected of the winner, its mean less what being picked by it explains. Over sizes:\n",
        _markdown(_again(tables["confirmation"], ["population"])),
        "By size:\n",
        _markdown(_again(tables["confirmation"], ["images", "trials"])),
        "With fewer runs, and where seeds matter more to some configurations than to others (300 images, 30 trials,",
        "all populations; `unalike`: of some by 0.1 points, of some by 3):\n",
        _markdown(tables["repeats"].drop(columns=["studies", "confirmed bias sd"])),
        "## The best score, by size and population\n",
        "By size, without inherited mistakes; `sd` is the standard deviation of what the corrected estimate misses the",
        "truth by in one study, `intervals hold` is of all trials, the last two columns are of its first.\n",
        _markdown(_biases(studies[~apart], ["images", "trials"])),
        "By population:\n",
        _markdown(_biases(studies, ["population"])),
        "## The tied set\n",
        "How often it holds the trial that is really best, and how many trials it holds on average; beside it paired",
        "comparisons with a Bonferroni correction, and with none.\n",
        _markdown(_ties(studies, ["images", "trials"])),
        "By population:\n",
        _markdown(_ties(studies, ["population"])),
    ]
    return "\n".join(parts).rstrip() + "\n"


def _targets(tables: Mapping[str, pd.DataFrame], large: pd.Series, apart: pd.Series) -> pd.DataFrame:
    """Return what each target came to: lowest, mean, highest, and how many rows met it. `large`: the rows of studies
    with a large naive bias; `apart`: those where mistakes are inherited."""
    studies, confirmation = tables["studies"], tables["confirmation"]
    rows = []

    def add(
        what: str, asked: str, table: pd.DataFrame, column: str, low: float, high: float, own: Limits | None = None
    ) -> None:
        values, points, size = table[column], "points" in asked, [table[name] for name in OF_SIZE if name in table]
        found = {"lowest": values.min(), "mean": values.mean(), "highest": values.max()}
        shown = {name: f"{each:.2f}" if points else f"{100 * each:.1f} %" for name, each in found.items()}
        by_size = values.groupby(size).mean() if size else values[:0]
        met, met_by_size = (f"{int(each.between(low, high).sum())} of {len(each)}" for each in (values, by_size))
        out = {"below": int((values < low).sum()), "above": int((values > high).sum())}
        out["clearly out"] = "–" if own is None else int(((own[1] < low) | (own[0] > high)).sum())
        out["sizes met"] = met_by_size if size else "–"
        rows.append({"what": what, "asked": asked, **shown, "met": met, **out})

    def covered(what: str, table: pd.DataFrame, column: str = "coverage") -> None:
        add(what, "93 to 97 %", table, column, *COVERED, wilson_limits(table[column], table["studies"]))

    def unbiased(what: str, table: pd.DataFrame, name: str) -> None:
        error = Z95 * table[f"{name} sd"] / np.sqrt(table["studies"])
        add(what, f"within {LEFT} points", table, name, -LEFT, LEFT, (table[name] - error, table[name] + error))

    again = "confirmed interval holds the refit"
    once = tables["repeats"][tables["repeats"]["runs"] == 1]
    intervals, exact = tables["intervals"], tables["intervals"]["mean coverage"]
    add("interval of the accuracy, exact", "93 to 97 %", intervals, "mean coverage", *COVERED, (exact, exact))
    add("the same, of each simulated study's trials", "93 to 97 %", studies, "intervals hold", *COVERED)
    covered("the same, where images come in groups", tables["groups"])
    for metric, of_metric in tables["metrics"].groupby("metric", sort=False):
        covered(f"interval of {metric}", of_metric)
    covered("interval of the corrected best score", studies[~apart], "corrected interval holds")
    covered("the same, where later trials inherit mistakes", studies[apart], "corrected interval holds")
    covered("interval of the winner after training again", confirmation, again)
    covered("the same, after a single run", once, again)
    own = wilson_limits(studies["tied holds best"], studies["studies"])
    add("tied set holds the truly best", "at least 95 %", studies, "tied holds best", TIED, 1.0, own)
    few = tables["few groups"]
    own = wilson_limits(few["tied holds best"], few["studies"])
    add("the same, where images come in few groups", "at least 95 %", few, "tied holds best", TIED, 1.0, own)
    unbiased("bias of the corrected best score", studies[large & ~apart], "corrected bias")
    unbiased("the same, where later trials inherit mistakes", studies[large & apart], "corrected bias")
    unbiased("bias of the winner after training again", confirmation, "confirmed bias")
    unbiased("the same, after a single run", once, "confirmed bias")
    return pd.DataFrame(rows)


def _verdict(large: pd.DataFrame) -> pd.DataFrame:
    error = (large["corrected bias sd"] / np.sqrt(large["studies"])).to_numpy()
    rows = []
    for name in ESTIMATES:
        bias = large[f"{name} bias"]
        rows.append(
            {
                "estimate": name,
                "mean bias": bias.mean(),
                "mean absolute bias": bias.abs().mean(),
                "largest": bias.abs().max(),
                "share within 0.3": (bias.abs() <= 0.3).mean(),
                "within 0.3 and two standard errors": (bias.abs() <= 0.3 + 2 * error).mean(),
                "mean sd in one study": large[f"{name} bias sd"].mean(),
            }
        )
    return pd.DataFrame(rows)


def _biases(studies: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    names = ["naive bias", "bootstrap bias correction bias", "empirical Bayes bias", "corrected bias"]
    more = ["corrected bias sd", "intervals hold", "naive interval holds", "corrected interval holds"]
    return _mean(studies, keys, names + more)


def _again(confirmation: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    return _mean(confirmation, keys, [name for name in confirmation if name not in OF_KIND])


def _ties(studies: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    columns = ["tied holds best", "tied"]
    columns += [f"{kind} {what}" for kind in ("Bonferroni", "uncorrected") for what in ("holds best", "tied")]
    return _mean(studies, keys, columns)


def _metrics(metrics: pd.DataFrame) -> pd.DataFrame:
    grouped = metrics.groupby(["metric", "images"], sort=False)
    columns = {}
    for kind in ("coverage", "bootstrap"):
        columns[kind], columns[f"worst {kind}"] = grouped[kind].mean(), grouped[kind].min()
    return pd.DataFrame(columns).reset_index()


def _mean(table: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    return table.groupby(keys, sort=False)[columns].mean().reset_index()


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: object, column: str) -> str:
        if isinstance(value, float) and np.isnan(value):
            return "–"
        if not isinstance(value, float):
            return str(value)
        if column in ("tied", "Bonferroni tied", "uncorrected tied"):
            return f"{value:.1f}"
        share = any(word in column for word in ("coverage", "hold", "share", "within", "bootstrap", "ignored"))
        share = share and "bias" not in column
        return f"{100 * value:.1f} %" if share else f"{value:.3f}" if "accuracy" in column else f"{value:.2f}"

    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    for row in table.itertuples(index=False):
        lines.append(" | ".join(cell(value, column) for value, column in zip(row, table.columns, strict=True)))
    return "".join(f"| {line} |\n" for line in lines)
