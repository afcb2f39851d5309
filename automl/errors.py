"""Every error a person can cause, and the exit code each one ends in.

    AutoMLError                      exit code
    ├── UsageError (ValueError)          2   wrong argument, wrong order of commands
    ├── ConfigError (ValueError)         2   a search space or config file; lists all mistakes at once
    │   └── UnknownBackboneError         2   a backbone that no provider has
    ├── OutputError (OSError)            2   a folder or file that cannot be written
    ├── MissingWeightsError              2   pretrained weights found in none of the places looked at
    ├── DataError (ValueError)           3   the dataset cannot be used as it is
    │   └── DecodeError                  3   one image cannot be read (quarantined by the audit)
    ├── NoTrialFinishedError             4   the search ended without one usable trial
    └── StorageError                     5   the study is in use or its storage cannot be reached

The message is one line that names what was given, what was expected and what to do.
Anything else that reaches the command line is a defect of this project and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AutoMLError",
    "ConfigError",
    "DataError",
    "DecodeError",
    "MissingWeightsError",
    "NoTrialFinishedError",
    "OutputError",
    "StorageError",
    "UnknownBackboneError",
    "UsageError",
    "did_you_mean",
    "last_line",
]


class AutoMLError(Exception):
    """Base of every error that a person can cause."""

    exit_code = 2


class UsageError(AutoMLError, ValueError):
    """A wrong argument, or a command that needs another one first."""


class ConfigError(AutoMLError, ValueError):
    """A search space or config that cannot be used. `problems` holds one line per mistake."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class UnknownBackboneError(ConfigError):
    """A backbone name that neither timm nor torchvision has."""


class OutputError(AutoMLError, OSError):
    """A folder or file that cannot be written."""


class MissingWeightsError(AutoMLError):
    """Pretrained weights that are in none of the places looked at."""


class DataError(AutoMLError, ValueError):
    """A dataset that cannot be used as it is."""

    exit_code = 3


class DecodeError(DataError):
    """One image that cannot be read."""


class NoTrialFinishedError(AutoMLError):
    """A search that ended without one usable trial."""

    exit_code = 4


class StorageError(AutoMLError):
    """A study that another driver holds, or a storage that cannot be reached."""

    exit_code = 5


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return ``': did you mean "x"?'`` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f': did you mean "{close[0]}"?' if close else ""


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, or what it is where it has none."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
