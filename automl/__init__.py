"""Find out which pretrained image backbone to fine-tune on your data, how, and how sure that answer is."""

from __future__ import annotations

import os

__version__ = "0.1.0"

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
"""How often a thread of a step looks whether the others are done before it gives up its processor, read when torch is
imported. By libgomp's default of 300,000 it looks on while another program has the processor that the last one needs:
with one busy program beside it a step took up to a hundred times as long (`benchmarks/neighbour.py`)."""
