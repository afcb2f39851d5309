"""Cheap looks at every candidate backbone before the first trial: embeddings, probes, cost, shortlist."""

from __future__ import annotations

from automl.screening.cost import Cost
from automl.screening.embed import embed, embedding_path, load_embedding, save_embedding
from automl.screening.feasibility import measure_cost
from automl.screening.imagenet_top1 import imagenet_top1
from automl.screening.latency import Latency, Speed, measure_latency, measure_speed
from automl.screening.probe import MAX_IMAGES, Probe, knn_probe, linear_probe, probe_of
from automl.screening.shortlist import Candidate, Choice, shortlist

__all__ = [
    "MAX_IMAGES",
    "Candidate",
    "Choice",
    "Cost",
    "Latency",
    "Probe",
    "Speed",
    "embed",
    "embedding_path",
    "imagenet_top1",
    "knn_probe",
    "linear_probe",
    "load_embedding",
    "measure_cost",
    "measure_latency",
    "measure_speed",
    "probe_of",
    "save_embedding",
    "shortlist",
]
