from __future__ import annotations

import inspect
import re

import pytest

from automl import errors
from automl.errors import AutoMLError, ConfigError, did_you_mean, last_line

CLASSES = [value for _, value in inspect.getmembers(errors, inspect.isclass) if value.__module__ == errors.__name__]


def drawn() -> dict[str, int]:
    """Names and exit codes of the tree in the module's docstring."""
    lines = re.findall(r"[├└]── (\w+)(?: \(\w+\))? +(\d)", errors.__doc__ or "")
    return {name: int(code) for name, code in lines}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert drawn() == {each.__name__: each.exit_code for each in CLASSES if each is not AutoMLError}
    assert all(issubclass(each, AutoMLError) for each in CLASSES)


def test_builtins_that_a_caller_would_catch() -> None:
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.DataError, ValueError)
    assert issubclass(errors.UsageError, ValueError)
    assert issubclass(errors.OutputError, OSError)


def test_everything_is_exported() -> None:
    assert set(errors.__all__) == {each.__name__ for each in CLASSES} | {"did_you_mean", "last_line"}


def test_an_output_error_keeps_its_message() -> None:
    assert str(errors.OutputError("cannot write 5 bytes to a file")) == "cannot write 5 bytes to a file"


def test_a_config_error_holds_one_line_per_mistake() -> None:
    several = ConfigError(line for line in ("first", "second"))
    assert several.problems == ["first", "second"]
    assert str(several) == "first\nsecond"
    assert ConfigError("only").problems == ["only"]


@pytest.mark.parametrize(
    ("given", "hint"),
    [("resnet5O", ': did you mean "resnet50"?'), ("vgg", ""), ("", ""), ("resnet50", ': did you mean "resnet50"?')],
)
def test_did_you_mean(given: str, hint: str) -> None:
    assert did_you_mean(given, iter(["resnet50", "convnext_tiny"])) == hint


def test_the_last_line_of_a_message_or_what_it_is() -> None:
    assert last_line(ValueError("first\n last \n")) == "last"
    assert last_line(MemoryError()) == "MemoryError"
