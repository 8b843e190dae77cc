import re
from pathlib import Path

from rulekeep.commands.runs import spec_values
from rulekeep.specs import RunSpec, article_cells

ROOT = Path(__file__).parent.parent


def test_the_default_grid_is_the_published_one() -> None:
    cells = [(cell.context, cell.model, cell.seed) for cell in article_cells()]
    assert cells == [
        (context, model, 7) for context in (64, 256, 1028) for model in ("attention", "compressed")
    ]


def test_serial_is_of_the_memorys_cells_and_decoys_are_of_all() -> None:
    cells = article_cells(decoys="independent", serial=True)
    assert [cell.model for cell in cells if cell.serial] == ["compressed"] * 3
    assert {cell.decoys for cell in cells} == {"independent"}
    assert {cell.decoys for cell in article_cells()} == {"published"}


def test_labels_tell_every_cell_apart() -> None:
    changes = ({}, {"serial": True}, {"decoys": "independent"})
    cells = {cell for change in changes for cell in article_cells(seeds=(1, 2), **change)}
    assert len({cell.label for cell in cells}) == len(cells) == 30


def test_the_file_of_the_docs_is_a_spec_and_quotes_or_a_table_of_its_own_say_the_same_options(
    tmp_path: Path,
) -> None:
    text = re.search(r"```toml\n(.*?)```", (ROOT / "docs" / "runs.md").read_text(), re.DOTALL)
    assert text is not None
    dotted = re.compile(r"^delta\.heads = 8.*", re.MULTILINE)
    forms = [dotted.sub(say, text[1]) for say in ('"delta.heads" = 8', "delta = {heads = 8}")]
    specs = []
    for form in (text[1], *forms):
        (tmp_path / "my.toml").write_text(form)
        specs.append(RunSpec.parse(**spec_values(str(tmp_path / "my.toml"), None)))
    assert len(set(forms)) == 2
    assert specs[0].mixer_options == {"delta.heads": 8}
    assert specs[0].task_options == {"rules": 8, "placement": "marked"}
    assert specs[1:] == specs[:1] * 2
