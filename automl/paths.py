"""Every file name inside a study folder. No other module joins these strings.

runs/<study>/
  study.db  resolved.yaml  manifest.parquet  audit.json  screening.json  plan.json
  driver.lock  driver.json  search.log
  pixels/  embeddings/
  trials/0007/{spec.json, metrics.jsonl, last.safetensors, weights.safetensors, val_logits.npz, log.txt}
  ranking/accuracy.npz  (a cache: what of the trials' val_logits.npz the leaderboard needs)
  refit/{spec.json, metrics.jsonl, last.safetensors, test_logits.npz, log.txt}
  model/
reports/<study>/{index.html, leaderboard.json, leaderboard.schema.json, leaderboard.csv, leaderboard.md}
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from automl.errors import OutputError

__all__ = ["StudyFolder", "TrialFolder", "make_folder", "no_study", "remove_leftovers", "write_atomic"]

_VALIDATION_LOGITS = "val_logits.npz"


@dataclass(frozen=True)
class TrialFolder:
    """The files that one trial leaves."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.root / "last.safetensors"

    @property
    def weights(self) -> Path:
        return self.root / "weights.safetensors"

    @property
    def validation_logits(self) -> Path:
        return self.root / _VALIDATION_LOGITS

    @property
    def log(self) -> Path:
        return self.root / "log.txt"


@dataclass(frozen=True)
class StudyFolder:
    """The files of one study. `root` is ``runs/<study>``; its last part is the study's name."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @property
    def argument(self) -> str:
        """The folder as an argument of a command line that a person may copy."""
        return shlex.quote(f"./{self.root}" if str(self.root).startswith("-") else str(self.root))

    @property
    def database(self) -> Path:
        return self.root / "study.db"

    @property
    def resolved(self) -> Path:
        return self.root / "resolved.yaml"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.parquet"

    @property
    def audit(self) -> Path:
        return self.root / "audit.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def screening(self) -> Path:
        return self.root / "screening.json"

    @property
    def lock(self) -> Path:
        return self.root / "driver.lock"

    @property
    def driver(self) -> Path:
        return self.root / "driver.json"

    @property
    def log(self) -> Path:
        return self.root / "search.log"

    @property
    def pixels(self) -> Path:
        return self.root / "pixels"

    @property
    def embeddings(self) -> Path:
        return self.root / "embeddings"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def refit(self) -> TrialFolder:
        return TrialFolder(self.root / "refit")

    @property
    def test_logits(self) -> Path:
        """What the package said about the test images."""
        return self.refit.root / "test_logits.npz"

    @property
    def test_opened(self) -> Path:
        """How often the test images were scored."""
        return self.refit.root / "test_opened"

    def trial(self, number: int) -> TrialFolder:
        return TrialFolder(self.root / "trials" / f"{number:04d}")

    def validation_logits(self) -> Callable[[int], str]:
        """Return what gives the `TrialFolder.validation_logits` of a trial as text: of thousands of trials, to make the
        paths takes longer than to ask for the files."""
        trials = os.fspath(self.root / "trials")
        return lambda number: f"{trials}{os.sep}{number:04d}{os.sep}{_VALIDATION_LOGITS}"

    def confirmation(self, number: int, run: int) -> TrialFolder:
        """Folder of the `run`-th time that trial `number` is trained again."""
        return TrialFolder(self.root / "confirmations" / f"{number:04d}-{run}")

    def ranking(self, metric: str) -> Path:
        """Cache of what a ranking by `metric` needs of the trials' predictions; may be deleted at any time."""
        return self.root / "ranking" / f"{metric}.npz"

    def all_weights(self) -> list[Path]:
        """Return the weights that are kept of trials."""
        return sorted(self.root.glob("trials/*/weights.safetensors"))

    def report(self, reports: Path) -> Path:
        """Folder of the leaderboard report below `reports`."""
        return reports / self.name


def make_folder(folder: Path) -> Path:
    """Create `folder` with its parents.

    Raises:
        OutputError: It cannot be created or is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}; choose another folder or free it"
        ) from error
    return folder


def no_study(folder: StudyFolder) -> str:
    """Say that there is no study in `folder`, and what to do."""
    if folder.manifest.exists():
        return f"nothing was begun in {folder.root} yet; give its search again with the same --out: what it did is kept"
    return f"no study in {folder.root}: expected {folder.resolved.name} there; start one with automl search"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write `content` so that a reader sees the old file or the new one, never a part.

    Raises:
        OutputError: The file cannot be written (its message has the path and the bytes wanted).
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"cannot write {len(data)} bytes to {path}: {error.strerror or error}; free space or choose another folder"
        ) from error


def remove_leftovers(root: Path) -> None:
    """Delete what writers that were killed left half-written below `root`."""
    for path in root.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
