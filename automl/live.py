"""The live view of a search on a terminal: what `automl status` prints, under the log, anew every few seconds."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import rich.console
import rich.live
import rich.text

from automl.errors import AutoMLError
from automl.paths import StudyFolder
from automl.terminal import open_study

__all__ = ["live_status"]

EVERY_SECONDS = 3.0


@contextlib.contextmanager
def live_status(folder: StudyFolder, console: rich.console.Console | None = None) -> Iterator[None]:
    """Show how the study of `folder` stands while its trials run, where stderr is a terminal.

    Reads the study as anybody may, from a thread; the log goes on above it.
    """
    console = console or rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_show, args=(folder, console, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=2 * EVERY_SECONDS)


def _show(folder: StudyFolder, console: rich.console.Console, over: threading.Event) -> None:
    from automl.search.lock import driver_of

    live: rich.live.Live | None = None
    study: Any = None
    while not over.wait(EVERY_SECONDS):
        try:
            study = study or (open_study(folder) if driver_of(folder) and folder.resolved.exists() else None)
            lines = _lines(folder, study)
        except (AutoMLError, OSError):  # a storage that is away: the driver waits for it, too
            continue
        if lines is None and live is not None:  # the refit
            break
        if lines is not None and live is None:
            live = rich.live.Live(console=console, auto_refresh=False, redirect_stdout=False)
            live.start()
        if lines is not None and live is not None:
            live.update(rich.text.Text("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
    if live is not None:
        live.update(rich.text.Text(""), refresh=True)
        live.stop()


def _lines(folder: StudyFolder, study: Any) -> list[str] | None:
    """Return the lines to show, or None while no trials run."""
    from automl.ranking.status import look, status_lines

    if study is None or study.user_attrs.get("stop_reason", "not begun") is not None:
        return None
    return ["", *status_lines(look(folder, study))]
