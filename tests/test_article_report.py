from pathlib import Path
from typing import Any

import pytest

from rulekeep.article import report
from rulekeep.article.published import published_figures
from rulekeep.records import Record
from rulekeep.specs import ArticleCell

PUBLISHED = {
    (64, "attention"): (0.244, 0.938, 0.906),
    (64, "compressed"): (0.937, 0.699, 0.492),
    (256, "attention"): (0.709, 0.757, 0.581),
    (256, "compressed"): (1.095, 0.633, 0.358),
    (1028, "attention"): (0.990, 0.701, 0.492),
    (1028, "compressed"): (1.163, 0.577, 0.263),
}


def row(
    val_loss: float, token: float, rule: float, retention: float = 0.125, **more: Any
) -> Record:
    """A record's figures, each another: what is read for another is seen."""
    found = {"val_loss": val_loss, "token_accuracy": token, "rule_accuracy": rule}
    found |= {"retention": retention, "second_mention_accuracy": 0.875, "item_accuracy": 0.25}
    test = {"split": "test", "context": 64, **found, "exact": 0.0625}
    return made({"status": "done", "reason": None, "evaluations": [test], **more})


def made(values: dict[str, Any]) -> Record:
    spec = {"context": 64, "seed": 7, "model": "attention", "task": "article", "mixer": ""}
    head = {"id": "0" * 16, "kind": "article", "asked": spec, "versions": {"protocol": 1}}
    return Record.read({**head, "spec": spec, **values})


DIVERGED: dict[str, Any] = {
    "status": "diverged", "reason": "loss not finite at step 3; last finite loss: 2.1",
    "evaluations": [], "history": [],
    "costs": {
        "train_seconds": 0.0, "tokens_per_second": None, "state_bytes": {"64": 4},
        "peak_memory_bytes": 2**20, "parameters": 3,
    },
    "environment": {
        "rulekeep": "1", "python": "3", "torch": "2", "cpu": "a processor",
        "cpu_capability": "AVX", "device": "cpu", "threads": 1,
    },
}  # fmt: skip


def cells_of(table: str) -> list[list[str]]:
    """The rows below a table's head, cell by cell."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


@pytest.mark.parametrize(("context", "model"), list(PUBLISHED))
def test_published_figures_are_the_articles(context: int, model: str) -> None:
    figures = published_figures(ArticleCell(context=context, model=model))
    assert figures is not None
    assert (figures.val_loss, figures.token_accuracy, figures.rule_accuracy) == PUBLISHED[
        context, model
    ]


@pytest.mark.parametrize(
    ("figures", "fails"),
    [
        ((0.244, 0.938, 0.906), False),
        ((0.263, 0.947, 0.897), False),
        ((0.265, 0.938, 0.906), True),
        ((0.244, 0.949, 0.906), True),
        ((0.244, 0.938, 0.895), True),
        ((float("nan"), 0.938, 0.906), True),
    ],
)
def test_a_cell_fails_outside_its_tolerance_only(figures: tuple, fails: bool) -> None:
    cell = ArticleCell(context=64, model="attention")
    table, _, failures = report.comparison({cell: row(*figures)})
    assert bool(failures) == fails
    assert f"| {figures[0]:.3f} (0.244) |" in table
    assert ("out of tolerance" in table) == fails
    assert all(failure.startswith(cell.label) for failure in failures)


@pytest.mark.parametrize(
    "change", [{"context": 128}, {"seed": 1}, {"steps": 79}, {"decoys": "independent"}]
)
def test_a_cell_without_a_published_figure_has_no_verdict(change: dict) -> None:
    cell = ArticleCell(**({"context": 64, "model": "attention"} | change))
    table, _, failures = report.comparison({cell: row(9.0, 0.0, 0.0)})
    assert failures == []
    assert table.splitlines()[-1].rstrip(" |").endswith("–")


def test_seeds_come_with_mean_interval_and_every_seed() -> None:
    rows = {}
    for seed, rule in enumerate([0.4, 0.5, 0.6, 0.5, 0.5]):
        cell = ArticleCell(context=64, model="attention", seed=seed)
        rows[cell] = row(1.0, 0.7, rule, retention=rule - 0.3)
    # t(0.975, 4) = 2.776; standard deviation 0.0707; half width 0.0878.
    assert cells_of(report.over_seeds(rows))[:3] == [
        ["64", "attention", "rule_accuracy", "0.500 (0.412 to 0.588)",
         "0.400", "0.500", "0.600", "0.500", "0.500"],
        ["64", "attention", "retention", "0.200 (0.112 to 0.288)",
         "0.100", "0.200", "0.300", "0.200", "0.200"],
        ["64", "attention", "token_accuracy", "0.700 (0.700 to 0.700)", *["0.700"] * 5],
    ]  # fmt: skip
    few = dict(list(rows.items())[:2])
    assert "; 2 seeds: few)" in report.over_seeds(few)


@pytest.mark.parametrize(("decoys", "retains"), [("published", 0.5625), ("independent", 0.118)])
def test_the_reader_without_memory_stands_beside_the_seeds(decoys: str, retains: float) -> None:
    rows = {
        ArticleCell(context=64, model="attention", seed=seed, decoys=decoys): row(1.0, 0.7, 0.5)
        for seed in (1, 2)
    }
    (line,) = [
        line
        for line in report.over_seeds(rows).splitlines()
        if "last 6 tokens" in line and "retention" in line
    ]
    assert float(line.split("|")[4]) == pytest.approx(retains, abs=0.0006)


def test_differences_are_of_rule_accuracy_and_of_retention() -> None:
    # Seeds differ by more than models do: an interval that is not paired is far wider.
    rows = {
        ArticleCell(context=64, model=model, seed=seed): row(
            1.0, 0.7, rule + seed / 10, retention=kept + seed / 10
        )
        for model, rule, kept in (("attention", 0.3, 0.1), ("delta", 0.5, 0.4))
        for seed in range(5)
    }
    assert cells_of(report.against_attention(rows)) == [
        ["64", "delta", "rule_accuracy", "0.200 (0.200 to 0.200)"],
        ["64", "delta", "retention", "0.300 (0.300 to 0.300)"],
    ]


def test_details_are_a_cells_own_in_the_order_of_their_columns() -> None:
    cell = ArticleCell(context=64, model="compressed", seed=3, serial=True)
    costs = {
        "train_seconds": 12.34, "tokens_per_second": 56789.4, "state_bytes": {"64": 4112},
        "peak_memory_bytes": 7 * 2**20, "parameters": 1234567,
    }  # fmt: skip
    table = report.details({cell: row(1.0, 0.7, 0.5, costs=costs)})
    head = [name.strip() for name in table.splitlines()[0].split("|")[1:-1]]
    (line,) = cells_of(table)
    assert dict(zip(head, line, strict=True)) == {
        "context": "64", "model": "compressed (serial)", "seed": "3", "retention": "0.125",
        "second mentions": "0.875", "item": "0.250", "exact": "0.062", "train s": "12.3",
        "tokens/s": "56,789", "state bytes": "4,112", "peak MiB": "7", "parameters": "1,234,567",
    }  # fmt: skip


def test_a_cell_that_diverged_is_a_row_and_a_failure(tmp_path: Path) -> None:
    cells = {
        ArticleCell(context=64, model="attention", seed=seed): made(DIVERGED) for seed in (7, 8)
    }
    table, _, failures = report.comparison(cells)
    assert table.count("| diverged |") == 2
    assert failures[0] == (
        "ctx64-attention-seed7-steps80: diverged: loss not finite at step 3; last finite loss: 2.1"
    )
    assert "0.000" not in report.details(cells)
    lines = report.over_seeds(cells).splitlines()
    (line,) = [line for line in lines if "attention" in line and "retention" in line]
    assert "2 of 2 diverged" in line
    assert line.count("| diverged") == 2
    report.write_outputs(tmp_path, cells, "rulekeep article", "2 cells in 1 s")
    assert (
        "NO, 2 of 2 cells are out of tolerance. ctx64-attention-seed7-steps80: diverged"
        in (tmp_path / "report.md").read_text()
    )


def test_leak_table_shows_the_known_figures() -> None:
    (cells,) = cells_of(report.leak_table([64]))
    assert cells == ["64", "0.875", "0.781", "1.000", "0.562", "0.125"]
    (cells,) = cells_of(report.leak_table([64], "independent"))
    assert cells[4] == "0.118"
    for decoys in ("published", "independent"):
        hidden = "are not shown to it" in report.leak_meaning(decoys)
        assert hidden == (decoys == "independent")


def test_tables_line_up_and_escape_nothing_away() -> None:
    table = report.markdown_table(["a", "number"], [["x", "1"], ["longer", "100"]])
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[1].endswith(":|")
