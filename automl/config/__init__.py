"""SearchConfig: a strict YAML 1.2 file, validated whole, every mistake reported at once with file and line.

A search space file and the `resolved.yaml` of a study are the same format: the second is the first with every
default and command-line option filled in, so `automl search --space runs/NAME/resolved.yaml` repeats a study.
"""

from __future__ import annotations

from automl.config.extend import extended
from automl.config.models import (
    METRICS,
    BackboneChoice,
    DataConfig,
    Range,
    RunConfig,
    SearchConfig,
    TrainingConfig,
    metric_name,
    parse_duration,
)
from automl.config.named import find_space, space_names
from automl.config.parameters import AUGMENTATIONS, IMAGE_BY_IMAGE, PARAMETERS, Parameter
from automl.config.read import dump_config, load_config, parse_config, schema

__all__ = [
    "AUGMENTATIONS",
    "IMAGE_BY_IMAGE",
    "METRICS",
    "PARAMETERS",
    "BackboneChoice",
    "DataConfig",
    "Parameter",
    "Range",
    "RunConfig",
    "SearchConfig",
    "TrainingConfig",
    "dump_config",
    "extended",
    "find_space",
    "load_config",
    "metric_name",
    "parse_config",
    "parse_duration",
    "schema",
    "space_names",
]
