"""The sdist has all that is committed; the wheel made of it works outside the checkout."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def needed(requirements: list[str], extras: set[str], found: dict[str, Distribution]) -> None:
    """Adds what is required here, and what that requires: taken from what is installed."""
    for text in requirements:
        one = Requirement(text)
        # Without any extra as well.
        asked = ({"extra": extra} for extra in (*extras, ""))
        if one.name in found or (one.marker and not any(map(one.marker.evaluate, asked))):
            continue
        try:
            found[one.name] = distribution(one.name)
        except PackageNotFoundError:
            # If it is missed, the command says so.
            continue
        needed(found[one.name].requires or [], one.extras, found)


def test_the_wheel_has_every_file_and_trains_with_its_dependencies_alone(
    tmp_path: Path,
) -> None:
    # Without a word on which, the wheel is made out of the sdist.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    assert wheel.stat().st_size < 1e6
    git = ["git", "ls-files"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    with tarfile.open(sdist) as packed_source:
        held = {name.partition("/")[2] for name in packed_source.getnames()}
    # Where there is no git, as in an unpacked sdist, there is no list either.
    assert {*listed.stdout.split()} <= held
    source = ROOT / "src"
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if name.startswith("rulekeep/")}
        (metadata,) = (name for name in packed.namelist() if name.endswith("/METADATA"))
        head = packed.read(metadata).decode().split("\n\n")[0].splitlines()
    files = (path for path in (source / "rulekeep").rglob("*") if path.is_file())
    assert names == {
        path.relative_to(source).as_posix() for path in files if "__pycache__" not in path.parts
    }
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    # From the wheel, and not from the checkout.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [sys.executable, "-m", "pip", "--python", python]
    options = ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "install", *options, wheel], check=True, env=environment)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    found: dict[str, Distribution] = {}
    prefix = "Requires-Dist: "
    needed([line.removeprefix(prefix) for line in head if line.startswith(prefix)], set(), found)
    for one in found.values():
        for entry in {path.parts[0] for path in one.files or ()} - {"..", "__pycache__"}:
            if not (packages / entry).exists():
                (packages / entry).symlink_to(one.locate_file(entry))
    place = subprocess.run(
        [python, "-c", "import rulekeep; print(rulekeep.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert place.stdout.strip() == str(packages / "rulekeep" / "__init__.py")
    done = subprocess.run(
        [python.with_name("rulekeep"), "article", "--contexts", "64", "--steps", "2"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "|      64 | compressed |" in done.stdout
    assert list(tmp_path.glob("runs/article-*/*/record.json"))
