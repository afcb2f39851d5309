"""The search spaces that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

from automl.errors import ConfigError, did_you_mean

__all__ = ["find_space", "space_names"]

# Beside the package in a checkout, inside it in an installed wheel.
_FOLDERS = tuple(Path(__file__).parents[level] / "search_spaces" for level in (1, 2))


def space_names() -> list[str]:
    """Names of the search spaces that come with the package."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.yaml")})


def find_space(space: str) -> Path:
    """Return the file of the search space called `space`, or `space` itself if it is a path.

    Raises:
        ConfigError: There is none of that name.
    """
    if Path(space).suffix in (".yaml", ".yml") or "/" in space:
        return Path(space)
    for folder in _FOLDERS:
        if (folder / f"{space}.yaml").exists():
            return folder / f"{space}.yaml"
    known = space_names()
    raise ConfigError(
        f'no search space "{space}"{did_you_mean(space, known)} (known: {", ".join(known)}; or a .yaml file)'
    )
