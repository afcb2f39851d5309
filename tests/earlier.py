"""Earlier studies as a search leaves them, without the search: SQLite, resolved.yaml, audit and plan."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState, create_trial

from automl.config import dump_config
from automl.paths import StudyFolder
from automl.search.dataset_features import DatasetFeatures
from automl.search.storage import create_study
from automl.space import make_space
from tests.small import EFFICIENTNET, RESNET, small_config

FEATURES = DatasetFeatures(
    images=36, classes=3, side=(32.0, 32.0, 32.0), channels=3, imbalance=1.0,
    probes={RESNET: {"knn": 0.8, "linear": 0.9}, EFFICIENTNET: {"knn": 0.7, "linear": 0.75}},
)  # fmt: skip
POINT = {"backbone": RESNET, "freeze_depth": 0.75, "learning_rate": 0.01, "augmentation": "light"}
AUDIT = {
    "source": "images", "layout": "folder", "images": 60, "splits": {}, "quarantined": [], "duplicates": [],
    "skipped": {}, "formats": {"PNG": 60}, "warnings": [], "modes": {"L": 50, "RGB": 10},
    "sizes": {"width": [20, 40, 80], "height": [20, 10, 20]},
    "counts": {
        "a": {"train": 30, "validation": 5, "test": 5}, "b": {"train": 10, "validation": 5, "test": 5},
    },
}  # fmt: skip
PLAN = {"screening": [{"backbone": RESNET, "knn_accuracy": 0.8, "linear_accuracy": 0.9}]}


def write_earlier(
    root: Path,
    scores: Sequence[tuple[Mapping[str, Any], float]],
    *,
    metric: str = "accuracy",
    features: DatasetFeatures | None = FEATURES,
    weights: str = "none",
    **spec: Any,
) -> StudyFolder:
    """Write a study whose trials finished with `scores`, given by what differs from `POINT`; `spec` is what all of
    them had besides. Without `features` it is one of an earlier version, with its audit and plan."""
    folder = StudyFolder(root)
    root.mkdir(parents=True)
    config = small_config(metric=metric)
    study = create_study(folder, storage=None, direction="minimize" if metric == "log_loss" else "maximize")
    study.set_user_attr("metric", metric)
    if features is not None:
        study.set_user_attr("dataset_features", features.to_dict())
    space = make_space([each.name for each in config.backbones], config.params)
    for seconds, (changes, score) in enumerate(scores):
        params = {**POINT, **changes}
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE, value=score, distributions=space.distributions, params=params,
                user_attrs={
                    "spec": {"resolution": 32, **params, "weights": weights, "batch_size": 16, **spec},
                    "train_seconds": float(seconds), "reason": "complete",
                },
            )
        )  # fmt: skip
    folder.audit.write_text(json.dumps(AUDIT))
    folder.plan.write_text(json.dumps(PLAN))
    folder.resolved.write_text(dump_config(config))
    study._storage.remove_session()
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    return folder


def content(folder: StudyFolder) -> dict[str, bytes]:
    """Every file of a study by name, to see whether anything was written."""
    return {str(each.relative_to(folder.root)): each.read_bytes() for each in folder.root.rglob("*") if each.is_file()}
