"""The page in real headless Chromium: it sorts, filters, asks nothing and runs no name."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_records import HOSTILE, record, study, typed
from test_report_words import LAST, RESTATED, rows

from rulekeep.records import Record
from rulekeep.reporting.write import write_report

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]

pytestmark = [
    pytest.mark.skipif(
        not Path(CHROMIUM).exists() and not os.environ.get("CI"),
        reason="chromium is not installed (Debian: apt-get install chromium)",
    ),
    # One browser for the file.
    pytest.mark.xdist_group("browser"),
]

# What a page that is shown does of itself, to be compared with what the test allows.
Seen = dict[str, list[str]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    records = study(contexts=(64,), seeds=2, mixers=("attention", "slots", HOSTILE))
    records.append(record(task="recite", task_options={"placement": "early", HOSTILE: HOSTILE}))
    reader = {"reader": HOSTILE, "local": True, "retention": 0.1, "chance": 0.1, "excess": 0.0,
              "bound": 0.01, "passed": True}  # fmt: skip
    proof = {"named": "recite", "contexts": [{"context": 64, "passed": True, "readings": [reader]}]}
    write_report(
        typed(records), folder, f"rulekeep report '{HOSTILE}'", [HOSTILE],
        certificates=[proof], runs=HOSTILE,
    )  # fmt: skip
    return folder / "report.html"


def opened(browser: Any, page_file: Path, width: int = 1280) -> tuple[Any, Seen]:
    """A page with all its folds open, and what it said and asked for on the way."""
    seen: Seen = {"console": [], "errors": [], "requests": [], "dialogs": []}
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: seen["console"].append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("request", lambda request: seen["requests"].append(request.url))

    def refuse(dialog: Any) -> None:
        seen["dialogs"].append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    page.goto(page_file.as_uri())
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    return page, seen


def test_the_page_shows_every_figure_and_asks_for_nothing(browser: Any, page_file: Path) -> None:
    page, seen = opened(browser, page_file)
    assert page.locator(".drawn svg:visible").count() >= 7
    empty = "[...document.querySelectorAll('.drawn svg')].filter((s) => !s.querySelector('path'))"
    assert page.evaluate(f"{empty}.length") == 0
    assert seen["console"] == seen["errors"] == seen["dialogs"] == []
    assert seen["requests"] == [page_file.as_uri()]
    page.close()


def test_a_click_on_a_column_sorts_and_another_reverses(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file)
    table = page.locator("#table-scores")
    column = table.locator("th").all_inner_texts().index("retention")

    def values() -> list[float]:
        cells = table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()
        return [float(text.split()[0]) for text in cells]

    before = values()
    heading = table.locator("th").nth(column)
    heading.locator("button").click()
    assert values() == sorted(before)
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.locator("button").click()
    assert values() == sorted(before, reverse=True)
    assert heading.get_attribute("aria-sort") == "descending"
    names = table.locator("th").nth(1)
    names.locator("button").focus()
    page.keyboard.press("Enter")
    assert names.get_attribute("aria-sort") == "ascending"
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(browser: Any, page_file: Path, width: int) -> None:
    page, _ = opened(browser, page_file, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inner = page.evaluate(
        "[...document.querySelectorAll('.drawn svg')].map((s) => s.getBoundingClientRect().right)"
    )
    assert max(inner) <= width
    page.close()


def test_a_name_stays_text_and_a_script_without_the_hash_does_not_run(
    browser: Any, page_file: Path
) -> None:
    page, seen = opened(browser, page_file)
    assert page.locator("img").count() == page.locator("[onerror]").count() == 0
    for place in ("#table-scores", "#notes", ".command", "#table-values-state"):
        assert HOSTILE in page.locator(place).inner_text()
    assert seen["dialogs"] == seen["errors"] == seen["console"] == []
    ran = page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            return window.ran === true;
        }"""
    )
    assert ran is False
    page.close()


def compacted(number: int, guard: str, left: dict[str, tuple[str, str]], facts: int) -> Record:
    """A record of two histories that keep_last has shortened twice."""
    rules, rounds = rows(left, facts)
    return Record.read(
        {
            "id": str(number) * 16, "kind": "compaction", "asked": {}, "versions": {},
            "status": "done", "costs": {},
            "spec": {
                "task": "compaction", "mixer": "keep_last", "context": 1000, "seed": 1,
                "compactor": "keep_last", "budget": 0.25, "guard": guard, "style": "agent",
            },
            "rules": [one._asdict() for one in rules],
            "rounds": [one._asdict() for one in rounds],
        }
    )  # fmt: skip


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_of_compaction_answers_four_questions(
    browser: Any, tmp_path: Path, width: int
) -> None:
    records = [compacted(1, "none", LAST, 5), compacted(2, "restate", RESTATED, 10)]
    write_report(records, tmp_path, "rulekeep report runs")
    page, seen = opened(browser, tmp_path / "report.html", width)
    assert seen["console"] == seen["errors"] == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator(".answer h2").all_inner_texts() == [
        "How many of my rules survive?", "Which die first?", "What helps?",
        "What this does not show",
    ]  # fmt: skip
    assert page.locator(".answer .drawn svg:visible").count() == 1
    kept, lost = (
        page.locator("#table-first td.heat").nth(at)
        .evaluate("(cell) => getComputedStyle(cell).backgroundColor")
        for at in (0, 3)
    )  # fmt: skip
    assert kept != lost
    assert page.locator("#table-compaction td.bar").count() == 2
    facts = page.locator("#table-compaction th", has_text="facts")
    assert "facts" in str(facts.get_attribute("title"))
    # What stands in an answer is not shown again below.
    names = page.locator("table").evaluate_all("(all) => all.map((one) => one.id)")
    assert len({*names}) == len(names)
    page.close()
