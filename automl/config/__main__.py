"""``python -m automl.config > search_spaces/schema.json`` writes the schema that editors complete from."""

from __future__ import annotations

from automl.config import schema

print(schema(), end="")
