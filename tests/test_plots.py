import xml.etree.ElementTree as ElementTree

from rulekeep.plots import Curve, article_overview, as_bytes
from rulekeep.report.charts import legend_names


def curve(model: str, context: int, seed: int) -> Curve:
    return {
        "context": context,
        "model": model,
        "seed": seed,
        "step": [1, 25],
        "val_loss": [3.0, 1.0],
        "token_accuracy": [0.1, 0.9],
        "rule_accuracy": [0.1, 0.8],
        "train_seconds": 2.0,
    }


def test_overview_has_the_four_panels_and_the_device() -> None:
    curves = [curve("attention", 64, 7), curve("compressed", 64, 7), curve("attention", 256, 7)]
    figure = article_overview(curves, "CPU: a processor")
    assert len(figure.axes) == 4
    assert "CPU: a processor" in figure.get_suptitle()
    assert [len(axes.lines) for axes in figure.axes[:3]] == [3, 3, 3]
    assert len(figure.axes[3].patches) == 3


def test_every_seed_is_drawn_and_named_once() -> None:
    figure = article_overview([curve("attention", 64, seed) for seed in (1, 2, 3)], "CPU")
    assert len(figure.axes[0].lines) == 3
    assert len(figure.axes[0].get_legend().get_texts()) == 1


def test_the_same_rows_give_the_same_bytes() -> None:
    first, second = (
        as_bytes(article_overview([curve("attention", 64, 7)], "CPU"), "svg") for _ in range(2)
    )
    assert first == second
    ElementTree.fromstring(first)
    assert as_bytes(article_overview([curve("a", 64, 7)], "CPU"), "png").startswith(b"\x89PNG")


def test_a_legend_says_what_tells_two_mixers_apart_and_cuts_it_off_nowhere() -> None:
    labels = [
        f"attention, added_positions {added}, positions {positions}"
        for added in ("none", "earliness")
        for positions in ("none", "rotary")
    ]
    names = legend_names([*labels, "a, b, c", labels[0], "delta, window none", "delta"])
    assert list(names.values()) == [
        "attention, no positions", "attention, rotary positions",
        "attention, no positions, earliness", "attention, rotary positions, earliness",
        # A name of the user's own stays; two that would be said alike are not.
        "a, b, c", "delta, window none", "delta",
    ]  # fmt: skip
