"""Diagrams of the documentation as SVG: a fence for Markdown that Zensical calls while it builds the site.

A page has the text of a diagram, which GitHub draws. The site contains the drawing, so that it needs neither a script
nor a network; ``docs/site.css`` gives it the colors of the theme. mermaidx, of the environment of
``make docs-site``, runs mermaid's own code.
"""

import hashlib

_ID = "my-svg"
"""Identifier that mermaidx gives to each drawing; a page has several drawings."""


def draw(source: str) -> str:
    """Draw a diagram of mermaid: inline SVG."""
    import mermaidx  # noqa: PLC0415 only the environment of the site has it

    svg = str(mermaidx.render(source).svg())
    return svg.replace(_ID, f"diagram-{hashlib.sha256(source.encode()).hexdigest()[:8]}")


def fence(source: str, *_: object, **__: object) -> str:
    """Drawing that takes the place of a block of code of the language ``mermaid``."""
    return f'<div class="diagram">{" ".join(draw(source).splitlines())}</div>'
