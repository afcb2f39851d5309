"""How benchmarks keep what they measured: rows of a CSV file, Markdown tables, and the commit that was measured."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd

__all__ = ["COMMITS", "commit", "markdown", "merge"]

COMMITS = {"commit": str}  # of columns: a short name may be all digits


def merge(path: Path, rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Write `rows` into the CSV file at `path`, in place of those with the same `keys`. Returns the whole table."""
    if path.exists():
        known = pd.read_csv(path, keep_default_na=False, dtype=COMMITS)
        new = set(rows[keys].itertuples(index=False, name=None))
        kept = [each not in new for each in known[keys].itertuples(index=False, name=None)]
        rows = pd.concat([known[kept], rows], ignore_index=True)
    path.parent.mkdir(exist_ok=True)
    rows.to_csv(path, index=False, lineterminator="\n")
    return rows


def markdown(table: pd.DataFrame) -> str:
    """Return `table` as a markdown table, its columns as they are."""
    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(str(each) for each in row) for row in table.itertuples(index=False)]
    return "".join(f"| {line} |\n" for line in lines)


def commit() -> str:
    """Return the short name of the commit that is measured, so that rows of earlier ones can be told."""
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    )
    return found.stdout.strip()
