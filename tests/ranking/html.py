"""Reads the report's page as the tests ask about it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "br", "img", "wbr", "hr", "input", "link"}
SILENT = {"script", "style", "code", "option"}


class Page(HTMLParser):
    """Collects what the tests ask of the page; fails on a tag that is closed but not open.

    `numbers` has (value, path, text) of every ``<data>``, `sentences` the text by path of every ``data-text``; `rest`
    is the text that a person reads elsewhere.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rest: list[str] = []
        self.numbers: list[tuple[str, str, str]] = []
        self.sentences: dict[str, str] = {}
        self.scripts: dict[str, Any] = {}
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self.open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        inside = dict(self.open)
        if "script" in inside:
            if str(inside["script"].get("id", "")).startswith("data-"):
                self.scripts[str(inside["script"]["id"])[5:]] = json.loads(data)
            return
        if "style" in inside:
            return
        self.words.append(data)
        if "data" in inside:
            found = inside["data"]
            self.numbers.append((str(found["value"]), str(found["data-at"]), plain(data)))
            return
        for _, attrs in self.open:
            if "data-text" in attrs:
                path = str(attrs["data-text"])
                self.sentences[path] = self.sentences.get(path, "") + data
                return
        if not SILENT & set(inside) and not any("aria-hidden" in attrs for _, attrs in self.open):
            self.rest.append(data)

    @property
    def text(self) -> str:
        return " ".join(plain("".join(self.words)).split())

    def having(self, attribute: str) -> list[dict[str, Any]]:
        return [attrs for _, attrs in self.tags if attribute in attrs]


def plain(text: str) -> str:
    return text.replace("\u00a0", " ")


def tokens(text: str) -> set[str]:
    """Numbers as they stand in a text: ``1,200`` ``98.7`` ``0.002``."""
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))
