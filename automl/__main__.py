"""``python -m automl``: the command line."""

from __future__ import annotations

from automl.cli import main

if __name__ == "__main__":
    main()
