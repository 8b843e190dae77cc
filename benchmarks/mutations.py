"""Planted bugs: each is one edit of the source, and the tests named beside it must fail.

    python benchmarks/mutations.py                    all of them, into results/mutations.json
    python benchmarks/mutations.py "rotary offset"    those whose name holds this, into no file
    python benchmarks/mutations.py --new              those that the record lacks, added to it

Edits are made in a copy of `src`. The tests must first pass without one. Exit code 1 if a bug
survives. What is added stands under the command and the environment that it was measured with.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keeping import keep

from rulekeep.costs import environment

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "results" / "mutations.json"
SECONDS_AT_MOST = 900


class Mutation(NamedTuple):
    """A bug: `before` stands once in `file` and becomes `after`; `tests` must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


def holds(*cases: str) -> tuple[str, ...]:
    """The conformance suite of these mixers."""
    return tuple(f"tests/test_contract.py::test_every_property_holds[{case}]" for case in cases)


def held(file: str, *names: str) -> tuple[str, ...]:
    """Tests of a file by name."""
    return tuple(f"tests/test_{file}.py::test_{name}" for name in names)


FORMULAS = ("tests/test_formulas.py",)
DRAWS = held(
    "protocol", "a_run_trains_on_batches_in_turn_looks_at_dev_and_draws_test_only_at_its_end"
)
DECAY = held("protocol", "linear_layers_decay_and_nothing_else_does")
STATE = held(
    "protocol",
    "a_run_records_the_bytes_of_every_layers_state_and_the_operations_of_a_token",
)
RATE = held("training", "the_rate_warms_up_linearly_and_falls_by_half_a_cosine_to_its_last_share")
MUTATIONS = [
    Mutation(
        "sums: decay since the start of a chunk leaves out the token's own",
        "chunks.py",
        "    sums = q.new_ones(place, place).tril() @ log_decay\n",
        "    sums = q.new_ones(place, place).tril(-1) @ log_decay\n",
        holds("retnet"),
    ),
    Mutation(
        "sums: the same in the delta rule",
        "chunks.py",
        "    sums = decays.new_ones(chunk, chunk).tril() @ decays\n",
        "    sums = decays.new_ones(chunk, chunk).tril(-1) @ decays\n",
        holds("gated_delta"),
    ),
    Mutation(
        "sums: what a chunk leaves of the memory lacks its last token",
        "delta_rule.py",
        "            total = since_start[..., -1:, :].flatten(0, 2).mT\n",
        "            total = since_start[..., -2:-1, :].flatten(0, 2).mT\n",
        holds("kda"),
    ),
    Mutation(
        "chunks: the final state is that before the last chunk",
        "chunks.py",
        "    return Read(_to_tokens(outputs, queries.shape[1]), states[-1])\n\n\ndef linear_loop",
        "    return Read(_to_tokens(outputs, queries.shape[1]), states[-2])\n\n\ndef linear_loop",
        holds("gated_linear"),
    ),
    Mutation(
        "chunks: halves take a decay of a token for none of it",
        "chunks.py",
        "    log_decay = log_decay.clamp(min=-60.0)\n    if log_decay.shape[1] < time",
        "    log_decay = log_decay.clamp(min=-6.0)\n    if log_decay.shape[1] < time",
        ("tests/test_catalogue.py::test_hard_cases_in_float32",),
    ),
    Mutation(
        "chunks: quotients where a chunk leaves nothing",
        "chunks.py",
        "_LEAST = -40.0\n",
        "_LEAST = -4000.0\n",
        ("tests/test_catalogue.py::test_hard_cases_in_float32",),
    ),
    Mutation(
        "carry: the gradient of the initial state stops a chunk early",
        "chunks.py",
        "        return total[0], total[1:], of_kept\n",
        "        return total[1], total[1:], of_kept\n",
        holds("linear_attention"),
    ),
    Mutation(
        "triangle: a write sees itself",
        "triangle.py",
        "        return torch.cat([ones.tril(), ones.tril(-1)])\n",
        "        return torch.cat([ones.tril(), ones.tril()])\n",
        holds("delta"),
    ),
    Mutation(
        "triangle: a token does not read its own write",
        "triangle.py",
        "        return torch.cat([ones.tril(), ones.tril(-1)])\n",
        "        return torch.cat([ones.tril(-1), ones.tril(-1)])\n",
        holds("delta"),
    ),
    Mutation(
        "triangle: the last level of the inverse keeps its sign",
        "triangle.py",
        "        torch.neg(solved @ inverse[:, first, first], out=inverse[:, second, first])\n",
        "        torch.mul(solved @ inverse[:, first, first], 1, out=inverse[:, second, first])\n",
        holds("delta"),
    ),
    Mutation(
        "delta: the key is divided by the root of its length",
        "delta_rule.py",
        "        scale.mul_(scale).add_(eps).rsqrt_()\n",
        "        scale.add_(eps).rsqrt_()\n",
        holds("delta"),
    ),
    Mutation(
        "delta: no gradient of the initial state beyond its chunk",
        "delta_rule.py",
        "            every[0].view(*sizes[1:], *states.shape[2:]),\n",
        "            every[1].view(*sizes[1:], *states.shape[2:]),\n",
        holds("delta"),
    ),
    Mutation(
        "delta: the gradient of the write lacks its sign",
        "delta_rule.py",
        "        grad_write = solved.sum(-1, keepdim=True).neg_()\n",
        "        grad_write = solved.sum(-1, keepdim=True)\n",
        holds("delta"),
    ),
    Mutation(
        "delta: the gradient of the last decay forgets the state's share",
        "delta_rule.py",
        "            of_sums[:, -1:] += of_total\n",
        "            of_sums[:, -1:] += 0 * of_total\n",
        holds("kda"),
    ),
    Mutation(
        "delta: writes of up to twice the difference",
        "mixers/matrix.py",
        "        write, decay = strength.unsqueeze(-1), self._log_decay(x)\n",
        "        write, decay = 2 * strength.unsqueeze(-1), self._log_decay(x)\n",
        ("tests/test_catalogue.py::test_the_delta_rule_writes_as_its_formula_says",),
    ),
    Mutation(
        "convolution: the state keeps the first inputs, not the last",
        "mixers/matrix.py",
        "part[:, 1 - _TAPS :]",
        "part[:, : _TAPS - 1]",
        holds("delta convolved"),
    ),
    Mutation(
        "pieces: no gradient from one piece to the one before",
        "pieces.py",
        "                torch.zeros_like(part) if grad is None else grad\n",
        "                torch.zeros_like(part) if grad is None or i else grad\n",
        holds("ssd"),
    ),
    Mutation(
        "pieces: gradients of weights are those of the first piece",
        "pieces.py",
        "sums[j] = grad if total is None else total.add_(grad)",
        "sums[j] = grad",
        holds("retnet"),
    ),
    Mutation(
        "linear attention: the normaliser is not carried on",
        "mixers/linear_attention.py",
        "sums[..., :-1], sums[..., -1]\n",
        "sums[..., :-1], normaliser\n",
        holds("linear_attention"),
    ),
    Mutation(
        "linear attention: normalised by the mean of the batch",
        "mixers/linear_attention.py",
        "        return total / (weight + 1e-6),",
        "        return total / (weight.mean(0, keepdim=True) + 1e-6),",
        holds("linear_attention"),
    ),
    Mutation(
        "retention: the first head lives longest",
        "mixers/retnet.py",
        "torch.arange(heads - 1, -1, -1)",
        "torch.arange(heads)",
        ("tests/test_catalogue.py::test_published_retention_is_within_reach",),
    ),
    Mutation(
        "formula: writes without their step",
        "mixers/ssd.py",
        "step.unsqueeze(-1) * values",
        "1.0 * values",
        FORMULAS,
    ),
    Mutation(
        "formula: nothing passes by the memory",
        "mixers/ssd.py",
        "return torch.addcmul(read, self.skip, values), memory",
        "return read + 0 * self.skip, memory",
        FORMULAS,
    ),
    Mutation(
        "formula: another feature map",
        "mixers/linear_attention.py",
        "(F.elu(queries_keys) + 1)",
        "F.softplus(queries_keys)",
        FORMULAS,
    ),
    Mutation(
        "formula: scores of slots are not divided by the root of the width",
        "mixers/slot_memory.py",
        "queries = queries / math.sqrt(self.key_width)",
        "queries = queries * 1.0",
        FORMULAS,
    ),
    Mutation(
        "formula: keys of slots without their silu",
        "mixers/slot_memory.py",
        "queries, keys = self._activated(queries_keys).chunk(2, dim=-2)",
        "queries, keys = queries_keys.chunk(2, dim=-2)",
        FORMULAS,
    ),
    Mutation(
        "formula: a gate's decay is taken to another root",
        "mixers/gated_linear.py",
        "_ROOT = 16",
        "_ROOT = 4",
        FORMULAS,
    ),
    Mutation(
        "formula: channels decay as those of another head",
        "mixers/kda.py",
        "unflatten(-1, (self.heads, self.key_width))",
        "unflatten(-1, (self.key_width, self.heads)).mT",
        FORMULAS,
    ),
    Mutation(
        "formula: the decay grows where its step shrinks",
        "mixers/gated_delta.py",
        "F.softplus(self.step(x))",
        "F.softplus(-self.step(x))",
        FORMULAS,
    ),
    Mutation(
        "gate: the bias of a slot's gate has the other sign",
        "mixers/gated_slots.py",
        "nn.init.constant_(self.gate.bias, -rate - math.log(-math.expm1(-rate)))",
        "nn.init.constant_(self.gate.bias, rate + math.log(-math.expm1(-rate)))",
        ("tests/test_catalogue.py::test_the_half_life_at_the_start_is_the_one_asked_for",),
    ),
    Mutation(
        "gate: steps are not the inverse of softplus",
        "mixers/ssd.py",
        "self.step.bias.copy_(steps.expm1().log())",
        "self.step.bias.copy_(steps.log())",
        ("tests/test_catalogue.py::test_the_half_life_at_the_start_is_the_one_asked_for",),
    ),
    Mutation(
        "gate: the half-life goes to the write gate of an LSTM",
        "mixers/lstm.py",
        "        gate = slice(self.width, 2 * self.width)\n",
        "        gate = slice(0, self.width)\n",
        ("tests/test_recurrent_layers.py",),
    ),
    Mutation(
        "gate: the half-life goes to the reset gate of a GRU",
        "mixers/gru.py",
        "        gate = slice(self.width, 2 * self.width)\n",
        "        gate = slice(0, self.width)\n",
        ("tests/test_recurrent_layers.py",),
    ),
    Mutation(
        "routed slots: a slot that is not routed is written by a millionth",
        "mixers/routed_slots.py",
        "        return torch.zeros_like(logits).scatter(",
        "        return torch.full_like(logits, -1e-6).scatter(",
        ("tests/test_slot_memories.py::test_a_slot_that_is_not_routed_stands_still",),
    ),
    Mutation(
        "slot chunks: a token does not see its own write",
        "slot_chunks.py",
        "        lower = q.new_ones(chunk, chunk).tril()\n        sums = lower @ gate\n",
        "        lower = q.new_ones(chunk, chunk).tril()\n        sums = lower @ gate\n"
        "        lower = lower.tril(-1)\n",
        holds("gated_slots"),
    ),
    Mutation(
        "slot chunks: the gradient of a chunk's last gate lacks the state's share",
        "slot_chunks.py",
        "        of_reads[:, -1] += (of_after * before).sum(-1) + (of_to_end * writes).sum(-2)\n",
        "        of_reads[:, -1] += (of_to_end * writes).sum(-2)\n",
        holds("gated_slots"),
    ),
    Mutation(
        "slots: a token sees the slot that it has just overwritten",
        "mixers/slots.py",
        ".triu(1).tril(count)",
        ".triu(0).tril(count)",
        holds("slots"),
    ),
    Mutation(
        "slots: no gradient of the initial state through what is read of it",
        "mixers/slots.py",
        "            from_later = in_next[0].addcmul(total[0], keep[0])\n",
        "            from_later = total[0] * keep[0] + (in_next[0] if now.start else 0)\n",
        holds("slots"),
    ),
    Mutation(
        "slots: the final state of a text that ends within a round is a token old",
        "mixers/slots.py",
        "        self.final = slice(count - self.padding, 2 * count - self.padding)\n",
        "        late = self.padding + (self.padding > 0)\n"
        "        self.final = slice(count - late, 2 * count - late)\n",
        holds("slots"),
    ),
    Mutation(
        "window: one token too long",
        "mixers/sliding_window.py",
        "((distance >= 0) & (distance < window))",
        "((distance >= 0) & (distance <= window))",
        ("tests/test_sliding_window.py",),
    ),
    Mutation(
        "window: the sinks are lost when the cache is full",
        "mixers/sliding_window.py",
        "    return torch.cat([x[:, :, :sinks], x[:, :, -window:]], dim=2)\n",
        "    return x[:, :, -(window + sinks) :]\n",
        holds("sliding_window"),
    ),
    Mutation(
        "window: a full cache turns queries by a place too far",
        "mixers/sliding_window.py",
        "clamp(max=sinks + window - 1)",
        "clamp(max=sinks + window)",
        holds("window"),
    ),
    Mutation(
        "attention: the rotary offset is not carried in the state",
        "mixers/attention.py",
        "        queries, keys = self._placed(queries, past), self._placed(keys, past)\n",
        "        queries, keys = self._placed(queries, 0), self._placed(keys, 0)\n",
        holds("attention rotary"),
    ),
    Mutation(
        "attention: a tail is turned by a place too far",
        "mixers/attention.py",
        "self._placed(queries, x.shape[1] - last)",
        "self._placed(queries, x.shape[1] - last + 1)",
        holds("attention rotary"),
    ),
    Mutation(
        "attention: ALiBi's slopes in the other order",
        "positions.py",
        "    head = torch.arange(1, heads + 1, dtype=like.dtype, device=like.device)\n",
        "    head = torch.arange(heads, 0, -1, dtype=like.dtype, device=like.device)\n",
        ("tests/test_mixers.py",),
    ),
    Mutation(
        "attention: a piece sees one token ahead",
        "mixers/attention.py",
        ".tril(total - time)",
        ".tril(total - time + 1)",
        holds("attention"),
    ),
    Mutation(
        "model: the biases of a mixer start at zero",
        "model.py",
        "                mixer = make()\n",
        "                mixer = make()\n"
        "                for name, part in mixer.named_parameters():\n"
        "                    if name.endswith('bias'):\n"
        "                        nn.init.zeros_(part)\n",
        ("tests/test_model.py::test_a_mixers_own_initialisation_survives",),
    ),
    Mutation(
        "run: it trains on the test split",
        "model_training.py",
        'task.sample("train", length',
        'task.sample("test", length',
        DRAWS,
    ),
    Mutation(
        "run: every batch is the first of its length",
        "model_training.py",
        "            start = number * spec.batch_size\n",
        "            start = 0\n",
        DRAWS,
    ),
    Mutation(
        "run: every seed trains on the same examples",
        "model_training.py",
        "spec.batch_size, seed=spec.seed, start=start)",
        "spec.batch_size, seed=0, start=start)",
        DRAWS,
    ),
    Mutation(
        "run: the examples of long tests are those of short ones",
        "model_figures.py",
        "spec.test_examples if context <= LONG_CONTEXT else spec.long_test_examples",
        "spec.long_test_examples if context <= LONG_CONTEXT else spec.test_examples",
        DRAWS,
    ),
    Mutation(
        "run: biases, norms and embeddings decay too",
        "model_training.py",
        ', "weight_decay": 0.0}',
        "}",
        DECAY,
    ),
    Mutation(
        "run: all decays but the weights of linear layers",
        "model_training.py",
        "p for p in parameters if id(p) in decaying]},\n"
        '        {"params": [p for p in parameters if id(p) not in decaying]',
        "p for p in parameters if id(p) not in decaying]},\n"
        '        {"params": [p for p in parameters if id(p) in decaying]',
        DECAY,
    ),
    Mutation(
        "run: the state is weighed after 64 tokens, whatever the context",
        "model_figures.py",
        "costs.decoding(model, _one_text(resolved, context))",
        "costs.decoding(model, _one_text(resolved, context)[:, :64])",
        STATE,
    ),
    Mutation(
        "costs: the state is the first layer's alone",
        "costs.py",
        "state_bytes(state.layers)",
        "state_bytes(state.layers[:1])",
        STATE,
    ),
    Mutation(
        "training: the warm-up ends a step late",
        "training.py",
        "step / spec.warmup_steps",
        "step / (spec.warmup_steps + 1)",
        RATE,
    ),
    Mutation(
        "training: the rate is constant after its warm-up",
        "training.py",
        "    if spec.final_share == 1:\n",
        "    if spec.final_share:\n",
        RATE,
    ),
    Mutation(
        "training: the cosine ends at zero",
        "training.py",
        "(spec.final_share + (1 - spec.final_share) * falling)",
        "falling",
        RATE,
    ),
    Mutation(
        "training: a gradient that is not finite becomes a weight",
        "training.py",
        "            if not torch.isfinite(norm):\n"
        '                raise DivergedError("gradient", number, value)\n',
        "",
        held("training", "a_gradient_that_is_not_finite_is_one_too_though_the_loss_is_finite"),
    ),
    Mutation(
        "evaluation: every part reads the first examples",
        "evaluation.py",
        "seed=seed, start=start)",
        "seed=seed, start=0)",
        held("model", "examples_read_in_parts_are_each_read_once_and_give_the_same_row"),
    ),
    Mutation(
        "evaluation: a model says the queries itself",
        "evaluation.py",
        "torch.where(told, step.argmax(dim=-1), answer[:, place : place + 1])",
        "step.argmax(dim=-1)",
        held("model", "a_model_generates_as_one_that_reads_everything_anew"),
    ),
    Mutation(
        "evaluation: what only generates is told the answers",
        "evaluation.py",
        "np.where(sample.supervised, 0, sample.answers)",
        "sample.answers",
        held("model", "what_generates_is_told_the_queries_and_no_answer"),
    ),
    Mutation(
        "report: rates are chosen on the test split",
        "report/cells.py",
        'evaluation.split == "dev"',
        'evaluation.split == "test"',
        held("report", "the_rate_is_chosen_on_dev_and_only_it_is_shown"),
    ),
    Mutation(
        "report: mixers are compared where one alone was tested",
        "report/cells.py",
        "max(several or tested, default=0)",
        "max(tested, default=0)",
        held("report", "mixers_are_compared_no_further_than_two_of_them_were_tested"),
    ),
    Mutation(
        "report: points have no intervals",
        "report/figures.py",
        "hover, summary.low, summary.high, summary.few)",
        "hover, None, None, summary.few)",
        held("report", "retention_is_drawn_with_its_mean_interval_seeds_and_chance"),
    ),
]


class Ended(NamedTuple):
    """How the tests of a mutation ended."""

    name: str
    file: str
    tests: tuple[str, ...]
    caught: bool
    said: str
    seconds: float


def outcome(tests: Sequence[str], bug: Mutation | None = None) -> tuple[int, str]:
    """Of the tests on a copy of the source: exit code (1: one failed; -1: too long), and which."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        if bug is not None:
            path = source / "rulekeep" / bug.file
            text = path.read_text()
            if text.count(bug.before) != 1:
                raise SystemExit(
                    f"{bug.name}: {bug.file} has its text {text.count(bug.before)} times"
                )
            path.write_text(text.replace(bug.before, bug.after))
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
                timeout=SECONDS_AT_MOST,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return -1, f"over {SECONDS_AT_MOST} s"
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    if not failed:
        return done.returncode, done.stdout[-300:]
    # Of the conformance suite, the rows as well.
    rows = dict.fromkeys(re.findall(r"Row\(property='([^']+)', passed=False", done.stdout))
    return done.returncode, ": ".join([failed[0].split(" - ")[0][7:], *list(rows)[:1]])


def plant(bug: Mutation) -> Ended:
    """The bug, and what its tests say."""
    started = time.monotonic()
    code, said = outcome(bug.tests, bug)
    return Ended(
        bug.name, bug.file, bug.tests, code == 1, said, round(time.monotonic() - started, 1)
    )


def recorded(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What a record says of each bug, those that were added later too."""
    parts = [record, *record.get("added", [])]
    return [one for part in parts for one in part["mutations"]]


def main() -> int:
    """Plants every bug whose name holds what is asked for."""
    asked, record = " ".join(sys.argv[1:]), {}
    chosen = [one for one in MUTATIONS if asked in one.name]
    if asked == "--new":
        record = json.loads(RECORD.read_text())
        known = {one["name"] for one in recorded(record)}
        chosen = [one for one in MUTATIONS if one.name not in known]
    if not chosen:
        # Of no test by name, pytest would run all.
        print("no such bug")
        return 0 if record else 1
    code, said = outcome(sorted({test for one in chosen for test in one.tests}))
    if code:
        print(f"without a bug: {said}")
        return 1
    ended = []
    for one in chosen:
        ended.append(plant(one))
        mark = "caught" if ended[-1].caught else "SURVIVES"
        print(f"{mark:8}  {one.file:26}  {one.name}  ({ended[-1].said})", flush=True)
    survive = sum(not one.caught for one in ended)
    print(f"\n{len(ended) - survive} of {len(ended)} bugs caught")
    found = [one._asdict() for one in ended]
    if not asked:
        keep(RECORD, mutations=found)
    elif record:
        here = {"command": f"python {sys.argv[0]} --new", "environment": environment()}
        keep(RECORD, **record | {"added": [*record.get("added", []), here | {"mutations": found}]})
    return 1 if survive else 0


if __name__ == "__main__":
    sys.exit(main())
