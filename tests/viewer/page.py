"""A strict HTML parser for tests: elements with their attributes and text."""

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "input", "br", "img"}


@dataclass
class Element:
    """One element: name, attributes, and the text right inside of it."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    parents: tuple[str, ...] = ()


@dataclass
class Page(HTMLParser):
    """Parses a page strictly: every element must be closed, in order."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[Element] = []
        self.feed(self.source)
        self.close()
        assert not self._open, f"left open: {[element.name for element in self._open]}"

    def __hash__(self) -> int:
        return id(self)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parents = tuple(element.name for element in self._open)
        made = Element(tag, {name: value or "" for name, value in attrs}, parents=parents)
        self.elements.append(made)
        if tag not in VOID:
            self._open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1].name == tag, f"</{tag}> closes nothing"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1].text += data

    def all(self, name: str, css_class: str = "") -> list[Element]:
        """Return the elements of a name, and of a class if one is given."""
        return [
            element
            for element in self.elements
            if element.name == name
            and (not css_class or css_class in element.attributes.get("class", "").split())
        ]

    def one(self, identifier: str) -> Element:
        """Return the element of an id."""
        (found,) = (e for e in self.elements if e.attributes.get("id") == identifier)
        return found

    def data(self, identifier: str) -> Any:
        """Return what a data block holds."""
        return json.loads(self.one(identifier).text)

    @property
    def text(self) -> str:
        """All text that is neither script nor style."""
        return " ".join(e.text for e in self.elements if e.name not in {"script", "style"})
