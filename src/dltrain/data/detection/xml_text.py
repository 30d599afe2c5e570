"""XML as annotation tools write it: elements with their lines, and nothing that expands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from dltrain.files import read_bytes

LARGEST = 1 << 24
"""Bytes of one image's annotation."""
DEEPEST = 32
"""Elements within each other."""


class XmlError(ValueError):
    """What is no XML that is read here: says the file, the line and why."""


@dataclass
class Element:
    """One element: its ``text`` without the blanks around it, and what lies in it."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def find(self, tag: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.tag == tag), None)

    def all(self, tag: str) -> list[Element]:
        """The children of that name."""
        return [child for child in self.children if child.tag == tag]


def read_xml(path: Path) -> Element:
    """The root element of a file.

    A document type declaration is refused: what it declares, entities, may expand without an end or
    name other files. Raises :class:`XmlError`, and OSError.
    """
    parser = expat.ParserCreate()
    above: list[Element] = []
    roots: list[Element] = []

    def refuse(why: str) -> NoReturn:
        raise XmlError(f"{path}, line {parser.CurrentLineNumber}: {why}")

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, parser.CurrentLineNumber)
        (above[-1].children if above else roots).append(element)
        above.append(element)
        if len(above) > DEEPEST:
            refuse("nested too deeply")

    def end(tag: str) -> None:
        element = above.pop()
        element.text = element.text.strip()

    def text(found: str) -> None:
        if above:
            above[-1].text += found

    def declared(*what: object) -> None:
        refuse("a document type is declared, which is not read: remove the line")

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = declared
    parser.EntityDeclHandler = declared
    try:
        parser.Parse(read_bytes(path, LARGEST), True)
    except expat.ExpatError as error:
        why = expat.ErrorString(error.code)
        raise XmlError(f"{path}, line {error.lineno}: is no XML that is whole: {why}") from error
    return roots[0]
