"""The `rulekeep` command through its entry point."""

import subprocess
from pathlib import Path

import pytest
from tiny import COMMAND


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
