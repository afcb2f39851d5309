"""The leaderboard as a table for the terminal, with the answer in words below it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from automl.ranking import words
from automl.ranking.answer import answer
from automl.ranking.facts import Facts
from automl.ranking.latency import legend
from automl.ranking.leaderboard import Leaderboard, Row
from automl.ranking.reasons import why_lines

__all__ = ["table"]

ROWS = 25
BACKBONES = 12
WIDE = 130
_ONLY_WIDE = ("time", "latency")


def table(board: Leaderboard, facts: Facts | None = None, *, width: int | None = None) -> str:
    """Return the best rows, what failed, why it is so, and the answer, as plain text of at most `width` columns (the
    terminal's)."""
    console = Console(file=io.StringIO(), width=width or max(100, shutil.get_terminal_size((150, 40)).columns))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    left_out = {*(() if console.width >= WIDE else _ONLY_WIDE), *(() if board.confirmation else ("again",))}
    shown = [index for index, (name, _) in enumerate(_COLUMNS) if name not in left_out]
    for name, justify in (_COLUMNS[index] for index in shown):
        grid.add_column(name, justify=justify, no_wrap=name != "params")  # type: ignore[arg-type]
    for row in board.rows[:ROWS]:
        cells = _cells(board, row)
        grid.add_row(*(cells[index] for index in shown))
    if board.rows:
        console.print(grid)
    for line in _legend(board, latency="latency" not in left_out):
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    if len(board.rows) > ROWS:
        console.print(f"{len(board.rows) - ROWS} more rows: --format csv shows all")
    if facts is not None:
        _print_why(console, board, facts)
    for failure in board.failures[:5]:
        where = f" ({words.short(failure.backbone)})" if failure.backbone else ""
        console.print(
            f"trial {failure.trial}{where}: {failure.reason}: {failure.message}", markup=False, soft_wrap=True
        )
    if len(board.failures) > 5:
        console.print(f"{len(board.failures) - 5} more trials without a score")
    if facts is not None and facts.limits:
        others = f"Among trials with {facts.limits}; {words.left_out(facts.excluded)}."
        console.print(others, markup=False, soft_wrap=True, highlight=False)
    for sentence in (*board.notes, *(answer(board) if facts is None else facts.answer)):
        console.print(sentence, markup=False, soft_wrap=True, highlight=False)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def _legend(board: Leaderboard, *, latency: bool) -> list[str]:
    """Say what the columns "tied", "again" and "latency" mean, with the rule by which the winner was chosen."""
    lines = []
    if board.tied:
        lines.append("=: cannot be told apart from the best, corrected for how many trials were compared.")
    if board.confirmation:
        lines.append(f"again: the mean score of what was trained again. {board.confirmation.rule}")
    if latency and (what := legend(row.latency for row in board.rows[:ROWS])):
        lines.append(what)
    return lines


def _print_why(console: Console, board: Leaderboard, facts: Facts) -> None:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    names = ("backbone", "best", "median", "ranked", "failed", "time", "k-NN", "linear")
    for name in names:
        grid.add_column(name, justify="left" if name == "backbone" else "right", no_wrap=True)
    for each in facts.why.backbones[:BACKBONES]:
        scores = (words.number(board.metric, value) for value in (each.best_score, each.median_score))
        probes = (words.number("accuracy", value) for value in (each.knn_accuracy, each.linear_accuracy))
        counts = (str(each.ranked), str(each.failed), words.duration(each.train_seconds))
        grid.add_row(words.short(each.backbone), *scores, *counts, *probes)
    if facts.why.backbones:
        console.print(grid)
    for line in why_lines(board, facts):
        console.print(line, markup=False, soft_wrap=True, highlight=False)
    console.print()


_COLUMNS = (
    ("rank", "right"), ("trial", "right"), ("backbone", "left"), ("again", "right"),
    ("score", "right"), ("95 % interval", "left"),
    ("tied", "center"), ("epochs", "right"), ("time", "right"), ("latency", "right"), ("params", "left"),
)  # fmt: skip


def _compact(params: Mapping[str, Any]) -> str:
    """Params as few characters: ``depth 0.75  lr 0.002  light  dropout=0.2``."""
    parts = []
    for name, value in params.items():
        number = f"{value:.2g}" if isinstance(value, float) else str(value)
        parts.append(_SHORT[name].format(number) if name in _SHORT else f"{name}={number}")
    return "  ".join(parts)


_SHORT = {"freeze_depth": "depth {}", "learning_rate": "lr {}", "augmentation": "{}", "resolution": "{} px"}


def _cells(board: Leaderboard, row: Row) -> list[str]:
    state = f" {row.ended}" if row.ended else ""
    return [
        str(row.rank),
        str(row.trial),
        words.short(row.backbone),
        words.number(board.metric, row.confirmed_score) if row.confirmed_score is not None else "",
        words.number(board.metric, row.score),
        words.bounds(board.metric, row.ci95),
        "=" if row.tied_with_best else "",
        f"{row.epochs}/{row.max_epochs}{state}" if row.max_epochs else str(row.epochs),
        words.duration(row.train_seconds),
        words.milliseconds(row.latency_ms),
        _compact(row.params),
    ]
