"""The `rulekeep` command through its entry point."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from article_runs import (
    COMPRESSED,
    QUICK,
    Quick,
    record_path,
)
from tiny import COMMAND, rulekeep

from rulekeep.console import EXIT_USAGE
from rulekeep.records.store import RunFolder, read_record
from rulekeep.sweeps.making import JobFinished
from rulekeep.sweeps.planning import Plan


def test_a_run_prints_the_table_and_where_everything_is(quick: Quick) -> None:
    _, done = quick
    assert done.returncode == 0
    *table, verdict, leak, page, after = done.stdout.splitlines()
    assert "|      16 | attention  |    7 |" in "\n".join(table)
    assert verdict == "As published: no cell here has a published figure."
    assert "0.414 of first rules right at 16 tokens" in leak
    assert page.endswith("rulekeep report run")
    assert "rulekeep demo" in after
    assert "Traceback" not in done.stderr


def test_full_output_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{COMMAND} list >/dev/full",
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == EXIT_USAGE
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_serial_gives_the_figures_of_the_parallel_memory(quick: Quick, tmp_path: Path) -> None:
    arguments = ["article", *QUICK, "--models", "compressed", "--serial", "--out", "run"]
    assert rulekeep(*arguments, cwd=tmp_path).returncode == 0
    alone = COMPRESSED.model_copy(update={"serial": True})
    serial = read_record(record_path(tmp_path / "run", alone))
    parallel = read_record(record_path(quick[0] / "run", COMPRESSED))
    assert serial["spec"]["serial"]
    for name, value in parallel["evaluations"][0].items():
        assert serial["evaluations"][0][name] == pytest.approx(value, abs=1e-4)


def test_ctrl_c_keeps_finished_cells_and_says_so(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = quick.folder / "run"

    def interrupted(planned: Plan, *_: object, **__: object) -> Iterator[JobFinished]:
        first = planned.jobs[0]
        shutil.copy(runs / first.id / "record.json", Path(first.root) / first.id)
        yield JobFinished(first, RunFolder(runs / first.id).load())
        raise KeyboardInterrupt

    monkeypatch.setattr("rulekeep.sweeps.making.execute", interrupted)
    done = rulekeep("article", *QUICK, "--out", "my run", cwd=tmp_path)
    assert done.returncode == 130
    begun, first, end = done.stderr.splitlines()
    assert begun.startswith("2 runs to make in ")
    assert first.startswith("[1/2] ")
    again = "for the rest: rulekeep resume 'my run'"
    assert end == f"interrupted: 1 of 2 runs are finished; {again}"


@pytest.mark.parametrize(
    "command",
    ["certify article --context 16,17,18", "speed --help", "list"],
)
def test_a_reader_that_leaves_early_ends_a_command_with_141_and_no_traceback(
    tmp_path: Path, command: str
) -> None:
    done = subprocess.run(
        f"{COMMAND} {command} | head -n 0; echo ${{PIPESTATUS[0]}}",
        shell=True, executable="/bin/bash",
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("141\n", "")
