"""Pretrained backbones: which there are, where their weights are, and how a trainable model is built from one."""

from __future__ import annotations

from automl.backbones.build import (
    MlpHead,
    build,
    build_pretrained,
    classifier_name,
    features,
    freeze,
    head_of,
    layer_groups,
    parameter_groups,
    set_train_mode,
)
from automl.backbones.catalog import Backbone, find, names, resolution_problem
from automl.backbones.defaults import default_params
from automl.backbones.weights import WeightsFile, check_readable, fingerprint, load_state_dict, locate, locate_all

__all__ = [
    "Backbone",
    "MlpHead",
    "WeightsFile",
    "build",
    "build_pretrained",
    "check_readable",
    "classifier_name",
    "default_params",
    "features",
    "find",
    "fingerprint",
    "freeze",
    "head_of",
    "layer_groups",
    "load_state_dict",
    "locate",
    "locate_all",
    "names",
    "parameter_groups",
    "resolution_problem",
    "set_train_mode",
]
