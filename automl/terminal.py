"""What the command line shows: progress and messages on stderr, results on stdout, signals as exit codes."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich.console
import rich.progress
import typer

from automl.errors import OutputError

if TYPE_CHECKING:
    from automl.data import Dataset
    from automl.ranking.limits import Limits
    from automl.search.cluster import Interrupt
    from automl.search.plan import Plan

__all__ = ["Progress", "close", "log_to", "open_study", "print_board", "say", "show", "show_plan", "signals"]

logger = logging.getLogger("automl")


@contextmanager
def signals(root: Path) -> Iterator[Interrupt]:
    """Catch signals; outside the search itself one ends the command with its exit code."""
    from automl.paths import StudyFolder
    from automl.search.cluster import Interrupt

    with Interrupt().installed() as interrupt:
        try:
            yield interrupt
        except KeyboardInterrupt:
            folder = StudyFolder(root)
            go_on = f"everything is saved. Go on with: automl resume {folder.argument}"
            what = go_on if folder.resolved.exists() else "no study was begun yet"
            say(f"interrupted; {what}")
            raise typer.Exit(interrupt.code or 130) from None


def open_study(folder: Any) -> Any:
    """Open the study of `folder`, to be looked at only."""
    from automl.config import load_config
    from automl.search.snapshot import open_to_read

    return open_to_read(folder, storage=load_config(folder.resolved).search.storage)


def print_board(root: Path, style: str, limits: Limits | None = None, metric: str | None = None) -> None:
    """Print the leaderboard, by `metric` or else the study's own, with what explains it: as table, json, csv or md."""
    from automl.search.snapshot import uncollected

    with uncollected():  # until everything that it was made of is gone again
        text = _board(root, style, limits, metric)
    show(text.rstrip("\n"))


def _board(root: Path, style: str, limits: Limits | None, metric: str | None) -> str:
    from automl.paths import StudyFolder
    from automl.ranking import facts, leaderboard, tables
    from automl.ranking.limits import Limits, limited
    from automl.ranking.reasons import BACKBONES_SHOWN
    from automl.ranking.terminal import table
    from automl.search.snapshot import snapshot

    folder = StudyFolder(root)
    study, within = limited(snapshot(open_study(folder)), limits or Limits())
    board = leaderboard.build(folder, study=study, metric=metric)
    if style == "csv":
        return board.to_csv()
    shown = None if style == "json" else BACKBONES_SHOWN
    found = facts.collect(folder, study, board, within, backbones_shown=shown)
    if style == "json":
        return facts.to_json(board, found)
    return tables.to_markdown(board, found) if style == "md" else table(board, found)


def close(root: Path, page: Path | None, code: int, as_json: bool) -> None:
    """Print the leaderboard and what to do next; exit with the signal's code if there was one."""
    from automl.paths import StudyFolder

    run = StudyFolder(root).argument
    if page is not None:
        print_board(root, "json" if as_json else "table")
    if code:
        say(f"interrupted; everything is saved. Go on with: automl resume {run}")
        raise typer.Exit(code)
    lines = [
        f"Report       {page}",
        f"Model        {root / 'model'}",
        f"Predict      automl predict {run} IMAGES",
        f"Extend       automl resume {run} --budget +1h",
    ]
    say("\n".join(lines))


def show_plan(plan: Plan, dataset: Dataset) -> None:
    from automl.search.show import plan_lines

    for warning in dataset.audit.warnings:
        say(f"audit: {warning}")
    say("\n".join(plan_lines(plan, dataset)))


class Progress:
    """A bar per stage on a terminal; elsewhere plain lines on stderr, at most one every two seconds and stage."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._bars: dict[str, tuple[rich.progress.Progress, rich.progress.TaskID]] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            self._draw(stage, done, total)
            return
        now = time.monotonic()
        if done < total and now - self._last.get(stage, -1e9) < 2.0:
            return
        self._last[stage] = now
        say(f"{stage}: {done}/{total}")

    def _draw(self, stage: str, done: int, total: int) -> None:
        if stage not in self._bars:
            bar = rich.progress.Progress(
                "{task.description:<12}",
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeRemainingColumn(),
                console=rich.console.Console(stderr=True),
            )
            bar.start()
            self._bars[stage] = bar, bar.add_task(stage, total=total)
        bar, task = self._bars[stage]
        bar.update(task, completed=done)
        if done >= total:
            bar.stop()
            del self._bars[stage]


def say(text: str) -> None:
    """Print to stderr; when nobody reads it any more, the work goes on."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def show(text: object) -> None:
    """Print a result to stdout. A reader who has seen enough (``| head``) ends the command without an error.

    Raises:
        OutputError: It cannot be written.
    """
    if sys.stdout is None:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered goes nowhere, in silence
        raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error


def log_to(path: Path) -> None:
    """Send the package's log to stderr, and with times to the study's log file."""
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for before in [*logger.handlers]:
        logger.removeHandler(before)
        before.close()
    handlers: list[logging.Handler] = [_Stderr()]
    handlers[0].setFormatter(logging.Formatter("%(message)s"))
    if path.parent.exists() and not path.parent.is_dir():
        raise OutputError(f"cannot write to {path}: {path.parent} is a file; choose another --out")
    file = _StudyLog(path, delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers.append(file)
    for handler in handlers:
        logger.addHandler(handler)


class _Stderr(logging.Handler):
    """Lines on whatever stderr is at the moment: the live view puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


class _StudyLog(logging.FileHandler):
    """The log in a study's folder, from the moment that the folder exists: a mistyped command leaves none behind."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream is None and not Path(self.baseFilename).parent.is_dir():
            return
        try:
            super().emit(record)
        except OSError as error:
            raise OutputError(f"cannot write to {self.baseFilename}: {error.strerror or error}") from error
