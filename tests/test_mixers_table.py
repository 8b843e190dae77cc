"""docs/mixers.md is what the code says and measures."""

from scripts import ROOT, script


def test_the_committed_page_is_the_one_that_the_code_makes() -> None:
    made = script("mixers").page().splitlines()
    kept = (ROOT / "docs/mixers.md").read_text().splitlines()
    assert made == kept, "python tools/mixers.py > docs/mixers.md"
