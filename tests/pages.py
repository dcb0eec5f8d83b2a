"""The project's pages as a reader sees them: headings, links, code."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from data.paths import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "README.pt-BR.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes
    ----------
    language, text : str
    before : str
        The paragraph directly before it; empty after another block.
    line : int
        Of its start, counted from 1.
    """

    language: str
    text: str
    before: str
    line: int


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    @cached_property
    def text(self) -> str:
        """The whole of it."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tokens(self) -> list[Token]:
        """What Markdown makes of it."""
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    @cached_property
    def blocks(self) -> list[Block]:
        """Its blocks of code that name a language, or none at all."""
        found, before = [], ""
        for token in self.tokens:
            if token.type == "fence":
                found.append(Block(token.info.strip(), token.content, before, (token.map or [0])[0] + 1))
                before = ""
            elif token.type == "inline":
                before = token.content
        return found

    @cached_property
    def inline(self) -> list[Token]:
        """Text, links, images and code within paragraphs, headings and tables."""
        return [child for token in self.tokens if token.type == "inline" for child in token.children or []]

    @cached_property
    def code(self) -> list[str]:
        """What is between backticks."""
        return [token.content for token in self.inline if token.type == "code_inline"]

    @cached_property
    def links(self) -> list[str]:
        """Targets of its links and images."""
        led = {"link_open": "href", "image": "src"}
        found = [str(token.attrs[led[token.type]]) for token in self.inline if token.type in led]
        return found + re.findall(r'<(?:a|img)\s[^>]*?(?:href|src)="([^"]*)"', self.text)

    @cached_property
    def anchors(self) -> set[str]:
        """Names of its headings, as GitHub makes them."""
        found: list[str] = []
        for heading, token in zip(self.tokens, self.tokens[1:], strict=False):
            if heading.type == "heading_open":
                words = "".join(child.content for child in token.children or [])
                name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
                again = found.count(name)
                found += [name, f"{name}-{again}"] if again else [name]
        return set(found)
