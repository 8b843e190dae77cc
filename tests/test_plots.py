import re
import xml.etree.ElementTree as ElementTree

from matplotlib.figure import Figure

from rulekeep.analysis.panels import as_bytes, shown


def line(*values: float) -> Figure:
    figure = Figure()
    first, second = figure.subplots(1, 2)
    first.plot([1, 25], values)
    second.bar([0], values[0])
    return figure


def test_the_same_rows_give_the_same_bytes() -> None:
    first, second = (as_bytes(line(0.1, 0.9), "svg") for _ in range(2))
    assert first == second
    ElementTree.fromstring(first)


def test_a_file_is_described_by_the_values_that_its_figure_shows() -> None:
    figure = line(0.1, 0.9)
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
    assert len(found) == 3


def test_what_stands_over_all_axes_is_part_of_what_a_figure_shows() -> None:
    figure = line(0.1, 0.9)
    before = shown(figure)
    figure.suptitle("a title")
    assert shown(figure) != before
