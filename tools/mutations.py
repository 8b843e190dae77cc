"""Planted bugs: each is one edit of the source, and the tests named beside it must fail.

    python tools/mutations.py                    all of them, into results/mutations.json
    python tools/mutations.py "rotary offset"    those whose name holds this, into no file
    python tools/mutations.py --new              those it lacks or that survived, added to it

Edits are made in copies of `src`, two at once. The tests must first pass without one. Exit code 1
if a bug survives. What is added stands under the command and the environment of its run.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from keeping import keep

from rulekeep.running.costs import environment

ROOT = Path(__file__).parent.parent
RECORD = ROOT / "results" / "mutations.json"
SECONDS_AT_MOST = 900
# Each in processes of its own, of one thread.
AT_ONCE = 2


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
WEIGHTS = held("weights", "damaged_or_foreign_weights_are_one_line_and_never_executed")
LATER = held("weights", "lengths_tested_later_are_those_of_a_run_that_asked_at_once")
MUTATIONS = [
    Mutation(
        "sums: decay since the start of a chunk leaves out the token's own",
        "kernels/chunks.py",
        "    sums = q.new_ones(place, place).tril() @ log_decay\n",
        "    sums = q.new_ones(place, place).tril(-1) @ log_decay\n",
        holds("retnet"),
    ),
    Mutation(
        "sums: the same in the delta rule",
        "kernels/chunks.py",
        "    sums = decays.new_ones(chunk, chunk).tril() @ decays\n",
        "    sums = decays.new_ones(chunk, chunk).tril(-1) @ decays\n",
        holds("gated_delta"),
    ),
    Mutation(
        "sums: what a chunk leaves of the memory lacks its last token",
        "kernels/delta_rule.py",
        "            total = since_start[..., -1:, :].flatten(0, 2).mT\n",
        "            total = since_start[..., -2:-1, :].flatten(0, 2).mT\n",
        holds("kda"),
    ),
    Mutation(
        "chunks: the final state is that before the last chunk",
        "kernels/chunks.py",
        "    return Read(_to_tokens(outputs, queries.shape[1]), states[-1])\n\n\ndef linear_loop",
        "    return Read(_to_tokens(outputs, queries.shape[1]), states[-2])\n\n\ndef linear_loop",
        holds("gated_linear"),
    ),
    Mutation(
        "chunks: halves take a decay of a token for none of it",
        "kernels/chunks.py",
        "    log_decay = log_decay.clamp(min=-60.0)\n    if log_decay.shape[1] < time",
        "    log_decay = log_decay.clamp(min=-6.0)\n    if log_decay.shape[1] < time",
        ("tests/test_catalogue.py::test_hard_cases_in_float32",),
    ),
    Mutation(
        "chunks: quotients where a chunk leaves nothing",
        "kernels/chunks.py",
        "_LEAST = -40.0\n",
        "_LEAST = -4000.0\n",
        ("tests/test_catalogue.py::test_hard_cases_in_float32",),
    ),
    Mutation(
        "carry: the gradient of the initial state stops a chunk early",
        "kernels/chunks.py",
        "        return total[0], total[1:], of_kept\n",
        "        return total[1], total[1:], of_kept\n",
        holds("linear_attention"),
    ),
    Mutation(
        "triangle: a write sees itself",
        "kernels/triangle.py",
        "        return torch.cat([ones.tril(), ones.tril(-1)])\n",
        "        return torch.cat([ones.tril(), ones.tril()])\n",
        holds("delta"),
    ),
    Mutation(
        "triangle: a token does not read its own write",
        "kernels/triangle.py",
        "        return torch.cat([ones.tril(), ones.tril(-1)])\n",
        "        return torch.cat([ones.tril(-1), ones.tril(-1)])\n",
        holds("delta"),
    ),
    Mutation(
        "triangle: the last level of the inverse keeps its sign",
        "kernels/triangle.py",
        "        torch.neg(solved @ inverse[:, first, first], out=inverse[:, second, first])\n",
        "        torch.mul(solved @ inverse[:, first, first], 1, out=inverse[:, second, first])\n",
        holds("delta"),
    ),
    Mutation(
        "delta: the key is divided by the root of its length",
        "kernels/delta_rule.py",
        "        scale.mul_(scale).add_(eps).rsqrt_()\n",
        "        scale.add_(eps).rsqrt_()\n",
        holds("delta"),
    ),
    Mutation(
        "delta: no gradient of the initial state beyond its chunk",
        "kernels/delta_rule.py",
        "            every[0].view(*sizes[1:], *states.shape[2:]),\n",
        "            every[1].view(*sizes[1:], *states.shape[2:]),\n",
        holds("delta"),
    ),
    Mutation(
        "delta: the gradient of the write lacks its sign",
        "kernels/delta_rule.py",
        "        grad_write = solved.sum(-1, keepdim=True).neg_()\n",
        "        grad_write = solved.sum(-1, keepdim=True)\n",
        holds("delta"),
    ),
    Mutation(
        "delta: the gradient of the last decay forgets the state's share",
        "kernels/delta_rule.py",
        "            of_sums[:, -1:] += of_total\n",
        "            of_sums[:, -1:] += 0 * of_total\n",
        holds("kda"),
    ),
    Mutation(
        "delta: writes of up to twice the difference",
        "mixers/matrix.py",
        "        write, decay = strength.unsqueeze(-1), self._log_decay(x)\n",
        "        write, decay = 2 * strength.unsqueeze(-1), self._log_decay(x)\n",
        FORMULAS,
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
        "kernels/pieces.py",
        "                torch.zeros_like(part) if grad is None else grad\n",
        "                torch.zeros_like(part) if grad is None or i else grad\n",
        holds("ssd"),
    ),
    Mutation(
        "pieces: gradients of weights are those of the first piece",
        "kernels/pieces.py",
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
        "kernels/slot_chunks.py",
        "        lower = q.new_ones(chunk, chunk).tril()\n        sums = lower @ gate\n",
        "        lower = q.new_ones(chunk, chunk).tril()\n        sums = lower @ gate\n"
        "        lower = lower.tril(-1)\n",
        holds("gated_slots"),
    ),
    Mutation(
        "slot chunks: the gradient of a chunk's last gate lacks the state's share",
        "kernels/slot_chunks.py",
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
        "kernels/positions.py",
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
        "running/model.py",
        "                own = make()\n",
        "                own = make()\n"
        "                for name, part in own.named_parameters():\n"
        "                    if name.endswith('bias'):\n"
        "                        nn.init.zeros_(part)\n",
        ("tests/test_model.py::test_a_mixers_own_initialisation_survives",),
    ),
    Mutation(
        "run: it trains on the test split",
        "running/model_training.py",
        'task.sample("train", length',
        'task.sample("test", length',
        DRAWS,
    ),
    Mutation(
        "run: every batch is the first of its length",
        "running/model_training.py",
        "            start = number * spec.batch_size\n",
        "            start = 0\n",
        DRAWS,
    ),
    Mutation(
        "run: every seed trains on the same examples",
        "running/model_training.py",
        "spec.batch_size, seed=spec.seed, start=start)",
        "spec.batch_size, seed=0, start=start)",
        DRAWS,
    ),
    Mutation(
        "run: the examples of long tests are those of short ones",
        "running/model_figures.py",
        "spec.test_examples if context <= LONG_CONTEXT else spec.long_test_examples",
        "spec.long_test_examples if context <= LONG_CONTEXT else spec.test_examples",
        DRAWS,
    ),
    Mutation(
        "run: biases, norms and embeddings decay too",
        "running/model_training.py",
        ', "weight_decay": 0.0}',
        "}",
        DECAY,
    ),
    Mutation(
        "run: all decays but the weights of linear layers",
        "running/model_training.py",
        "p for p in parameters if id(p) in decaying]},\n"
        '        {"params": [p for p in parameters if id(p) not in decaying]',
        "p for p in parameters if id(p) not in decaying]},\n"
        '        {"params": [p for p in parameters if id(p) in decaying]',
        DECAY,
    ),
    Mutation(
        "run: the state is weighed after 64 tokens, whatever the context",
        "running/model_figures.py",
        "costs.decoding(model, _one_text(resolved, context))",
        "costs.decoding(model, _one_text(resolved, context)[:, :64])",
        STATE,
    ),
    Mutation(
        "costs: the state is the first layer's alone",
        "running/costs.py",
        "state_bytes(state.layers)",
        "state_bytes(state.layers[:1])",
        STATE,
    ),
    Mutation(
        "training: the warm-up ends a step late",
        "running/training.py",
        "step / spec.warmup_steps",
        "step / (spec.warmup_steps + 1)",
        RATE,
    ),
    Mutation(
        "training: the rate is constant after its warm-up",
        "running/training.py",
        "    if spec.final_share == 1:\n",
        "    if spec.final_share:\n",
        RATE,
    ),
    Mutation(
        "training: the cosine ends at zero",
        "running/training.py",
        "(spec.final_share + (1 - spec.final_share) * falling)",
        "falling",
        RATE,
    ),
    Mutation(
        "training: a gradient that is not finite becomes a weight",
        "running/training.py",
        "            if not torch.isfinite(norm):\n"
        '                raise DivergedError("gradient", number, value)\n',
        "",
        held("training", "a_gradient_that_is_not_finite_is_one_too_though_the_loss_is_finite"),
    ),
    Mutation(
        "evaluation: every part reads the first examples",
        "running/evaluation.py",
        "seed=seed, start=start)",
        "seed=seed, start=0)",
        held("model", "examples_read_in_parts_are_each_read_once_and_give_the_same_row"),
    ),
    Mutation(
        "evaluation: a model says the queries itself",
        "running/evaluation.py",
        "torch.where(told, step.argmax(dim=-1), answer[:, place : place + 1])",
        "step.argmax(dim=-1)",
        held("model", "a_model_generates_as_one_that_reads_everything_anew"),
    ),
    Mutation(
        "evaluation: what only generates is told the answers",
        "running/evaluation.py",
        "np.where(sample.supervised, 0, sample.answers)",
        "sample.answers",
        held("model", "what_generates_is_told_the_queries_and_no_answer"),
    ),
    Mutation(
        "report: rates are chosen on the test split",
        "analysis/cells.py",
        'evaluation.split == "dev"',
        'evaluation.split == "test"',
        held("report", "the_rate_is_chosen_on_dev_and_only_it_is_shown"),
    ),
    Mutation(
        "report: mixers are compared where one alone was tested",
        "analysis/cells.py",
        "max(most or several or tested, default=0)",
        "max(tested, default=0)",
        held("report_figures", "mixers_are_compared_no_further_than_half_of_them_were_tested"),
    ),
    Mutation(
        "report: the weakest attention is the baseline",
        "analysis/ranking.py",
        "return max(finite, key=lambda label: finite[label], default=None)",
        "return min(finite, key=lambda label: finite[label], default=None)",
        held("ranking", "the_strongest_attention_is_the_baseline_and_not_the_weakest"),
    ),
    Mutation(
        "report: a gain over rotary attention alone is a win",
        "reporting/sentences.py",
        "    if not ranking.has_strong:\n",
        "    if False:\n",
        held("ranking", "a_gain_is_said_only_over_a_strong_attention_on_five_seeds"),
    ),
    Mutation(
        "report: attention that was trained otherwise is the baseline",
        "analysis/ranking.py",
        "if trained_alike(_any(settings, one), mine)]",
        "]",
        held("ranking", "attention_of_another_protocol_is_no_baseline"),
    ),
    Mutation(
        "report: points have no intervals",
        "analysis/panels.py",
        "summary.low, summary.high, summary.seeds)",
        "None, None, summary.seeds)",
        held("report_figures", "retention_is_drawn_with_its_mean_interval_seeds_and_chance"),
    ),
    Mutation(
        "model: a hybrid's layers are in the other order",
        "running/resolving.py",
        "        tuple(makers[name] for name in spec.mixers),\n",
        "        tuple(makers[name] for name in reversed(spec.mixers)),\n",
        held("identity", "a_hybrids_layers_are_in_the_order_of_its_name"),
    ),
    Mutation(
        "identity: default values of a spec are part of its id",
        "running/resolving.py",
        'return spec.model_dump(mode="json", exclude_defaults=True)',
        'return spec.model_dump(mode="json")',
        held("identity", "a_field_added_with_a_default_changes_no_id"),
    ),
    Mutation(
        "identity: a mixer's options at their defaults are part of the id",
        "running/resolving.py",
        '            "mixer_options": given,\n',
        '            "mixer_options": options,\n',
        held("identity", "an_option_added_with_a_default_changes_no_id"),
    ),
    Mutation(
        "identity: a task's options at their defaults are part of the id",
        "running/resolving.py",
        '            "task_options": task.options.model_dump(exclude_defaults=True),\n'
        '            "mixer_options": given,\n',
        '            "task_options": task.options.model_dump(),\n'
        '            "mixer_options": given,\n',
        held("identity", "a_tasks_option_added_with_a_default_changes_no_id"),
    ),
    Mutation(
        "identity: versions are not in the id",
        "records/identity.py",
        '"versions": former_versions(versions)}',
        '"versions": {}}',
        held("identity", "a_higher_version_changes_the_id"),
    ),
    Mutation(
        "identity: the kind of a run is not in the id",
        "records/identity.py",
        '{"kind": kind, ',
        "{",
        held("identity", "runs_of_two_kinds_have_two_ids"),
    ),
    Mutation(
        "identity: of a hybrid the first mixer's version alone counts",
        "running/resolving.py",
        "for name in spec.mixers}\n    return Resolved(",
        "for name in spec.mixers[:1]}\n    return Resolved(",
        held("identity", "every_mixer_of_a_hybrid_has_its_version_in_the_id"),
    ),
    Mutation(
        "identity: the source text is part of the id",
        "running/resolving.py",
        "    versions |= {name: _version(name, kinds[name]) for name in spec.mixers}\n",
        "    versions |= {name: _version(name, kinds[name]) for name in spec.mixers}\n"
        "    versions[PROTOCOL] = _source((spec.task, *spec.mixers))\n",
        held("identity", "source_text_is_kept_and_changes_no_id"),
    ),
    Mutation(
        "identity: the content of a plug-in's file does not count",
        "running/resolving.py",
        "    return sources.content_digest(path)\n",
        "    return 1\n",
        held("identity", "a_changed_plugin_file_changes_the_id_unless_it_declares_a_version"),
    ),
    Mutation(
        "identity: a plug-in has the version of the class that it derives from",
        "running/resolving.py",
        'vars(kind).get("version")',
        'getattr(kind, "version", None)',
        held("identity", "a_mixer_of_the_catalogue_lends_a_plugin_no_version"),
    ),
    Mutation(
        "identity: a run is made whatever the versions that it was planned with",
        "sweeps/sweep.py",
        "    if resolved.id != folder.id:\n        raise RuntimeError",
        "    if False:\n        raise RuntimeError",
        held("sweep", "a_run_that_is_planned_with_other_versions_is_not_made"),
    ),
    Mutation(
        "versions: records of two are one run",
        "records/record.py",
        'return f"{self.code}\\n{json.dumps(kept, sort_keys=True)}"',
        "return json.dumps(kept, sort_keys=True)",
        held(
            "packing",
            "trainings_of_two_versions_are_not_merged_and_a_later_option_parts_none",
        ),
    ),
    Mutation(
        "versions: seeds of two stand in one mean",
        "analysis/reading.py",
        "by_code.setdefault(run.record.code, set()).add(run.seed)",
        'by_code.setdefault("", set()).add(run.seed)',
        held("report", "seeds_of_two_versions_are_told_apart_by_the_version_that_differs"),
    ),
    Mutation(
        "versions: a record of another one chooses a rate",
        "sweeps/contestants.py",
        "        if record.versions != versions:\n",
        "        if False:\n",
        held("contestants", "contestants_do_not_take_each_others_records"),
    ),
    Mutation(
        "merging: of two tests at a length that of fewer examples is shown",
        "analysis/merging.py",
        "if same and has.examples < one.examples:",
        "if same and has.examples > one.examples:",
        held("report", "of_two_tests_at_a_length_that_of_more_examples_is_shown"),
    ),
    Mutation(
        "packing: the last column of rows is lost",
        "records/pack.py",
        "_in_columns([one[key] for one in value]) for key in first}}",
        "_in_columns([one[key] for one in value]) for key in [*first][:-1]}}",
        held("packing", "packing_loses_nothing"),
    ),
    Mutation(
        "packing: rows that lack a key become columns too",
        "records/pack.py",
        "isinstance(one, dict) and list(one) == list(first) for one in value",
        "isinstance(one, dict) and set(one) >= set(first) for one in value",
        held("packing", "packing_loses_nothing"),
    ),
    Mutation(
        "packing: all that is shared has one name",
        "records/pack.py",
        'names[text] = name = f"{len(names):x}"',
        'names[text] = name = f"{0:x}"',
        held("packing", "packing_loses_nothing"),
    ),
    Mutation(
        "packing: the checksum is not compared",
        "records/pack.py",
        "            if told != checksum(values):\n",
        "            if False:\n",
        held("packing", "any_altered_line_is_found_and_the_others_are_read"),
    ),
    Mutation(
        "packing: a run stands twice, packed and in a folder of its own",
        "records/store.py",
        'if "spec" in values and identity not in live:',
        'if "spec" in values:',
        held("packing", "a_run_that_stands_in_a_folder_too_is_read_from_there"),
    ),
    Mutation(
        "packing: a folder that is packed anew is read as it was",
        "records/store.py",
        "_unpacked(path, about.st_mtime_ns, about.st_size)",
        "_unpacked(path, 0, 0)",
        held("packing", "a_packed_file_that_is_written_anew_is_read_anew"),
    ),
    Mutation(
        "packing: a packed result is made again",
        "sweeps/sweep.py",
        "            if identity in packed:\n",
        "            if False:\n",
        held("packing", "a_packed_run_is_not_made_again"),
    ),
    Mutation(
        "store: the record of another run is this one's",
        "records/store.py",
        '    if values["id"] != identity:\n',
        "    if False:\n",
        held("unreadable", "a_run_in_the_folder_of_another_is_left_out_and_not_renamed"),
    ),
    Mutation(
        "causality: answers are compared up to the first mistake alone",
        "running/evaluation.py",
        "    if len(rows):\n        at = ",
        "    if False:\n        at = ",
        held("causality", "a_model_that_sees_the_end_of_an_answer_is_not_scored"),
    ),
    Mutation(
        "causality: of many answers with a mistake none is read once more",
        "running/causality.py",
        "np.sort(self._stream.permutation(every)[:most])",
        "every[:0]",
        held("causality", "a_model_that_sees_the_end_of_an_answer_is_not_scored"),
    ),
    Mutation(
        "causality: places after a mistake count where the tokens read were others",
        "running/evaluation.py",
        "    same_before = missed.cumsum(1) - missed == 0\n",
        "    same_before = missed == missed\n",
        held("causality", "every_mixer_is_scored_and_the_check_changes_no_figure"),
    ),
    Mutation(
        "causality: of an outside model nothing is compared",
        "running/evaluation.py",
        "            _compare(check, logits, answers, reads)\n        loss = ",
        "        loss = ",
        held("causality", "an_outside_model_that_sees_the_answer_is_not_scored"),
    ),
    Mutation(
        "causality: an outside model reads the answers before it gives its own",
        "running/evaluation.py",
        "        with torch.no_grad():\n            for place in places:\n",
        "        with torch.no_grad():\n            _logits(predictor, tokens, 0)\n"
        "            for place in places:\n",
        held("causality", "an_outside_model_has_seen_no_answer_before_it_gives_its_own"),
    ),
    Mutation(
        "causality: a fifth of the answers may differ",
        "running/causality.py",
        "MOST_OTHER = 0.02\n",
        "MOST_OTHER = 0.2\n",
        held("causality", "one_answer_in_fifty_may_differ_and_no_more"),
    ),
    Mutation(
        "causality: logits are compared, which a mask makes any number",
        "running/causality.py",
        "    before, after = one.softmax(-1), other.softmax(-1)\n",
        "    largest = max(largest_of(one), largest_of(other), 1.0)\n"
        "    before, after = one / largest, other / largest\n",
        held("causality", "an_outside_model_that_sees_the_answer_is_not_scored"),
    ),
    Mutation(
        "causality: the article's contest is not looked at",
        "article/cell.py",
        "    if said := check.fault():\n        raise causality_error",
        "    if False:\n        raise causality_error",
        held("causality", "a_mixer_that_sees_later_tokens_wins_no_contest_of_the_article"),
    ),
    Mutation(
        "causality: before a run no mixer is tried at the length of an answer",
        "checks/screening.py",
        "        Size(3, answer, _ODD),\n",
        "",
        held("causality", "a_leak_at_the_length_of_an_answer_is_found_before_the_run"),
    ),
    Mutation(
        "evaluation: dropout is on where answers are read",
        "running/evaluation.py",
        "        module.training = False\n",
        "        module.training = module.training\n",
        held("causality", "each_part_of_a_model_is_left_in_the_mode_that_it_was_in"),
    ),
    Mutation(
        "evaluation: a model is left in evaluation mode",
        "running/evaluation.py",
        "            module.training = training\n",
        "            module.training = False\n",
        held("causality", "each_part_of_a_model_is_left_in_the_mode_that_it_was_in"),
    ),
    Mutation(
        "predictor: its arrays can be written to",
        "running/evaluation.py",
        "            table.flags.writeable = False\n",
        "            table.flags.writeable = True\n",
        held("causality", "what_a_predictor_is_given_cannot_be_written_to"),
    ),
    Mutation(
        "predictor: its prompts are the example's own",
        "running/evaluation.py",
        "sample.tokens[:, : sample.answer_start].copy()",
        "sample.tokens[:, : sample.answer_start]",
        held("causality", "a_question_holds_no_answer_that_is_asked_for"),
    ),
    Mutation(
        "predictor: its tokens are those that are scored",
        "running/evaluation.py",
        "predictor.logits(tokens.clone())",
        "predictor.logits(tokens)",
        held("causality", "what_a_predictor_writes_reaches_nothing_that_is_scored"),
    ),
    Mutation(
        "predictor: its task is the one that draws what is scored",
        "running/predicting.py",
        "resolved.kind(deepcopy(task))",
        "resolved.kind(task)",
        held("causality", "what_a_predictor_does_to_its_task_reaches_nothing_that_is_scored"),
    ),
    Mutation(
        "predictor: an array of a class of its own is compared as it likes",
        "running/evaluation.py",
        "        return Reading(None, None, np.array(own))\n",
        "        return Reading(None, None, own)\n",
        held("causality", "an_array_that_is_equal_to_anything_is_no_right_answer"),
    ),
    Mutation(
        "penalty: it is due in evaluation too",
        "mixers/sparse_delta.py",
        "        if not (self.training and torch.is_grad_enabled()):\n",
        "        if not torch.is_grad_enabled():\n",
        held("sparse_delta", "there_is_no_penalty_in_evaluation_and_none_without_gradients"),
    ),
    Mutation(
        "penalty: it is a sum over the batch",
        "mixers/sparse_delta.py",
        "            terms = self.gate_penalty / len(z), stretch,",
        "            terms = self.gate_penalty, stretch,",
        held("sparse_delta", "a_penalty_is_a_mean_over_the_batch_and_a_sum_over_tokens"),
    ),
    Mutation(
        "penalty: it starts a step early",
        "mixers/sparse_delta.py",
        "step <= self.penalty_start",
        "step < self.penalty_start",
        held("sparse_delta", "the_first_steps_are_free_of_penalty"),
    ),
    Mutation(
        "penalty: a text in pieces pays for the last one alone",
        "mixers/sparse_delta.py",
        "due = before.total if before is not None and goes_on else memory.new_zeros(())",
        "due = memory.new_zeros(())",
        held("sparse_delta", "a_text_that_is_read_in_pieces_pays_as_the_whole_does"),
    ),
    Mutation(
        "penalty: every forward pass adds to what is due",
        "mixers/sparse_delta.py",
        "goes_on = before is not None and before.memory is memory",
        "goes_on = before is not None",
        held("sparse_delta", "a_text_that_another_one_is_read_after_pays_no_more"),
    ),
    Mutation(
        "penalty: the gate's own gradient pays nothing",
        "mixers/sparse_delta.py",
        "alpha=ctx.rate * steepness), None",
        "alpha=0.0), None",
        held("sparse_delta", "a_penalty_is_its_own_slope"),
    ),
    Mutation(
        "penalty: the training loop does not add it",
        "running/training.py",
        "    (loss if penalty is None else loss + penalty).backward()\n",
        "    loss.backward()\n",
        held("training", "what_mixers_add_to_the_loss_is_trained_and_not_told"),
    ),
    Mutation(
        "penalty: the training loop asks for that of the next step",
        "running/training.py",
        "auxiliary_loss(model, step)",
        "auxiliary_loss(model, step + 1)",
        held("training", "what_mixers_add_to_the_loss_is_trained_and_not_told"),
    ),
    Mutation(
        "penalty: that of a mixer from outside is left out",
        "mixers/base.py",
        "        return None if own is None else own(step)\n",
        "        return None\n",
        held(
            "training",
            "penalties_are_summed_over_the_mixers_of_a_model_those_from_outside_too",
        ),
    ),
    Mutation(
        "run: what goes on after a checkpoint trains on a batch twice",
        "running/model_training.py",
        "number >= done.number:",
        "number >= done.number - 1:",
        held("runs", "the_same_bits_after_an_interruption"),
    ),
    Mutation(
        "weights: those of another run are accepted",
        "running/weights.py",
        'if said.get("run") != run or said.get("step") != str(step):',
        'if said.get("step") != str(step):',
        WEIGHTS,
    ),
    Mutation(
        "weights: those of an earlier step are accepted",
        "running/weights.py",
        'if said.get("run") != run or said.get("step") != str(step):',
        'if said.get("run") != run:',
        WEIGHTS,
    ),
    Mutation(
        "weights: those that are damaged are accepted",
        "running/weights.py",
        '    if found != said.get("sha256"):\n',
        "    if False:\n",
        WEIGHTS,
    ),
    Mutation(
        "weights: others than those of the record are accepted",
        "running/weights.py",
        "    if sha256 is not None and found != sha256:\n",
        "    if False:\n",
        held("weights", "weights_of_another_model_or_training_change_nothing"),
    ),
    Mutation(
        "weights: a run that diverged keeps its own",
        "running/run.py",
        "if last and not diverged else None",
        "if last else None",
        held("weights", "a_run_that_diverged_after_some_steps_keeps_no_weights"),
    ),
    Mutation(
        "weights: those of a record that is gone stay",
        "running/run.py",
        "    folder.weights.unlink(missing_ok=True)\n",
        "",
        held("weights", "a_run_that_diverged_keeps_no_weights_not_even_older_ones"),
    ),
    Mutation(
        "tested later: the rows say another length",
        "running/retest.py",
        '    yield row_of(model, resolved, "test", context, examples)\n',
        '    row = row_of(model, resolved, "test", context, examples)\n'
        '    yield {**row, "context": spec.context}\n',
        LATER,
    ),
    Mutation(
        "tested later: examples are those of validation",
        "running/retest.py",
        '    yield row_of(model, resolved, "test", context, examples)\n',
        '    yield {**row_of(model, resolved, "dev", context, examples), "split": "test"}\n',
        LATER,
    ),
    Mutation(
        "tested later: the record says another length",
        "running/retest.py",
        '        "context": context,\n        "command"',
        '        "context": spec.context,\n        "command"',
        LATER,
    ),
    Mutation(
        "tested later: a model that gives other figures is tested",
        "running/retest.py",
        "        if far:\n",
        "        if False:\n",
        held("weights", "figures_that_differ_in_rounding_are_said_and_kept_and_others_refused"),
    ),
    Mutation(
        "tested later: fewer examples take the place of more",
        "running/retest.py",
        "(tested := _examples(record, context)) >= examples:",
        "(tested := _examples(record, context)) == examples:",
        held("weights", "a_length_is_tested_again_only_with_more_examples"),
    ),
    Mutation(
        "terminal: escape codes of an exception reach it",
        "commands/console.py",
        "    return printable(line)\n",
        "    return line\n",
        held("terminal", "lines_tables_examples_and_verdicts_are_plain"),
    ),
    Mutation(
        "write gate: one that is shut writes a thousandth",
        "mixers/sparse_delta.py",
        "        gate = soft.clamp(0, 1)\n",
        "        gate = soft.clamp(1e-3, 1)\n",
        held("sparse_delta", "a_shut_gate_leaves_the_memory_as_it_was_bit_for_bit"),
    ),
    Mutation(
        "write gate: one that is shut learns nothing",
        "mixers/sparse_delta.py",
        "            gate = gate.detach() + (soft - soft.detach())\n",
        "            gate = gate + 0 * soft\n",
        held("sparse_delta", "a_shut_gate_still_learns_unless_the_clip_stops_it"),
    ),
    Mutation(
        "write gate: what the last tokens add to it is lost between pieces",
        "mixers/sparse_delta.py",
        "            sums = sums + functional.pad(pending, (0, 0, 0, time))\n",
        "            sums = sums + 0 * functional.pad(pending, (0, 0, 0, time))\n",
        held("sparse_delta", "a_cue_opens_the_gate_of_a_token_after_it_across_pieces_too"),
    ),
    Mutation(
        "store: a record that cannot be read stops its whole folder",
        "records/store.py",
        "        except OSError as error:\n            kept.notes.append",
        "        except ZeroDivisionError as error:\n            kept.notes.append",
        held("unreadable", "a_report_leaves_it_out_and_says_so"),
    ),
    Mutation(
        "report: a program takes a full-width equals sign for a formula",
        "reporting/text.py",
        'unicodedata.normalize("NFKC", text.lstrip()[:1])',
        "text.lstrip()[:1]",
        held("report", "no_text_of_a_csv_opens_as_a_formula_in_any_width"),
    ),
    Mutation(
        "versions: records of two that do not say what was asked are one run",
        "records/record.py",
        'return f"{self.code}\\n{self.spec.trained()}"',
        "return self.spec.trained()",
        held("report", "records_of_two_versions_are_never_one_run"),
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
    """What a record says last of each bug, those that were added later too."""
    parts = [record, *record.get("added", [])]
    return list({one["name"]: one for part in parts for one in part["mutations"]}.values())


def main() -> int:
    """Plants every bug whose name holds what is asked for."""
    asked, record = " ".join(sys.argv[1:]), {}
    chosen = [one for one in MUTATIONS if asked in one.name]
    if asked == "--new":
        record = json.loads(RECORD.read_text())
        known = {one["name"] for one in recorded(record) if one["caught"]}
        chosen = [one for one in MUTATIONS if one.name not in known]
    if not chosen:
        # Of no test by name, pytest would run all.
        print("no such bug")
        return 0 if record else 1
    tests = sorted({test for one in chosen for test in one.tests})
    ended = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = filter(None, (tests[part::AT_ONCE] for part in range(AT_ONCE)))
        for code, said in pool.map(outcome, parts):
            if code:
                print(f"without a bug: {said}")
                return 1
        for one in pool.map(plant, chosen):
            ended.append(one)
            mark = "caught" if one.caught else "SURVIVES"
            print(f"{mark:8}  {one.file:26}  {one.name}  ({one.said})", flush=True)
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
