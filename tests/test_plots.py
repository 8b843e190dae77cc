import re
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.figure import Figure

from rulekeep.analysis.plots import as_bytes, shown
from rulekeep.article.overview import Curve, article_overview


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


def test_every_curve_is_drawn_where_its_figures_are_and_every_bar_as_high_as_its_mean() -> None:
    curves, columns = [], ("val_loss", "token_accuracy", "rule_accuracy")
    for place, (model, context, seed) in enumerate(
        [("attention", 64, 7), ("attention", 64, 8), ("compressed", 64, 7), ("attention", 256, 7)]
    ):
        own = curve(model, context, seed)
        for number, column in enumerate(columns, 1):
            own[column] = [number / 10 + place / 100, number / 10 + place / 50]
        curves.append(own | {"step": [1, 25 + place], "train_seconds": 2.0 + place})
    *panels, seconds = article_overview(curves, "CPU").axes
    for axes, column in zip(panels, columns, strict=True):
        assert axes.get_title().startswith(column.replace("val_", "validation ").replace("_", " "))
        assert [list(line.get_ydata()) for line in axes.lines] == [one[column] for one in curves]
        assert [list(line.get_xdata()) for line in axes.lines] == [one["step"] for one in curves]
        styles = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
        assert styles[0] == styles[1]
        assert len(set(styles)) == 3
    # The mean of two seeds, and both as points; the other model beside it; the other context.
    assert [bar.get_height() for bar in seconds.patches] == [2.5, 5.0, 4.0]
    centres = [bar.get_x() + bar.get_width() / 2 for bar in seconds.patches]
    assert centres == pytest.approx([-0.2, 0.8, 0.2])
    assert [list(line.get_ydata()) for line in seconds.lines] == [[2.0, 3.0]]
    assert [note.get_text() for note in seconds.texts] == ["2.5", "5.0", "4.0"]


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


def test_a_file_is_described_by_the_values_that_its_figure_shows() -> None:
    figure = article_overview([curve("attention", 64, 7), curve("compressed", 64, 7)], "CPU")
    before = shown(figure)
    (described,) = re.findall(rb"Description\x00([0-9a-f]{64})", as_bytes(figure, "png"))
    assert described.decode() == before == shown(figure)
    assert before in as_bytes(figure, "svg").decode()
    found = {before}
    for axes in figure.axes:
        if axes.lines:
            axes.lines[0].set_ydata([0.5, 0.6])
        else:
            axes.patches[0].set_height(2.001)
        found.add(shown(figure))
    assert len(found) == 5


def test_names_of_rows_and_shades_are_part_of_what_a_figure_shows() -> None:
    found = []
    for name, shade in (("a", 0.5), ("b", 0.5), ("a", 0.6)):
        figure = Figure()
        axes = figure.subplots()
        axes.set_yticks([0], [name])
        axes.imshow([[shade]])
        found.append(shown(figure))
    assert len(set(found)) == 3
