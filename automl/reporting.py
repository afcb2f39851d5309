"""Gives the report what ranking does not have itself: pictures, augmentation contact sheets, and what was kept of the
images: embeddings and pixels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from automl.config import AUGMENTATIONS
from automl.data import Dataset, decode
from automl.errors import AutoMLError, DecodeError
from automl.paths import StudyFolder
from automl.ranking import report
from automl.ranking.embedding_map import Embedding
from automl.ranking.files import load_screening
from automl.ranking.limits import Limits
from automl.search.snapshot import snapshot

if TYPE_CHECKING:
    import optuna

__all__ = ["write_report"]

logger = logging.getLogger(__name__)

SHEET_IMAGES = 2
SHEET_SIDE = 112


def write_report(
    folder: StudyFolder, reports: Path, study: optuna.Study, limits: Limits | None = None, metric: str | None = None
) -> Path:
    """Write the leaderboard report of a study below `reports` and return its page.

    Works at any time, also in the middle of a search and where the images have gone.
    """
    study = snapshot(study)
    try:
        dataset = Dataset.load(folder.manifest, folder.audit)
        sheets = contact_sheets(dataset, _policies(study))
    except AutoMLError as error:
        logger.warning("the report has no pictures: %s", error)
        return report.write(folder, reports, study=study, limits=limits, metric=metric)
    paths = dataset.table["path"].to_numpy()

    def thumbnail(row: int) -> Image.Image:
        return decode(paths[row], background=(255, 255, 255))

    def embedding(number: int) -> Embedding | None:
        try:
            return kept_embedding(folder, dataset, study, number)
        except (AutoMLError, OSError, LookupError, ValueError) as error:  # weights that have gone, an older spec
            logger.warning("the report has no map of the images: %s", error)
            return None

    def pixels() -> NDArray[Any] | None:
        try:
            return kept_pixels(folder, dataset, study)
        except (AutoMLError, LookupError, TypeError, ValueError) as error:  # they were deleted, or an older spec
            logger.warning("near-duplicates are not looked for: %s", error)
            return None

    return report.write(
        folder, reports, study=study, limits=limits, metric=metric, contact_sheets=sheets, load_thumbnail=thumbnail,
        load_embedding=embedding, load_pixels=pixels,
    )  # fmt: skip


def kept_pixels(folder: StudyFolder, dataset: Dataset, study: optuna.Study) -> NDArray[Any] | None:
    """Return the smallest decoded images ``(N, R, R, 3) uint8`` that the trials of a study read."""
    from automl.backbones import find  # these need torch
    from automl.data import open_cache
    from automl.search.spec import TrialSpec
    from automl.search.trial import variant_of

    kept = [trial.user_attrs["spec"] for trial in study.get_trials(deepcopy=False) if "spec" in trial.user_attrs]
    if not kept:
        return None
    spec = min(map(TrialSpec.from_dict, kept), key=lambda each: each.resolution)
    variant = variant_of(find(spec.backbone), spec.resolution, spec.crop_mode)
    return open_cache(dataset.table, folder.pixels, variant, background=spec.background)


def kept_embedding(folder: StudyFolder, dataset: Dataset, study: optuna.Study, number: int) -> Embedding | None:
    """Return what the search kept of a trial's backbone: at the trial's resolution, else at the screening's; of all
    training and validation images, else of those that were screened."""
    from automl.search.screen import sampled  # these need torch
    from automl.search.spec import TrialSpec
    from automl.search.trial import find_embedding

    (trial,) = (each for each in study.get_trials(deepcopy=False) if each.number == number)
    spec = TrialSpec.from_dict(trial.user_attrs["spec"])
    own = (each for each in load_screening(folder) if each.get("backbone") == spec.backbone)
    sides = [spec.resolution, *(each["resolution"] for each in own if "resolution" in each)]
    every = np.sort(np.concatenate([dataset.rows("train"), dataset.rows("validation")]))
    sample = sampled(every, dataset.table["target"].to_numpy(np.int64))
    for rows in (every, sample) if len(sample) < len(every) else (every,):
        for side in dict.fromkeys(sides):
            vectors = find_embedding(spec, folder, dataset, rows, resolution=side, precision=trial.user_attrs["dtype"])
            if vectors is not None and len(vectors) == len(rows):
                return Embedding(spec.backbone, side, vectors, rows)
    return None


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
