import re
from pathlib import Path

import pytest
import yaml

from data.paths import ROOT
from tests.pages import Page
from tools import site


def navigation() -> list[str]:
    # Tags such as !!python/name are of Zensical.
    text = re.sub(r"!!python/name:\S+", "x", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def files(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        entries = entry.values() if isinstance(entry, dict) else entry
        return [file for each in entries for file in files(each)]  # type: ignore[attr-defined]

    return files(yaml.safe_load(text)["nav"])


def test_every_page_is_in_the_navigation_and_every_link_leads_within_the_site(tmp_path: Path) -> None:
    site.stage(tmp_path)
    pages = {path.name for path in tmp_path.glob("*.md")}
    assert sorted(pages) == sorted(navigation())
    for name in pages:
        for link in Page(tmp_path / name).links:
            if "://" not in link and not link.startswith("mailto:"):
                path, _, fragment = link.partition("#")
                target = tmp_path / (path or name)
                assert target.is_file(), (name, link)
                assert not fragment or fragment in Page(target).anchors, (name, link)


def test_links_in_blocks_of_code_are_not_changed(tmp_path: Path) -> None:
    site.stage(tmp_path)
    original = Page(ROOT / "README.md").blocks
    staged = Page(tmp_path / "project.md").blocks
    assert [block.text for block in staged] == [block.text for block in original]


def test_recipes_quote_the_folder_of_the_project_which_may_have_spaces() -> None:
    recipes = re.findall(r"^\t.*", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [line for line in recipes if "$(CURDIR)" in re.sub(r'"[^"]*"', "", line)] == []


def test_pages_show_no_image_of_another_host(tmp_path: Path) -> None:
    site.stage(tmp_path)
    assert [path.name for path in tmp_path.glob("*.md") if re.search(r"!\[[^\]]*\]\(https?:", path.read_text())] == []
    assert "License Apache-2.0" in (tmp_path / "project.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "element",
    [
        '<script src="https://unpkg.com/mermaid/mermaid.min.js">',
        '<img alt="License" src="//img.shields.io/badge/license">',
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css?family=Inter">',
        '<link href="https://fonts.gstatic.com" rel="preconnect" crossorigin>',
        '<pre class="mermaid">',
    ],
)
def test_what_a_built_page_loads_from_another_host_or_cannot_draw_is_found(tmp_path: Path, element: str) -> None:
    own = '<a href="https://mlflow.org"><link rel="canonical" href="https://a.b"><script src="assets/a.js"></script>'
    (tmp_path / "index.html").write_text(own, encoding="utf-8")
    assert site.external_resources(tmp_path) == []
    (tmp_path / "tour.html").write_text(own + element, encoding="utf-8")
    assert site.external_resources(tmp_path) == [f"tour.html: {element}"]
