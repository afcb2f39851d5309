"""Find out which pretrained image backbone to fine-tune on your data, how, and how sure that answer is."""

from __future__ import annotations

import os

__version__ = "0.1.0"

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when huggingface_hub is imported
