"""Makes the golden figures of one case, with the very code of a run.

Every function here is pure: a case in, numbers and digests out. What a refactoring of `src/` is
expected to move stands under "Where the code is touched", each in one small function.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rulekeep.article.cell import run as run_cell
from rulekeep.mixers import MIXERS
from rulekeep.records.store import RunFolder
from rulekeep.registry import options_of
from rulekeep.running import evaluation
from rulekeep.running.building import (
    environment,
    mixer_options,
    prepare_process,
    resolve,
    resolve_cell,
)
from rulekeep.running.training import build, train_model
from rulekeep.specs import ArticleCell, PredictorSpec, RunSpec
from rulekeep.tasks import TASKS, Sample, SampledTask

ROOT = Path(__file__).parents[2]
# Off the grid of the chunked forms, whose chunks have 16, 32 or 64 tokens, and longer than the
# widest window of a record, 124 tokens and 4 sinks.
BATCH, LENGTH, CUT, TAIL = 2, 147, 70, 5
STEPS, EXAMPLES = 6, 16
RULES, CONTEXTS = (2, 4, 8), (64, 256, 1028)
FIRST, SEED = 6, 1
OUTSIDE_TASKS = ("rulekeep.tasks.mixed_recall:MixedRecall",)
SPECS = (RunSpec, PredictorSpec, ArticleCell)
# One case each of what no record has, or what few have: on top of the cases of records.
EXTRA: dict[str, dict[str, Any]] = {
    "default run": {},
    "fixed length": {"mixed_lengths": False, "mixer": "delta"},
    "no growth of lengths": {"length_growth": 0.0, "mixer": "gated_delta"},
    "bfloat16 attention": {"precision": "bfloat16"},
    "bfloat16 sparse_delta": {
        "precision": "bfloat16",
        "mixer": "sparse_delta",
        "mixer_options": {"short_convolution": False},
    },
    "weight decay": {"weight_decay": 0.3, "mixer": "ssd"},
    "learned positions": {"added_positions": "learned", "mixer": "attention"},
    "small gradient norm": {"max_gradient_norm": 0.05, "mixer": "lstm"},
    "constant rate": {"final_share": 1.0, "warmup_steps": 0, "mixer": "gru"},
    "seed 2": {"seed": 2, "mixer": "kda"},
    "hybrid of three": {"mixer": "attention+delta+slots", "layers": 3},
    # The gate penalty starts after two updates, inside the six steps.
    "penalty starts": {
        "mixer": "sparse_delta",
        "mixer_options": {
            "penalty_start": 2,
            "gate_penalty": 1.0,
            "penalty_margin": 0.0,
            "short_convolution": False,
        },
    },
}


# Where the code is touched: a refactoring of `src/` changes these, and no figure.


def with_penalty(mixer: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any, Tensor]:
    """Outputs, state, and what the loss gets on top, with the penalty of training in force."""
    y, state = mixer(x, state)
    return y, state, mixer.auxiliary_loss(mixer.penalty_start + 1)


def without_penalty(mixer: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any, Tensor]:
    """Outputs, state, and nothing on top of the loss."""
    return *mixer(x, state), x.new_zeros(())


def has_penalty(mixer: Any) -> bool:
    """Whether training with this mixer has a penalty."""
    return bool(getattr(mixer, "gate_penalty", 0))


def first_steps(spec: RunSpec, steps: int) -> tuple[list[float], dict[str, Any]]:
    """Training losses of the first steps, and one evaluation after them: the code of a run."""
    resolved = resolve(spec)
    spec = resolved.spec
    model = build(resolved)
    taken = islice(train_model(resolved, model), steps)
    losses = [step.loss for step in taken]
    row = evaluation.evaluate_samples(
        evaluation.ModelPredictor(model),
        resolved.task,
        "validation",
        spec.context,
        EXAMPLES,
        spec.seed,
    )
    return losses, row


def article_history(cell: ArticleCell) -> list[dict[str, Any]]:
    """The history of a cell of the article, as its record has it."""
    record = run_cell(
        resolve_cell(cell), RunFolder(Path()), lambda step: None, lambda step, figures: None
    )
    found: list[dict[str, Any]] = record["history"]
    return found


def version_of(kind: type[Any]) -> int:
    """The version of a task or a mixer."""
    return int(kind.version)


def protocol() -> int:
    """The version of the protocol: how variants are trained, tuned and tested."""
    return RunSpec.version


# Figures.


@contextmanager
def settled() -> Iterator[None]:
    """The arithmetic of a run, whatever ran before in this process; global streams are kept."""
    prepare_process()
    with torch.random.fork_rng(devices=[]):
        yield


@cache
def machine() -> str:
    """Where figures come out with the same bits: processor, its instructions, torch."""
    told = environment()
    number = {}
    if Path("/proc/cpuinfo").exists():
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        number = {key.strip(): value.strip() for key, _, value in lines}
    exact = "/".join(number.get(key, "?") for key in ("cpu family", "model", "stepping"))
    # Of one processor, a host may hide instructions, and its caches set the order of sums.
    hidden = "".join(number.get(key, "?") for key in ("flags", "cache size"))
    exact += f"/{hashlib.sha256(hidden.encode()).hexdigest()[:6]}"
    return f"{told['cpu']} {exact}, {told['cpu_capability']}, torch {told['torch']}"


def digest(value: Any) -> str:
    """Of an array by value: masks, whole numbers and fractions each have one width."""
    array = np.asarray(value)
    wide = {"b": np.bool_, "i": "<i8", "u": "<i8", "f": "<f8"}.get(array.dtype.kind)
    if wide is None:
        raise TypeError(f"{array.dtype}: no figure")
    whole = np.ascontiguousarray(array.astype(wide))
    return hashlib.sha256(repr(whole.shape).encode() + whole.tobytes()).hexdigest()[:16]


def text_digest(value: Any) -> str:
    """Of anything that JSON has."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def task_names() -> list[str]:
    """Every task of the catalogue, and those outside it that records use."""
    return [*TASKS, *OUTSIDE_TASKS]


def defaults_of(name: str) -> dict[str, Any]:
    """Default values of a spec, a task's options or a mixer's options, as JSON has them."""
    kind, what = name.split(" ", 1)
    if kind == "spec":
        (model,) = [one for one in SPECS if one.__name__ == what]
    elif kind == "task":
        model = getattr(TASKS.find(what), "options_type", None)
        if model is None:
            return {}
    else:
        model = options_of(MIXERS.find(placed(what)))
    found = {
        key: "must be given" if field.is_required() else field.get_default()
        for key, field in model.model_fields.items()
    }
    found = json.loads(json.dumps(found))
    if what == "ArticleCell":
        found["training"] = ArticleCell(context=64, model="attention").training.model_dump()
    return found


def placed(mixer: str) -> str:
    """A mixer's name with its file found from anywhere."""
    return str(ROOT / mixer) if ".py:" in mixer else mixer


def task_figures(name: str) -> dict[str, Any]:
    """Digests of the first examples of a task, and the scores of one who is right now and then."""
    with settled():
        if name == "article":
            return _article_task()
        kind: Any = TASKS.find(name)
        found = {}
        for options in _task_options(kind):
            task: SampledTask = kind(kind.options_type(**options))
            said = " ".join(f"{key}={value}" for key, value in options.items())
            found[said] = {
                "task": text_digest([
                    task.vocabulary, task.shortest_context, task.combinations,
                    [part.tolist() for part in task.rule_words or ()],
                ]),
                **_samples(task),
            }  # fmt: skip
        default: SampledTask = kind(kind.options_type())
        found["default"] = {
            **_samples(default),
            "scores": _scores(default, max(128, default.shortest_context)),
        }
        return found


def _task_options(task: type[SampledTask]) -> list[dict[str, Any]]:
    kind = task.options_type
    layouts = {"layout"} & set(kind.model_fields)
    if task.labelled:
        updates: list[dict[str, Any]] = [{"updates": 2}] if "updates" in kind.model_fields else []
        return [{"rules": 4}, *updates]
    if kind.__name__ == "MixedRecallOptions":
        return [{"rules": rules} for rules in (4, 8, 64)]
    found = [
        {"rules": rules, "placement": placement}
        for rules in RULES
        for placement in ("early", "marked")
    ]
    if layouts:
        found += [{"rules": rules, "layout": "zoology"} for rules in RULES]
    return found


def _samples(task: SampledTask) -> dict[str, Any]:
    found = {}
    for context in CONTEXTS:
        length = max(context, task.shortest_context)
        for split in ("train", "validation", "test"):
            found[f"{split} {length}"] = _digests(task.sample(split, length, FIRST, seed=SEED))
    # Across the end of a block of 256 examples, with another seed.
    found["later"] = _digests(
        task.sample("train", max(64, task.shortest_context), 4, seed=SEED + 1, start=254)
    )
    return found


def _digests(sample: Sample) -> dict[str, str]:
    fields = {key: getattr(sample, key) for key in (*sample.tables, "answer_start")}
    return {key: digest(value) for key, value in fields.items()}


class NowAndThen(evaluation.Reader):
    """Right on about three answers of four; else it says the next word, a decoy now and then."""

    exact = True

    def error(self, said: str) -> Exception:
        """Nothing is checked: what it says is no model's."""
        return AssertionError(said)

    def read(self, sample: Sample, check: object = None) -> evaluation.Reading:
        """A fixed pattern over the answers: nothing is drawn."""
        answers = sample.answers
        place = np.arange(answers.size).reshape(answers.shape)
        first = np.where(place * 7919 % 17 < 12, answers, answers + 1)
        second = np.where(place * 7907 % 13 < 10, answers, sample.tokens[:, :1] + 3)
        own = np.where(sample.supervised, second, answers)
        return evaluation.Reading(float(place.sum()), first, own)


def _scores(task: SampledTask, context: int) -> dict[str, Any]:
    row = evaluation.evaluate_samples(NowAndThen(), task, "test", context, 600, SEED)
    found: dict[str, Any] = json.loads(json.dumps(row))
    return found


def _article_task() -> dict[str, Any]:
    task, found = TASKS["article"](), {}
    for context in CONTEXTS:
        for split in ("train", "test"):
            for decoys in ("published", "independent"):
                drawn = None if decoys == "published" else np.random.default_rng(SEED)
                examples: Any = task.examples(split, context, decoys=drawn)
                found[f"{split} {context} {decoys}"] = {
                    key: digest(getattr(examples, key))
                    for key in ("tokens", "answer_start", "rule", "first_mention", "item")
                }
    return {"task": text_digest([task.vocabulary, task.shortest_context]), **found}


def mixer_figures(case: dict[str, Any]) -> dict[str, Any]:
    """Moments of the weights as they start, and of outputs, states and gradients in float64."""
    with settled():
        found = {}
        torch.set_default_dtype(torch.float64)
        try:
            mixer = _made(case)
            found["initial"] = [moments(p, i) for i, p in enumerate(mixer.parameters())]
            half_life = getattr(mixer, "memory_half_life_tokens", None)
            found["half-life"] = None if half_life is None else float(f"{half_life:.13g}")
            for what, call in (("plain", without_penalty), ("with penalty", with_penalty)):
                mixer = _stirred(case)
                if call is without_penalty or has_penalty(mixer):
                    found[what] = _passes(mixer, case["width"], call)
        finally:
            torch.set_default_dtype(torch.float32)
    return found


def _made(case: dict[str, Any]) -> Any:
    torch.manual_seed(SEED)
    name = placed(case["mixer"])
    kind = MIXERS.find(name)
    return kind(case["width"], **mixer_options(name, kind, case["options"])).double()


def _stirred(case: dict[str, Any]) -> Any:
    """The mixer, each weight moved a little: those that start at zero count as well."""
    mixer = _made(case)
    with torch.no_grad():
        for number, parameter in enumerate(mixer.parameters()):
            reach = 0.1 if parameter.ndim < 2 else 0.5 / parameter.shape[-1] ** 0.5
            parameter.add_(torch.from_numpy(_noise(parameter.shape, number)), alpha=reach)
    return mixer


def _noise(shape: Any, *name: int) -> np.ndarray:
    return np.random.default_rng([SEED, *name]).standard_normal(tuple(shape))


def _passes(mixer: Any, width: int, call: Any) -> dict[str, Any]:
    x = torch.from_numpy(_noise((BATCH, LENGTH, width), 1000)).requires_grad_()
    y, state, extra = call(mixer, x)
    parts = [real(part) for part in (y, *state)]
    loss = extra
    for number, part in enumerate(parts):
        if part.requires_grad:
            loss = loss + (part * torch.from_numpy(_noise(part.shape, 1001, number))).sum()
    loss.backward()
    with torch.no_grad():
        _, before, _ = call(mixer, x[:, :CUT])
        later, after, _ = call(mixer, x[:, CUT:], before)
        tail = mixer.tail(x, TAIL)
    gradients = [
        torch.zeros_like(p) if p.grad is None else p.grad for p in mixer.parameters()
    ]  # fmt: skip
    return {
        "output": moments(parts[0], 0),
        "state": [moments(part, i) for i, part in enumerate(parts[1:])],
        "gradient of input": moments(x.grad, 0),
        "gradients": [moments(part, i) for i, part in enumerate(gradients)],
        "tail": moments(tail, 0),
        "later output": moments(later, 0),
        "later state": [moments(real(part), i) for i, part in enumerate(after)],
    }


def real(part: Tensor) -> Tensor:
    """A part of a state as float64, a complex one as pairs."""
    return (torch.view_as_real(part) if part.is_complex() else part).to(torch.float64)


def moments(tensor: Any, number: int) -> list[float]:
    """Size, sum, sum of magnitudes, and product with a fixed drawn tensor."""
    array = tensor.detach().numpy()
    drawn = _noise(array.shape, 2000, number)
    figures = (array.sum(), np.abs(array).sum(), (array * drawn).sum())
    return [array.size, *(float(f"{figure:.13g}") for figure in figures)]


def run_spec(case: dict[str, Any]) -> RunSpec:
    """A small run that has what is said of a record in the case, and is short in all else."""
    told = dict(case)
    task: Any = TASKS.find(told.get("task", "recite"))
    options = task.options_type(**told.get("task_options", {}))
    # Two lengths at least: below and above a chunk of 64.
    context = max(64, task(options).shortest_context) + 32
    mixer = "+".join(placed(name) for name in told.pop("mixer", "attention").split("+"))
    given = {
        "context": context, "test_contexts": [context], "steps": STEPS, "batch_size": 8,
        "warmup_steps": 2, "length_growth": 0.5, "mixer": mixer, **told,
    }  # fmt: skip
    return RunSpec.parse(**given)


def training_figures(case: dict[str, Any]) -> dict[str, Any]:
    """The losses of the first steps, and an evaluation after them."""
    with settled():
        losses, row = first_steps(run_spec(case), STEPS)
    return {"losses": losses, **{key: row[key] for key in ("val_loss", "retention", "exact")}}


def article_figures(case: dict[str, Any]) -> dict[str, Any]:
    """The first and the last of a few steps of a cell of the article."""
    with settled():
        rows = article_history(ArticleCell(context=64, steps=STEPS, **case))
    keys = (
        "train_loss", "val_loss", "token_accuracy", "rule_accuracy", "item_accuracy", "retention",
        "second_mention_accuracy", "exact",
    )  # fmt: skip
    return {f"step {row['step']}": {key: row[key] for key in keys} for row in rows}


def mixers_of(case: dict[str, Any]) -> list[str]:
    """The mixers of a case of training."""
    return list(dict.fromkeys(case.get("mixer", "attention").split("+")))


def catalogue() -> list[str]:
    """Every mixer of the catalogue."""
    return list(MIXERS)
