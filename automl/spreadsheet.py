"""Text in CSV files that people open in a spreadsheet."""

from __future__ import annotations

from typing import Any

__all__ = ["spreadsheet_safe"]

_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def spreadsheet_safe(value: Any) -> Any:
    """Return text that a spreadsheet will not run as a formula; numbers stay as they are.

    A leading apostrophe goes before ``= + - @`` (also full-width, also after spaces), tab and line breaks, as
    https://owasp.org/www-community/attacks/CSV_Injection advises.
    """
    risky = isinstance(value, str) and (value.startswith(_FORMULA) or value.lstrip().startswith(_FORMULA))
    return f"'{value}" if risky else value
