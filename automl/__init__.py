"""Find out which pretrained image backbone to fine-tune on your data, how, and how sure that answer is."""

from __future__ import annotations

__version__ = "0.1.0"
