"""Failures in a row: when a search ends with their cause, before a night is spent on them."""

from __future__ import annotations

import logging

from automl.search.study import Reason

__all__ = ["FailuresInARow"]

logger = logging.getLogger(__name__)


class FailuresInARow:
    """Counts trials in a row that failed for the same reason.

    Memory and divergence are matters of a trial's parameters, so of those twice as many are allowed. An attempt that is
    tried again is not to be counted: a lost machine takes many trials with it at once.

    Args:
        most: Crashes in a row at which there are too many.
    """

    def __init__(self, most: int) -> None:
        self._most, self._reason, self._count = most, "", 0

    def interrupted(self) -> None:
        """A trial did not fail: the row ends."""
        self._count = 0

    def too_many(self, reason: Reason, message: str) -> bool:
        """Count one more and return whether there are too many now, which is logged with `message`, the last cause."""
        self._count = self._count + 1 if reason == self._reason else 1
        self._reason = reason
        if self._count < self._most * (1 if reason == "crashed" else 2):
            return False
        what = reason.replace("_", " ")
        logger.error("stopping: %d trials in a row ended as %s; the last one: %s", self._count, what, message)
        return True
