"""What earlier searches taught: their best configurations, tried early in a new study.

Of the studies that are ranked by a metric of the same direction, the nearest by data-set features come first, each with
what it handed over and its best configurations, as far as they are possible in the new space. What is taken, from
where, what had to move, and what is not used and why, is one value that the study keeps: to go on with it needs no
earlier study.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from optuna.trial import FrozenTrial

from automl.backbones import default_params, find
from automl.config import PARAMETERS
from automl.errors import AutoMLError
from automl.paths import StudyFolder
from automl.search.dataset_features import DatasetFeatures, differences
from automl.search.earlier import EarlierStudy, read_study
from automl.search.prior import alike
from automl.search.spec import effective_resolution
from automl.search.taken import Considered, LeftOut, Taken, WarmStart
from automl.space import Space

__all__ = ["learn"]

logger = logging.getLogger(__name__)

_Readable = tuple[float, dict[str, float], StudyFolder, EarlierStudy]  # distance, of what it is made

PER_STUDY = 3
IN_ALL = 6


def learn(
    folders: Sequence[StudyFolder],
    features: DatasetFeatures,
    space: Space,
    *,
    metric: str,
    weights: Mapping[str, str],
) -> WarmStart:
    """Decide what to take from the studies in `folders` for one of data with these `features`.

    Args:
        space: Of the shortlisted backbones.
        weights: Path (or "none") per backbone.
    """
    readable: list[_Readable] = []
    unusable: list[Considered] = []
    for folder in folders:
        try:
            study = read_study(folder)
        except AutoMLError as error:
            unusable.append(Considered(str(folder.root), None, {}, 0, str(error).splitlines()[0]))
            continue
        apart = {name: round(each, 3) for name, each in differences(features, study.features).items()}
        distance = round(math.fsum(apart.values()), 3)
        if study.maximize == (metric == "log_loss"):
            why = (
                f"it is ranked by {study.metric}, this search by {metric}: what is best by one need not be by the other"
            )
            unusable.append(Considered(str(folder.root), distance, apart, 0, why))
        else:
            readable.append((distance, apart, folder, study))
    taken: list[Taken] = []
    left_out: list[LeftOut] = []
    considered: list[Considered] = []
    for distance, apart, folder, study in sorted(readable, key=partial(_nearest_first, metric)):
        name, room = str(folder.root), min(PER_STUDY, IN_ALL - len(taken))
        if room:
            found, others = _choose(name, study, space, weights, [each.params for each in taken], room)
            why = "" if found else "none of its good configurations is possible here or new"
        else:
            found, others, why = [], [], f"it is farther away, and {IN_ALL} configurations are taken from nearer ones"
        taken += found
        left_out += others
        considered.append(Considered(name, distance, apart, len(found), why))
    for each in unusable:
        logger.warning("warm start: %s is not used: %s", each.study, each.why)
    return WarmStart(tuple(taken), tuple(considered + unusable), tuple(left_out))


def _nearest_first(metric: str, readable: _Readable) -> tuple[float, bool, str, float]:
    """Of equally near ones (to a hundredth, the noise of the probes) those ranked by `metric` come first, and of those
    ranked by the same one what found more."""
    distance, _, _, study = readable
    scores = [float(each.value or 0.0) for each in study.good]
    best = -max(scores) if study.maximize else min(scores)
    return round(distance, 2), study.metric != metric, study.metric, best


def _choose(
    name: str,
    study: EarlierStudy,
    space: Space,
    weights: Mapping[str, str],
    known: Sequence[Mapping[str, Any]],
    room: int,
) -> tuple[list[Taken], list[LeftOut]]:
    """Return the first `room` of the study's good configurations that are possible and unlike those before them, and
    why those that were passed over are not taken."""
    found: list[Taken] = []
    left_out: list[LeftOut] = []
    for trial in study.good:
        if len(found) == room:
            break
        wanted = _wanted(trial)
        why = _impossible(wanted, space, weights)
        if why is None:
            params = space.params(space.nearest(wanted))
            if any(alike(space.distributions, params, each) for each in [*known, *(each.params for each in found)]):
                why = "it is like one that is taken"
        if why is None:
            moved = _moved(wanted, params)
            found.append(Taken(name, trial.number, study.metric, float(trial.value or 0.0), params, moved))
        else:
            left_out.append(LeftOut(name, trial.number, why))
    return found, left_out


def _wanted(trial: FrozenTrial) -> dict[str, Any]:
    """What `trial` was trained with: its specification, and as sampled what was sampled."""
    spec = trial.user_attrs.get("spec", {})
    used = {name: spec[name] for name in ("backbone", "weights", *PARAMETERS) if spec.get(name) is not None}
    return {**used, **trial.params}


def _impossible(wanted: Mapping[str, Any], space: Space, weights: Mapping[str, str]) -> str | None:
    backbone = wanted.get("backbone")
    if backbone not in space.choices("backbone"):
        return f"its backbone {backbone} is not on the shortlist"
    given = weights[str(backbone)]
    there, here = wanted.get("weights", given) == "none", given == "none"
    if there != here:
        return f"its backbone began with {'random' if there else 'pretrained'} weights, here with the other kind"
    return None


def _moved(wanted: Mapping[str, Any], params: Mapping[str, Any]) -> tuple[str, ...]:
    """Say of every parameter that is not what was wanted what it was and is."""
    backbone = find(str(params["backbone"]))
    moved = []
    for name in PARAMETERS:
        if name not in wanted or (name == "magnitude" and params["augmentation"] != "rand"):
            continue
        before, after = wanted[name], params[name]
        if after is None:
            after = default_params(backbone).get(name)
        if name == "resolution":
            before, after = (effective_resolution(backbone, int(each)) for each in (before, after))
        same = before == after or (
            not isinstance(before, str) and not isinstance(after, str) and math.isclose(before, after, rel_tol=1e-6)
        )
        if not same:
            moved.append(f"{name} {_text(before)} → {_text(after)}")
    return tuple(moved)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
