"""Cheap looks at every candidate backbone before the first trial: embeddings, probes, cost, shortlist."""

from __future__ import annotations

from automl.screening.embed import embed, embedding_path, load_embedding, save_embedding
from automl.screening.feasibility import Cost, latency_ms, measure_cost
from automl.screening.probe import knn_accuracy, linear_accuracy
from automl.screening.shortlist import Candidate, Choice, shortlist

__all__ = [
    "Candidate",
    "Choice",
    "Cost",
    "embed",
    "embedding_path",
    "knn_accuracy",
    "latency_ms",
    "linear_accuracy",
    "load_embedding",
    "measure_cost",
    "save_embedding",
    "shortlist",
]
