"""What no GPU has run yet, as one script of some 20 minutes: send back what it writes.

    python tools/gpu.py                            # --device cuda, into gpu-report.tar.gz
    python tools/gpu.py --model ./my-model         # rules in words too: a folder of transformers
    python tools/gpu.py --device cpu --small       # tries the script itself, in a few minutes

Each command has its own log, and one that fails stops none of the others. Nothing is downloaded.
Exit code 1 if one failed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

RULEKEEP = [sys.executable, "-m", "rulekeep"]
LIMIT_SECONDS = 600


def commands(device: str, small: bool, model: str) -> Iterator[tuple[str, str]]:
    """The commands by name; `{}` is the folder of what they write."""
    steps, contexts = (20, "64") if small else (1000, "256,1028")
    first = contexts.split(",")[0]
    sizes = "--width 32 --hidden 64 --validation-examples 50 --test-examples 50" if small else ""
    run = f"run --task recite --context {first} --steps {steps} {sizes} --out {{}}"
    for mixer in ("attention", "sparse_delta"):
        yield f"check-{mixer}", f"check {mixer} --device {device}"
        for precision in ("float32", "bf16"):
            name = f"{mixer}-{precision}"
            asked = f"--mixer {mixer} --precision {precision} --device {device}"
            yield f"run-{name}", f"{run}/{name} {asked}"
            yield f"test-{name}", f"test {{}}/{name} --contexts {first} --examples 50"
    yield "run-on-cpu", f"{run}/cpu --mixer sparse_delta --device cpu"
    yield "explain", f"explain {{}}/sparse_delta-float32 --contexts {first} --examples 100"
    repeats = 1 if small else 5
    speed = f"speed --mixers attention,sparse_delta --contexts {contexts} --repeats {repeats}"
    yield "speed", f"{speed} --device {device} --out {{}}/speed"
    article = f"article --contexts {64 if small else 256} --seeds 1 --steps {steps}"
    yield "article", f"{article} --device {device} --out {{}}/article"
    if model:
        prompts, distances = (3, "32") if small else (40, "512,2048")
        for dtype in ("float32", "bfloat16"):
            yield (
                f"language-{dtype}",
                (
                    f"language --model {model} --families name,home,color,mood --prompts {prompts} "
                    f"--distances {distances} --mentions none --compress none,snapkv@0.5,kivi@4bit "
                    f"--device {device} --dtype {dtype} --out {{}}/language-{dtype}"
                ),
            )


def main() -> int:
    """Run them all, and pack what they leave."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--model", default="")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    given = parser.parse_args()
    if given.out.exists():
        print(f"{given.out}: stands there already; name another --out", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True)
    done = []
    for name, words in commands(given.device, given.small, given.model):
        asked, began = words.replace("{}", str(given.out)).split(), time.monotonic()
        with (given.out / f"{name}.log").open("w") as log:
            try:
                code = subprocess.run(
                    [*RULEKEEP, *asked], stdout=log, stderr=subprocess.STDOUT, check=False,
                    timeout=LIMIT_SECONDS,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                code = -1
        seconds = round(time.monotonic() - began, 1)
        done.append({"name": name, "command": asked, "code": code, "seconds": seconds})
        print(f"{name}: {'ok' if code == 0 else f'FAILED ({code})'}, {seconds} s", flush=True)
        (given.out / "commands.json").write_text(json.dumps(done, indent=1))
    packed = shutil.make_archive(str(given.out), "gztar", given.out.parent, given.out.name)
    print(f"send back {packed}")
    return int(any(one["code"] for one in done))


if __name__ == "__main__":
    sys.exit(main())
