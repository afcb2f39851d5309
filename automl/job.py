"""What every stage of one search works with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from automl.config import SearchConfig
from automl.data import Dataset
from automl.paths import StudyFolder
from automl.search.budget import Budget
from automl.search.cluster import Interrupt, Resources

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """One search. `weights` are files by backbone, or "none"."""

    config: SearchConfig
    folder: StudyFolder
    dataset: Dataset
    weights: Mapping[str, str]
    budget: Budget
    share: Resources
    balanced: bool
    interrupt: Interrupt
