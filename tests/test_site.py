"""The site builds with no link that leads nowhere, asks nothing of the network, and is searched."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_report_browser import CHROMIUM, FLAGS

ROOT = Path(__file__).parent.parent
# The site is built once for the file.
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", folder],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"contributing"}
    assert pages <= {path.stem for path in site.glob("*.html")}
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"?(?:https?:)?//[^>]*>")
    for page in site.rglob("*.html"):
        assert loaded.findall(page.read_text(encoding="utf-8")) == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_a_link_to_a_file_of_the_repository_leads_to_it(site: Path) -> None:
    page = (site / "index.html").read_text(encoding="utf-8")
    (picture,) = re.findall(r"src=\"?([^\" >]*opening\.svg)", page)
    assert (site / picture).read_bytes() == (
        ROOT / "results/beyond/figures/opening.svg"
    ).read_bytes()


@pytest.mark.browser
@pytest.mark.skipif(
    not Path(CHROMIUM).exists() and not os.environ.get("CI"), reason="chromium is not installed"
)
def test_the_search_finds_a_page_that_is_opened_from_disk(site: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked, failed = list[str](), list[str]()
        page.on("request", lambda one: asked.append(one.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.click("[data-md-component=search-query]")
        page.keyboard.type("glossary")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        found = page.inner_text(".md-search-result__list")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            for name in ("index", "results", "methods"):
                page.goto((site / f"{name}.html").as_uri())
                beside = "document.documentElement.scrollWidth - window.innerWidth"
                assert page.evaluate(beside) <= 0, (name, width)
        browser.close()
    assert "Glossary" in found
    assert failed == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
