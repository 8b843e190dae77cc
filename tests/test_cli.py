"""The `rulekeep` command through its entry point."""

import subprocess
from pathlib import Path

import pytest
from article_runs import (
    COMPRESSED,
    QUICK,
    Quick,
    record_path,
)
from tiny import COMMAND, rulekeep

from rulekeep.records.store import read_record


def test_serial_gives_the_figures_of_the_parallel_memory(quick: Quick, tmp_path: Path) -> None:
    arguments = ["article", *QUICK, "--models", "compressed", "--serial", "--out", "run"]
    assert rulekeep(*arguments, cwd=tmp_path).returncode == 0
    alone = COMPRESSED.model_copy(update={"serial": True})
    serial = read_record(record_path(tmp_path / "run", alone))
    parallel = read_record(record_path(quick[0] / "run", COMPRESSED))
    assert serial["spec"]["serial"]
    for name, value in parallel["evaluations"][0].items():
        assert serial["evaluations"][0][name] == pytest.approx(value, abs=1e-4)


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
