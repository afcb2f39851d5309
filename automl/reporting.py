"""Gives the report the pictures that ranking does not make itself: augmentation contact sheets and thumbnails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from automl.config import AUGMENTATIONS
from automl.data import Dataset, decode
from automl.errors import AutoMLError, DecodeError
from automl.paths import StudyFolder
from automl.ranking import report

if TYPE_CHECKING:
    import optuna

__all__ = ["write_report"]

logger = logging.getLogger(__name__)

SHEET_IMAGES = 2
SHEET_SIDE = 112


def write_report(folder: StudyFolder, reports: Path, study: optuna.Study) -> Path:
    """Write the leaderboard report of a study below `reports` and return its page.

    Works at any time, also in the middle of a search and where the images have gone.
    """
    sheets: dict[str, Image.Image] = {}
    try:
        dataset = Dataset.load(folder.manifest, folder.audit)
        sheets = contact_sheets(dataset, _policies(study))
    except AutoMLError as error:
        logger.warning("the report has no pictures: %s", error)
        return report.write(folder, reports, study=study)
    paths = dataset.table["path"].to_numpy()

    def thumbnail(row: int) -> Image.Image:
        return decode(paths[row], background=(255, 255, 255))

    return report.write(folder, reports, study=study, contact_sheets=sheets, load_thumbnail=thumbnail)


def contact_sheets(dataset: Dataset, policies: list[str]) -> dict[str, Image.Image]:
    """Draw each policy on a few training images: the original, then what training sees of it."""
    import torch  # the report of a study without augmentations needs no torch

    from automl.data import fit
    from automl.training import contact_sheet

    images: list[torch.Tensor] = []
    rows = dataset.rows("train")
    chosen = [
        rows[np.flatnonzero(dataset.table["target"].to_numpy()[rows] == target)[:1]]
        for target in range(len(dataset.classes))
    ]
    for row in np.concatenate(chosen):
        if len(images) == SHEET_IMAGES:
            break
        try:
            picture = decode(dataset.table["path"].iloc[int(row)], background=(255, 255, 255))
        except DecodeError:
            continue
        images.append(torch.from_numpy(fit(picture, SHEET_SIDE, "bicubic", "squash")).permute(2, 0, 1))
    if not images:
        return {}
    batch = torch.stack(images)
    return {
        name: Image.fromarray(contact_sheet(name, batch).permute(1, 2, 0).numpy())
        for name in AUGMENTATIONS
        if name in policies
    }


def _policies(study: optuna.Study) -> list[str]:
    used = {trial.user_attrs.get("spec", {}).get("augmentation") for trial in study.get_trials(deepcopy=False)}
    return [name for name in AUGMENTATIONS if name in used]
