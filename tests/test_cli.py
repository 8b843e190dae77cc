"""The `rulekeep` command through its entry point, in processes of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rulekeep.article import experiment
from rulekeep.article.cell import CHANCE
from rulekeep.specs import ArticleCell
from rulekeep.store import read_record, write_record
from rulekeep.sweep import identity

COMMAND = Path(sys.executable).with_name("rulekeep")
QUICK = ["--contexts", "16", "--steps", "2"]
ATTENTION = ArticleCell(context=16, model="attention", steps=2)
COMPRESSED = ArticleCell(context=16, model="compressed", steps=2)


def rulekeep(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, cwd=cwd, timeout=200, check=False
    )


def record_path(run: Path, cell: ArticleCell) -> Path:
    """Where a cell's record stands in the output folder of a run."""
    return run / "runs" / identity(cell) / "record.json"


def copied(quick: tuple, tmp_path: Path) -> Path:
    """A copy of the quick run, to be damaged."""
    subprocess.run(["cp", "-r", quick[0] / "run", tmp_path / "run"], check=True)
    return tmp_path / "run"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """Two steps of both models at context 16."""
    folder = tmp_path_factory.mktemp("quick")
    return folder, rulekeep("article", *QUICK, "--out", "run", cwd=folder)


BAD = {
    "unknown model": (["--models", "mamba"], "model 'mamba': choose from attention, compressed"),
    "one of two models unknown": (["--models", "attention,x"], "model 'x': choose from"),
    "empty model": (["--models", ""], "model '': choose from"),
    "model twice": (["--models", "attention,attention"], "model attention given 2 times"),
    "short context": (["--contexts", "15"], "context 15: must be 16 or more"),
    "negative context": (["--contexts=-64"], "context -64: must be 16 or more"),
    "context no integer": (["--contexts", "64,big"], "--contexts '64,big': must be a whole number"),
    "context a fraction": (["--contexts", "64.5"], "--contexts '64.5': must be a whole number"),
    "context empty": (["--contexts", "64,"], "--contexts '64,': must be a whole number"),
    "context twice": (["--contexts", "64,64"], "context 64 given 2 times: name each once"),
    "negative steps": (["--steps=-1"], "steps -1: must be 1 or more"),
    "no steps": (["--steps", "0"], "steps 0: must be 1 or more"),
    "steps no integer": (["--steps", "many"], "--steps 'many': must be a whole number"),
    "seed no integer": (["--seeds", "1,x"], "--seeds '1,x': must be a whole number"),
    "negative seed": (["--seeds=-3"], "seed -3: must be from 0"),
    "huge seed": (["--seeds", str(2**64)], "must be from 0 to 2**63 - 1"),
    "seed twice": (["--seeds", "1,1"], "seed 1 given 2 times: name each once"),
    "no workers": (["--workers", "0"], "--workers 0: must be 1 or more"),
    "workers no integer": (["--workers", "two"], "--workers 'two': must be a whole number"),
    "unknown option": (["--colour"], "Unknown option: --colour"),
    "a word too many": (["attention"], "'attention'"),
    "option without value": (["--out"], "--out requires an argument"),
    "folder under a file": (["--out", "file/run"], "--out file/run: cannot be written"),
    "folder is a file": (["--out", "file"], "--out file: cannot be written"),
    "long context": (["--contexts", "9" * 12], "context 999999999999: must be 131072 or less"),
    "no folder": (["--out", ""], "--out '': must be the name of a folder"),
    "folder with a newline": (["--out", "a\nb"], "--out 'a\\nb': must be the name of a folder"),
    "folder not in utf-8": (["--out", b"\xff"], "must be the name of a folder"),
    "folder in proc": (["--out", "/proc/run"], "--out /proc/run: cannot be written"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_usage_is_one_line_and_exit_2_and_writes_nothing(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("kept")
    done = rulekeep("article", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "kept"


def test_an_unknown_command_names_the_known_ones(tmp_path: Path) -> None:
    done = rulekeep("artcle", cwd=tmp_path)
    assert done.returncode == 2
    assert "artcle" in done.stderr
    assert "article" in done.stderr.replace("artcle", "")


def test_help_and_version_need_no_torch(tmp_path: Path) -> None:
    assert "article" in rulekeep("--help", cwd=tmp_path).stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", rulekeep("--version", cwd=tmp_path).stdout)
    code = (
        "import sys, rulekeep.cli; from rulekeep.article import report;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_prints_the_table_and_where_everything_is(quick: tuple) -> None:
    _, done = quick
    assert done.returncode == 0
    assert "| verdict |" in done.stdout
    for name in ("overview.png", "report.md", "records.jsonl", "history.json", "predictions.json"):
        assert name in done.stdout
    assert "Traceback" not in done.stderr


def test_a_run_leaves_the_files_it_names_and_no_others(quick: tuple) -> None:
    folder, _ = quick
    files = {p.relative_to(folder / "run").as_posix() for p in (folder / "run").rglob("*.*")}
    assert files == {
        "history.json",
        "predictions.json",
        "records.jsonl",
        "overview.png",
        "overview.svg",
        "report.md",
        *(
            f"runs/{identity(cell)}/{name}.json"
            for cell in (ATTENTION, COMPRESSED)
            for name in ("plan", "record")
        ),
    }


def test_history_has_the_published_files_keys(quick: tuple) -> None:
    history = json.loads((quick[0] / "run" / "history.json").read_text())
    assert [(row["model"], row["step"]) for row in history] == [
        ("attention", 1),
        ("attention", 2),
        ("compressed", 1),
        ("compressed", 2),
    ]
    assert all(
        list(row)
        == [
            "benchmark",
            "model",
            "step",
            "train_loss",
            "val_loss",
            "val_acc",
            "rule_acc",
            "item_acc",
            "elapsed_sec",
        ]
        for row in history
    )
    assert all(row["benchmark"] == "ctx16" for row in history)


def test_predictions_are_the_first_five_examples_of_each_cell(quick: tuple) -> None:
    shown = json.loads((quick[0] / "run" / "predictions.json").read_text())
    assert [row["model"] for row in shown] == ["attention"] * 5 + ["compressed"] * 5
    for row in shown:
        assert len(row["prefix"].split()) == 9
        assert len(row["target"].split()) == len(row["prediction"].split()) == 7
        assert row["target"].endswith("<eos>")
    assert [row["target"] for row in shown[:5]] == [row["target"] for row in shown[5:]]


def test_records_report_scores_and_costs(quick: tuple) -> None:
    lines = (quick[0] / "run" / "records.jsonl").read_text().splitlines()
    for record in map(json.loads, lines):
        (test,) = record["evaluations"]
        assert test.keys() >= {"retention", "second_mention_accuracy", "exact", "val_loss"}
        assert (test["split"], test["context"], test["n"]) == ("test", 16, 120)
        assert test["chance"] == CHANCE
        costs = record["costs"]
        assert costs["train_seconds"] > 0
        assert costs["tokens_per_second"] == pytest.approx(2 * 64 * 16 / costs["train_seconds"])
        assert costs["state_bytes"] == {
            "16": {"attention": 16384, "compressed": 4096}[record["spec"]["model"]]
        }
        assert costs["peak_memory_bytes"] > 50e6
        assert record["environment"]["threads"] == 1


def test_records_jsonl_is_the_records_in_the_order_of_the_table(quick: tuple) -> None:
    run = quick[0] / "run"
    lines = (run / "records.jsonl").read_text().splitlines()
    for line, cell in zip(lines, (ATTENTION, COMPRESSED), strict=True):
        record = read_record(record_path(run, cell))
        assert record.pop("predictions")
        assert json.loads(line) == record
        assert record["id"] == identity(cell)
        assert record["spec"].items() >= {
            "task": "article", "mixer": cell.model, "context": 16, "seed": 7, "steps": 2,
            "learning_rate": 0.003, "batch_size": 64, "width": 64, "layers": 2,
        }.items()  # fmt: skip


def test_finished_cells_are_taken_over_and_the_rest_is_run(quick: tuple, tmp_path: Path) -> None:
    run, first = copied(quick, tmp_path), quick[1]
    record_path(run, ATTENTION).unlink()
    kept = record_path(run, COMPRESSED).stat().st_mtime_ns
    # From another folder than the one it was begun in, and by a relative name.
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 cells stand finished" in done.stderr
    assert "[1/1] ctx16-attention-seed7-steps2" in done.stderr
    assert record_path(run, COMPRESSED).stat().st_mtime_ns == kept
    assert record_path(run, ATTENTION).exists()
    assert done.stdout.splitlines()[:4] == first.stdout.splitlines()[:4]


def test_a_corrupt_record_is_set_aside_and_run_again(quick: tuple, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, COMPRESSED)
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    done = rulekeep("article", *QUICK, "--out", str(run), cwd=tmp_path)
    assert done.returncode == 0
    assert "set aside as record.json.corrupt-1" in done.stderr
    assert "[1/1] ctx16-compressed-seed7-steps2" in done.stderr
    assert path.with_name("record.json.corrupt-1").read_bytes() == whole[:100]
    again = read_record(path)
    assert again["evaluations"] == json.loads(whole)["evaluations"]
    assert again["notes"] == ["record.json.corrupt-1 was set aside as corrupt"]


def test_a_corrupt_plan_is_set_aside_and_the_cell_run(quick: tuple, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    record_path(run, ATTENTION).unlink()
    plan = record_path(run, ATTENTION).with_name("plan.json")
    plan.write_text("{")
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert "set aside as plan.json.corrupt-1" in done.stderr
    assert read_record(plan)["spec"] == ATTENTION.model_dump()
    assert record_path(run, ATTENTION).exists()


def test_a_run_of_other_code_stays_beside_the_new_one_and_is_said(
    quick: tuple, tmp_path: Path
) -> None:
    run = copied(quick, tmp_path)
    ours = record_path(run, ATTENTION).parent
    other = ours.rename(ours.with_name("0" * 16))
    kept = (other / "record.json").read_bytes()
    planned = experiment.plan([ATTENTION, COMPRESSED], run)
    assert [job.label for job in planned.jobs] == [ATTENTION.label]
    assert planned.notes == [
        f"{ATTENTION.label}: run {other.name} was made by other code than this: run again beside it"
    ]
    assert (other / "record.json").read_bytes() == kept


def test_a_record_of_another_torch_is_taken_over_and_said(quick: tuple, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    record = read_record(path)
    record["environment"]["torch"] = "1.0.0+cpu"
    write_record(path, record)
    planned = experiment.plan([ATTENTION, COMPRESSED], run)
    assert planned.jobs == []
    (note,) = planned.notes
    assert note.startswith(f"{ATTENTION.label}: made with torch 1.0.0, this is ")


def test_the_longest_cells_start_first(tmp_path: Path) -> None:
    cells = [ArticleCell(context=c, model="attention") for c in (64, 1028, 256)]
    jobs = experiment.plan(cells, tmp_path).jobs
    assert [job.label.split("-")[0] for job in jobs] == ["ctx1028", "ctx256", "ctx64"]


def test_a_failed_cell_is_named_with_its_log_and_exit_1(quick: tuple, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    path.unlink()
    lock = path.with_name("lock")
    lock.unlink()
    lock.mkdir()
    done = rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path)
    assert done.returncode == 1
    log = Path("run", "runs", path.parent.name, "log.txt")
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{ATTENTION.label}: failed: IsADirectoryError: ")
    assert last.endswith(f"(see {log})")
    assert "Traceback" in (tmp_path / log).read_text()
    # What finished is reported all the same.
    assert "|      16 | compressed |" in done.stdout
    assert "|      16 | attention  |" not in done.stdout
    # The report places it beside its finished brother.
    assert read_record(path)["spec"] == ATTENTION.settings
    lock.rmdir()
    assert rulekeep("article", *QUICK, "--out", "run", cwd=tmp_path).returncode == 0
    assert not (tmp_path / log).exists()


def test_the_runs_of_the_article_are_a_sweeps_to_verify_resume_and_report(
    quick: tuple, tmp_path: Path
) -> None:
    run = copied(quick, tmp_path)
    record_path(run, ATTENTION).unlink()
    done = rulekeep("resume", "run/runs", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 of 2 runs stand finished" in done.stderr
    assert "2 records whole, 0 broken" in rulekeep("verify", "run/runs", cwd=tmp_path).stdout
    assert rulekeep("report", "run/runs", cwd=tmp_path).returncode == 0
    text = (run / "runs" / "report" / "report.md").read_text()
    assert "(no task)" not in text
    assert "## Set aside and left out" not in text
    table = (run / "runs" / "report" / "tables.csv").read_text()
    assert "article" in table
    assert "compressed" in table


def test_a_note_of_a_finished_cell_is_no_flaw(quick: tuple, tmp_path: Path) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    record = read_record(path)
    write_record(path, {**record, "notes": ["said"], "attempt": 3})
    planned = experiment.plan([ATTENTION, COMPRESSED], run)
    assert (len(planned.finished), planned.jobs, planned.notes) == (2, [], [])


def damaged(record: dict, where: str, value: object) -> dict:
    """The record with the value at `a.b.0.c` replaced."""
    *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
    body = json.loads(json.dumps(record))
    at = body
    for key in path:
        at = at[key]
    at[last] = value
    return body


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("evaluations", [{}], "evaluations.0.val_loss: field required"),
        ("evaluations", [], "evaluations: not one at 16"),
        ("evaluations.0.rule_accuracy", 1.5, "rule_accuracy: input should be less than or equal"),
        ("evaluations.0.val_loss", "low", "val_loss: input should be a valid number"),
        ("evaluations.0.context", 64, "evaluations: not one at 16"),
        ("history", [], "history: it does not end at step 2"),
        ("history.1.step", 7, "history: it does not end at step 2"),
        ("history.0.retention", -1.0, "retention: input should be greater than or equal"),
        ("environment", None, "environment is no dict"),
        ("environment.threads", "one", "environment.threads: input should be a valid integer"),
        ("predictions", 7, "predictions: input should be a valid list"),
        ("costs", {}, "costs.train_seconds: field required"),
        ("costs.state_bytes", {"64": 1}, "costs.state_bytes: none at 16"),
        ("costs.tokens_per_second", None, "costs.tokens_per_second: none"),
        ("spec", {"context": 16}, "spec: it is of another cell"),
        ("id", "0" * 16, "it is of another run than its folder says"),
        ("status", "finished", "status 'finished' is unknown"),
        ("extra", 1, "extra: extra inputs are not permitted"),
    ],
    ids=str,
)
def test_a_record_with_a_wrong_inside_is_set_aside(
    quick: tuple, tmp_path: Path, where: str, value: object, said: str
) -> None:
    run = copied(quick, tmp_path)
    path = record_path(run, ATTENTION)
    record = read_record(path)
    assert experiment.plan([ATTENTION], run) == ([record], [], [])
    write_record(path, damaged(record, where, value))
    planned = experiment.plan([ATTENTION], run)
    assert planned.finished == []
    assert [job.label for job in planned.jobs] == [ATTENTION.label]
    (note,) = planned.notes
    assert said in note
    assert note.endswith("record.json.corrupt-1")
    assert path.with_name("record.json.corrupt-1").exists()


def test_a_record_that_is_no_file_is_set_aside(tmp_path: Path) -> None:
    path = record_path(tmp_path, ATTENTION)
    path.parent.mkdir(parents=True)
    for number, make in enumerate([os.mkfifo, os.mkdir], start=1):
        make(path)
        (note,) = experiment.plan([ATTENTION], tmp_path).notes
        assert f"not a file; set aside as record.json.corrupt-{number}" in note


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">/dev/full", "| true", ">&- 2>&-"])
def test_closed_or_full_output_loses_no_file_and_gives_no_traceback(
    quick: tuple, tmp_path: Path, closed: str
) -> None:
    subprocess.run(["cp", "-r", quick[0] / "run" / "runs", tmp_path / "runs"], check=True)
    done = subprocess.run(
        f"{COMMAND} article {' '.join(QUICK)} --out . {closed}",
        shell=True, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "report.md").exists()
    assert "Traceback" not in done.stderr + done.stdout


def test_a_terminal_without_our_letters_still_gets_the_table(quick: tuple, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", quick[0] / "run" / "runs", tmp_path / "runs"], check=True)
    done = subprocess.run(
        [COMMAND, "article", *QUICK, "--out", "."], cwd=tmp_path, capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert b"| verdict |" in done.stdout


@pytest.mark.parametrize("after", [0.0, 0.3, 0.7, 1.2])
def test_ctrl_c_at_start_up_is_one_line(tmp_path: Path, after: float) -> None:
    driver = subprocess.Popen(
        [COMMAND, "article", "--contexts", "64", "--steps", "500", "--out", "run"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "runs").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(after)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert len(errors.splitlines()) == 1
    assert "interrupted" in errors


def test_several_seeds_print_interval_and_every_seed(tmp_path: Path) -> None:
    done = rulekeep(
        "article", *QUICK, "--models", "attention", "--seeds", "1,2", "--out", "run", cwd=tmp_path
    )
    assert done.returncode == 0
    assert "95 % interval" in done.stdout
    assert "seed 2" in done.stdout
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["seed"] for row in history] == [1, 1, 2, 2]


def test_serial_gives_the_figures_of_the_parallel_memory(quick: tuple, tmp_path: Path) -> None:
    arguments = ["article", *QUICK, "--models", "compressed", "--serial", "--out", "run"]
    assert rulekeep(*arguments, cwd=tmp_path).returncode == 0
    serial = json.loads((tmp_path / "run" / "records.jsonl").read_text())
    parallel = json.loads((quick[0] / "run" / "records.jsonl").read_text().splitlines()[1])
    assert serial["spec"]["serial"]
    for name, value in parallel["evaluations"][0].items():
        assert serial["evaluations"][0][name] == pytest.approx(value, abs=1e-4)


def test_ctrl_c_keeps_finished_cells_and_says_so(tmp_path: Path) -> None:
    driver = subprocess.Popen(
        [COMMAND, "article", "--contexts", "16,1028", "--models", "attention", "--workers", "2",
         "--steps", "300", "--out", "run"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    cell = record_path(tmp_path / "run", ArticleCell(context=16, model="attention", steps=300))
    deadline = time.monotonic() + 150
    while not cell.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert "interrupted: 1 of 2 cells are finished and stand in run" in errors
    assert "Traceback" not in errors
    assert json.loads(cell.read_text())["costs"]["train_seconds"] > 0


def test_a_reader_that_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{COMMAND} article --leak --contexts 16,17,18 | head -n 1",
        shell=True, capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr


def test_leak_says_which_settings_it_ignores(tmp_path: Path) -> None:
    done = rulekeep("article", "--leak", "--steps", "3", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == "--leak trains nothing: --steps, --out ignored\n"


def test_leak_trains_nothing_and_writes_nothing(tmp_path: Path) -> None:
    done = rulekeep("article", "--leak", cwd=tmp_path)
    assert done.returncode == 0
    for context in (64, 256, 1028):
        line = next(x for x in done.stdout.splitlines() if x.startswith(f"| {context:>7} |"))
        assert re.findall(r"\d\.\d+", line)[:4] == ["0.875", "0.781", "1.000", "0.562"]
    assert list(tmp_path.iterdir()) == []
