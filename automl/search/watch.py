"""Ends a process that falls silent, and leaves where it stood."""

from __future__ import annotations

import contextlib
import faulthandler
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from automl.paths import make_folder

__all__ = ["watched"]


@contextlib.contextmanager
def watched(
    log: Path, seconds: float, tell: Callable[[dict[str, Any]], None]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield `tell`, watched: when it is not called for `seconds`, end this process, its stacks written to `log`."""
    make_folder(log.parent)
    with open(log, "w") as file:

        def report(facts: dict[str, Any]) -> None:
            faulthandler.cancel_dump_traceback_later()  # the driver may take its time
            tell(facts)
            faulthandler.dump_traceback_later(seconds, exit=True, file=file)

        faulthandler.dump_traceback_later(seconds, exit=True, file=file)
        try:
            yield report
        finally:
            faulthandler.cancel_dump_traceback_later()
            with contextlib.suppress(OSError):  # somebody deleted the folder
                if not log.stat().st_size:
                    log.unlink()
