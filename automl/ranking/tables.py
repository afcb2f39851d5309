"""The leaderboard as CSV and Markdown, harmless whatever a class, a parameter or a message is called."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl.ranking import latency, words
from automl.ranking.answer import answer
from automl.ranking.reasons import why_lines
from automl.ranking.statistics import METRICS
from automl.spreadsheet import spreadsheet_safe

if TYPE_CHECKING:
    from automl.ranking.confirmed import Confirmation
    from automl.ranking.facts import Facts
    from automl.ranking.leaderboard import Failure, Leaderboard, Row

__all__ = ["COLUMNS", "ROWS", "text_cell", "to_csv", "to_markdown"]

COLUMNS = (
    *("rank", "trial", "state", "reason", "backbone", "score", "ci95_low", "ci95_high", "ci_method", "tied_with_best"),
    *("epochs", "max_epochs", "train_seconds", "model_parameters", "trainable_parameters", "latency_ms"),
    *latency.COLUMNS,
    *("peak_memory_mb", "origin", "confirmed_score", "confirmed_ci95_low", "confirmed_ci95_high", "command", "message"),
)
ROWS = 100


def to_csv(board: Leaderboard) -> str:
    """Return one line per trial with a column per parameter and metric; trials without a score last, unranked."""
    rows: tuple[Row | Failure, ...] = (*board.rows, *board.failures)
    names = sorted({name for row in rows for name in row.params})
    header = [*COLUMNS, *(f"param_{name}" for name in names), *(f"metric_{name}" for name in METRICS)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(map(spreadsheet_safe, header))
    for row in rows:
        low, high = getattr(row, "ci95", None) or (None, None)
        metrics = getattr(row, "metrics", {})
        again = getattr(row, "confirmed_ci95", None) or (None, None)
        ends = {"ci95_low": low, "ci95_high": high, "confirmed_ci95_low": again[0], "confirmed_ci95_high": again[1]}
        ends |= latency.flat(getattr(row, "latency", None))
        cells = [ends.get(name, getattr(row, name, None)) for name in COLUMNS]
        cells += [row.params.get(name) for name in names] + [metrics.get(name) for name in METRICS]
        writer.writerow(map(spreadsheet_safe, cells))
    return text.getvalue()


def to_markdown(board: Leaderboard, facts: Facts | None = None) -> str:
    """Return the answer in sentences, the first 100 rows as a table, why it is so, and the rules."""
    sentences = answer(board) if facts is None else list(facts.answer)
    if facts is not None and facts.limits:
        sentences.insert(0, f"Among trials with {facts.limits} ({words.left_out(facts.excluded)}):")
    lines = [f"# Leaderboard of {text_cell(board.study)}", "", text_cell(" ".join(sentences)), ""]
    if board.confirmation is not None:
        lines += _confirmed(board, board.confirmation)
    if board.rows:
        head = f"rank | {words.metric_name(board.metric)} | 95 % interval | trial | backbone | params"
        lines += [f"| {head} | epochs | training | parameters | latency | |", f"|---:|---:|---|---:{'|---' * 7}|"]
    for row in board.rows[:ROWS]:
        cells = [
            f"{row.rank} (tied)" if row.tied_with_best and board.tied else str(row.rank),
            words.number(board.metric, row.score),
            words.bounds(board.metric, row.ci95),
            str(row.trial),
            row.backbone,
            ", ".join(words.describe(row.params)),
            str(row.epochs),
            words.duration(row.train_seconds),
            words.integer(row.model_parameters),
            words.milliseconds(row.latency_ms),
            row.label,
        ]
        lines.append(_line(cells))
    if len(board.rows) > ROWS:
        lines += ["", f"{len(board.rows) - ROWS:,} more rows are in leaderboard.csv."]
    if what := latency.legend(row.latency for row in board.rows[:ROWS]):
        lines += ["", text_cell(what)]
    if facts is not None:
        lines += _why(board, facts)
    if board.failures:
        lines += ["", "Trials without a score:", ""]
    for failed in board.failures[:ROWS]:
        message = f": {failed.message}" if failed.message else ""
        lines.append(f"- trial {failed.trial}, {text_cell(failed.backbone)}, {text_cell(failed.reason + message)}")
    if len(board.failures) > ROWS:
        lines.append(f"- {len(board.failures) - ROWS:,} more are in leaderboard.csv")
    lines += ["", "How it is ranked:", "", *(f"- {text_cell(rule)}" for rule in board.rules)]
    if board.notes:
        lines += ["", "Notes:", "", *(f"- {text_cell(note)}" for note in board.notes)]
    return "\n".join(lines) + "\n"


def _confirmed(board: Leaderboard, found: Confirmation) -> list[str]:
    """The configurations that were trained again, the best mean first."""
    where = "on new splits" if found.redrawn else "on the same validation images"
    lines = [f"Trained again {where}:", "", "| trial | mean | 95 % interval | runs | behind the best mean |"]
    lines.append("|---:|---:|---|---|---|")
    for each in found.trials:
        cells = [
            f"{each.trial} (chosen)" if each.trial == found.winner else str(each.trial),
            words.number(board.metric, each.score),
            words.bounds(board.metric, each.ci95),
            ", ".join(words.number(board.metric, score) for score in each.scores) or words.NOT_TRAINED_AGAIN,
            words.difference(board.metric, each.behind_best),
        ]
        lines.append(_line(cells))
    lines += [f"- trial {number} could not be: {text_cell(why)}" for number, why in found.failed.items()]
    return [*lines, ""]


def _why(board: Leaderboard, facts: Facts) -> list[str]:
    """Backbones, fronts, importance, what was not tried, and where the time went."""
    lines: list[str] = []
    found = facts.why
    if found.backbones:
        head = (
            f"backbone | best {words.metric_name(board.metric)} | median | ranked | failed | training | k-NN | linear"
        )
        lines += [
            "",
            "Backbones, by their best trial (realised rank: of the best that trained past the head):",
            "",
            f"| {head} | realised rank |",
            f"|---{'|---:' * 8}|",
        ]
    for each in found.backbones:
        probes = [
            words.number("accuracy", value) + (f" ({rank})" if rank else "")
            for value, rank in ((each.knn_accuracy, each.knn_rank), (each.linear_accuracy, each.linear_rank))
        ]
        score, median = (words.number(board.metric, value) for value in (each.best_score, each.median_score))
        score += " (head only)" if each.best_is_head else ""
        counts = [str(each.ranked), str(each.failed), words.duration(each.train_seconds)]
        rank = "–" if each.realised_rank is None else str(each.realised_rank)
        lines.append(_line([each.backbone, score, median, *counts, *probes, rank]))
    lines += ["", *(f"- {text_cell(line)}" for line in why_lines(board, facts))]
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(text_cell, cells))} |"


def text_cell(text: str) -> str:
    """Return the text of one table cell of Markdown, without markup of its own."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
