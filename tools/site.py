"""Build of the documentation as a site: ``python -m tools.site`` stages the pages and runs Zensical.

The pages of ``docs/`` link to files of the project, which a site does not contain: the README, the guide for
contributors and the changelog become pages of the site, and links to other files become plain text. Browsers load
nothing from other hosts: diagrams are drawn by `tools.diagrams`, and badges become plain text.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from data.cli.console import error, info
from data.paths import ROOT

DOCS, CONFIG = ROOT / "docs", ROOT / "mkdocs.yml"
PAGES, SITE = ROOT / ".site" / "pages", ROOT / ".site" / "html"
NAMES = {
    "docs/README.md": "index.md",
    "README.md": "project.md",
    "README.pt-BR.md": "projeto.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the site that have another name, or another folder, than in the project."""
HANDED_IN = "entrega"
"""Folder of ``docs`` with a report, which is not a page."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s#]*)(#[^()\s]*)?\)")
_EXTERNAL = re.compile(
    r"<(?:script|img|source|iframe)\b[^>]*\ssrc(?:set)?=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b[^>]*\srel=[\"']?(?:stylesheet|preload|preconnect|icon)[^>]*\shref=[\"']?(?:https?:)?//[^>]*>"
    r"|<link\b[^>]*\shref=[\"']?(?:https?:)?//[^>]*\srel=[\"']?(?:stylesheet|preload|preconnect|icon)[^>]*>"
    r"|<(?:pre|div)\b[^>]*\sclass=[\"']?mermaid\b[^>]*>"
)


def stage(pages: Path = PAGES) -> None:
    """Copy the pages and their images to a folder, with links that lead within the site."""
    shutil.rmtree(pages, ignore_errors=True)
    for path in sorted(DOCS.rglob("*")):
        relative = path.relative_to(DOCS)
        if path.is_file() and relative.parts[0] != HANDED_IN and path.suffix != ".md":
            target = pages / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for source in [*sorted(DOCS.glob("*.md")), *(ROOT / name for name in NAMES if "/" not in name)]:
        (pages / _page(source)).write_text(_staged(source), encoding="utf-8")


def _page(source: Path) -> str:
    return NAMES.get(source.relative_to(ROOT).as_posix(), source.name)


def _staged(source: Path) -> str:
    """The text of a page, whose links are of the staged files; blocks of code are unchanged."""
    parts = re.split(r"(^(```|~~~).*?^\2[^\n]*$)", source.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    texts, fences = parts[::3], parts[1::3]
    linked = [_LINK.sub(lambda found: _link(found, source), text) for text in texts]
    return "".join(text + fence for text, fence in zip(linked, [*fences, ""], strict=True))


def _link(found: re.Match[str], source: Path) -> str:
    image, label, path, fragment = found[1], found[2], found[3], found[4] or ""
    if not path or ":" in path:
        return label if image else found[0]
    target = (source.parent / path).resolve()
    if target.is_relative_to(DOCS) and target.is_file():
        return f"{image}[{label}]({_page(target) if target.suffix == '.md' else target.relative_to(DOCS)}{fragment})"
    if target.is_relative_to(ROOT) and target.relative_to(ROOT).as_posix() in NAMES:
        return f"{image}[{label}]({_page(target)}{fragment})"
    return label


def external_resources(site: Path = SITE) -> list[str]:
    """Scripts, styles, fonts and images that the pages of a site load from other hosts, and diagrams that stay text."""
    found = []
    for page in sorted(site.rglob("*.html")):
        loaded = _EXTERNAL.findall(page.read_text(encoding="utf-8"))
        found += [f"{page.relative_to(site)}: {element}" for element in loaded]
    return found


def main() -> None:
    """Stage the pages and build the site; a warning is an error."""
    stage()
    zensical = shutil.which("zensical")
    if zensical is None:
        error("Expected zensical on PATH; found none. Run: make docs-site")
        sys.exit(1)
    built = subprocess.run(
        [zensical, "build", "--clean", "--strict", "--config-file", str(CONFIG)],
        cwd=ROOT,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # mkdocs.yml names a function of tools.diagrams
    )
    if built.returncode:
        sys.exit(built.returncode)
    if found := external_resources():
        error("Expected pages that load nothing from other hosts; found:", "\n".join(found))
        sys.exit(1)
    info("Site:", f"{SITE.relative_to(ROOT)}; to read it: python -m http.server --directory {SITE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
