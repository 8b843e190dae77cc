"""Rules in words: families, conversations, scores, caches that are cut, and what is said of it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Command
from report_records import of_language
from test_evictions import attention_to_come
from tiny_chat import directly, logits, spec, words

from rulekeep.analysis.summary import Interval
from rulekeep.commands import language
from rulekeep.executors import LocalExecutor
from rulekeep.language import chat, checkpointed, evictions, figures, intervals, models
from rulekeep.language import run as run_module
from rulekeep.language.chat import Message, converse
from rulekeep.language.compressions import EVICTIONS, Compression
from rulekeep.language.families import read_families
from rulekeep.language.models import ChatModel, Probe, load_model
from rulekeep.language.resolving import resolve_language
from rulekeep.records.record import Choice, Record
from rulekeep.records.store import RunFolder, read_runs
from rulekeep.reporting import language as shown
from rulekeep.reporting.language_charts import charts
from rulekeep.specs import UsageError
from rulekeep.sweeps import making, planning

SHIPPED = read_families("")
CHAT = (Message("system", "Be kind. Your name is Nora."), Message("user", "Hello there, friend."))
PROBES = [
    Probe("Who are you?", "My name is", " Nora"),
    Probe("Who are you?", "My name is", " Felix"),
    Probe("Say it.", "", "Great, here it is."),
]


@pytest.fixture(scope="module")
def model(chat_folder: Path) -> ChatModel:
    made = load_model(str(chat_folder))
    made.model.float()
    return made


# Families


def test_the_filler_says_no_option_of_a_shipped_family() -> None:
    options = {option.lower() for one in SHIPPED.values() for option in one.options}
    talk = chat.small_talk(chat._stream("chat", "test", 1, 0), 20_000, words)
    said = " ".join(message.text for turn in talk for message in turn).lower()
    assert not [option for option in options if f" {option}" in said]


FAMILY = """
[name]
kind = "asked"
group = "content"
rule = "Your name is {}."
options = ["Nora", "Felix"]
request = "Who are you?"
"""


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('["Nora", "Felix"]', '["Nora"]', "give two or more"),
        ('["Nora", "Felix"]', '["Nora", "Nora"]', "name each once"),
        ('["Nora", "Felix"]', '["Nora", "Nora Jones"]', "'Nora' stands in 'Nora Jones'"),
        ("request =", 'replies = [" a", "b"]\nrequest =', "begin with a space"),
        ("is {}.", "is secret.", "must name its option once"),
        ("request =", 'replies = ["a"]\nrequest =', "1 for 2 options"),
        ('"asked"', '"heard"', "heard"),
        ("[name]", "name = 1\n[other]", "outside a family"),
        (FAMILY, "", "no family"),
    ],
)
def test_a_family_that_cannot_be_is_refused_in_one_line(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in FAMILY
    path = tmp_path / "rules.toml"
    path.write_text(FAMILY.replace(before, after, 1))
    with pytest.raises(UsageError, match=r"^--rules") as caught:
        read_families(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# Conversations


def test_a_conversation_is_a_function_of_its_name() -> None:
    one = spec(distance=300)
    again = [converse(SHIPPED, one, "test", number, words) for number in (3, 0, 3)]
    assert again[0] == again[2] != again[1]
    assert again[0] != converse(SHIPPED, one, "validation", 3, words)


def test_rules_of_one_prompt_show_in_different_words() -> None:
    for number in range(50):
        asked = converse(SHIPPED, spec(rules_at_once=8), "test", number, words).asked
        shown = {(SHIPPED[one.family].request, SHIPPED[one.family].prefix) for one in asked}
        assert len(shown) == len(asked) == 10
        # The last ones are asked for without being stated.
        assert [one.option is None for one in asked] == [False] * 8 + [True] * 2


def test_a_family_that_is_not_stated_is_asked_for_as_often_as_another() -> None:
    six = {name: SHIPPED[name] for name in ("home", "dish", "sport", "tool", "weekday", "mood")}
    asked = [converse(six, spec(distance=0), "test", number, words).asked for number in range(60)]
    unstated = Counter(one.family for rules in asked for one in rules if one.option is None)
    assert set(unstated) == set(six)
    assert sum(unstated.values()) == 120
    assert max(unstated.values()) - min(unstated.values()) <= 12
    stated = [{one.family for one in rules if one.option is not None} for rules in asked]
    assert not any(
        one.family in of for rules, of in zip(asked, stated, strict=True) for one in rules
        if one.option is None
    )  # fmt: skip
    # Where all families are stated none is left.
    four = {name: six[name] for name in [*six][:4]}
    assert len(converse(four, spec(distance=0), "test", 0, words).asked) == 4
    written = spec(distance=0, replies="written")
    assert len(converse(six, written, "test", 0, words).asked) == 4
    # Each is asked for in four prompts at least, and of few prompts in every one.
    for prompts in range(4, 60):
        assert chat.unstated_for(27, prompts) * prompts >= 4 * 27
    assert [chat.unstated_for(27, prompts) for prompts in (2, 20, 60)] == [27, 6, 2]


@pytest.mark.parametrize("placement", ["start", "middle"])
@pytest.mark.parametrize("mentions", ["none", "word", "instruction"])
def test_every_option_is_mentioned_once_and_the_rule_is_said_once(
    placement: str, mentions: str
) -> None:
    one = spec(distance=200, placement=placement, mentions=mentions)
    found = converse(SHIPPED, one, "test", 2, words)
    texts = [message.text for message in found.messages]
    for asked in found.asked:
        family = SHIPPED[asked.family]
        rules = [text for text in texts if "Follow these rules" in text]
        assert len(rules) == 1
        for option, name in enumerate(family.options):
            if not family.is_revision:
                assert (family.said(option) in rules[0]) == (option == asked.option)
            word = f'I read "{name}" on a wall.'
            if mentions == "word":
                assert texts.count(word) == 1
            elif mentions == "instruction" and not family.is_revision:
                assert texts.count(f'Somebody told another assistant: "{family.said(option)}"') == 1
            else:
                assert word not in texts


def test_the_rules_own_option_is_mentioned_at_every_place_among_its_rivals() -> None:
    places = Counter[int]()
    for number in range(200):
        one = converse(SHIPPED, spec(distance=60, mentions="word"), "test", number, words)
        said = [message.text for message in one.messages]
        for asked in one.asked[:4]:
            family = SHIPPED[asked.family]
            order = sorted(
                family.options, key=lambda option: said.index(f'I read "{option}" on a wall.')
            )
            places[order.index(family.options[asked.option])] += 1
    # 800 rules, a quarter at each place: five standard errors.
    assert all(abs(count - 200) < 62 for count in places.values()), places


def test_the_swapped_control_says_a_rival() -> None:
    plain, swapped = (
        converse(SHIPPED, spec(distance=0, control=control), "test", 1, words)
        for control in ("none", "swapped")
    )
    assert plain.asked == swapped.asked
    assert plain.messages != swapped.messages


@pytest.mark.parametrize("each", [1, 7])
def test_the_distance_is_in_tokens_of_the_model(each: int) -> None:
    def tokens(messages: Any) -> int:
        return each * sum(len(message.text) for message in messages)

    found = converse(SHIPPED, spec(distance=3000), "test", 0, tokens)
    turns = found.messages[1:]
    assert tokens(turns) >= 3000 > tokens(turns[:-2])


def test_a_revision_names_another_option_as_the_one_it_replaces() -> None:
    revised = {name: SHIPPED[name] for name in ("new_name", "new_region")}
    for number in range(40):
        one = converse(revised, spec(distance=0, rules_at_once=2), "test", number, words)
        for asked, said in zip(one.asked, one.rules, strict=True):
            named = SHIPPED[asked.family].named(said)
            assert sum(named) == 2
            assert named[asked.option]


# Scores


def test_scores_from_a_cache_are_those_of_the_whole_text(model: ChatModel) -> None:
    read = model.opened(CHAT)
    found = read.scores(PROBES)
    assert found == pytest.approx([directly(model, probe, CHAT) for probe in PROBES], abs=1e-3)
    # Scoring has left the cache as it was.
    assert read.scores(PROBES) == found


def test_a_cut_cache_scores_as_a_mask_over_what_is_gone(model: ChatModel) -> None:
    read = model.opened(CHAT, ["streaming_llm"])
    cut = evictions.evicted(read.cache, read.seen["streaming_llm"], 0.5)
    kept = int(read.tokens * 0.5)
    gone = torch.ones(read.tokens, dtype=torch.bool)
    gone[: evictions.SINKS] = False
    gone[read.tokens - kept + evictions.SINKS :] = False
    assert cut.get_seq_length() == kept
    found = replace(read, cache=cut).scores(PROBES)
    assert found == pytest.approx([directly(model, one, CHAT, gone) for one in PROBES], abs=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_reply_is_the_likeliest_token_each_time(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(models, "REPLY_TOKENS", 8)
    opened = model.opened(CHAT, ["streaming_llm"])
    cut = opened.under(Compression.parse(f"streaming_llm@{share}"))
    gone = torch.ones(opened.tokens, dtype=torch.bool)
    gone[: evictions.SINKS] = False
    gone[opened.tokens - int(opened.tokens * share) + evictions.SINKS :] = False
    ids = model.tokens(model.text([*CHAT, Message("user", "Say it.")], reply=True))
    for _ in range(8):
        ids.append(int(logits(model, ids, gone)[-1].argmax()))
    # Asked twice: the first reply leaves the cache as it was.
    assert [cut.reply("Say it.") for _ in range(2)] == [model.tokenizer.decode(ids[-8:])] * 2


def of_family(name: str, tokenizer: Any, **more: Any) -> ChatModel:
    """A model of another family, with random weights."""
    import transformers

    size = {
        "vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**size, **more})
    return ChatModel(transformers.AutoModelForCausalLM.from_config(config).float(), tokenizer)


def still(like: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A rotation by nothing, of heads of 8 numbers."""
    cos = torch.ones(1, places.shape[1], 8)
    return cos, torch.zeros_like(cos)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("Llama", {}), ("SmolLM3", {"no_rope_layer_interval": 2}),
        ("Granite", {"attention_multiplier": 0.01}),
    ],
)  # fmt: skip
def test_evictions_see_the_attention_and_the_queries_of_the_model(
    model: ChatModel, name: str, more: dict[str, Any]
) -> None:
    other = of_family(name, model.tokenizer, **more)
    read = other.opened(CHAT, ["expected_attention", "tova", "h2o"])
    core: Any = other.model.model
    # Only this form gives what tokens attend to, in every version of transformers.
    other.model.set_attn_implementation("eager")
    with torch.no_grad():
        ids = torch.tensor([other.tokens(other.text(CHAT))])
        out = other.model(ids, output_attentions=True, output_hidden_states=True)
    for at, layer in enumerate(core.layers):
        last = out.attentions[at][:, :, -1, :-1].mean(1, keepdim=True)
        assert torch.allclose(read.seen["tova"][at][:, :1, :-1], last, atol=1e-5)
        # Of these two layers of SmolLM3, the second has no positions.
        rotary = still if name == "SmolLM3" and at == 1 else core.rotary_emb
        cache = read.cache.layers[at]
        own = layer.input_layernorm(out.hidden_states[at])[0]
        scaling = more.get("attention_multiplier", 8**-0.5)
        with torch.no_grad():
            queries = layer.self_attn.q_proj(own[evictions.SINKS :]).unflatten(-1, (4, -1))
            to_come = torch.arange(len(own), len(own) + evictions.FUTURE)[None]
            cos, sin = rotary(own[None], to_come)
        expected = attention_to_come(
            queries, cache.keys[0], cache.values[0], cos[0], sin[0], scaling
        )
        found = read.seen["expected_attention"][at][0, :, evictions.SINKS :]
        assert torch.allclose(found.double(), expected, rtol=1e-3, atol=1e-6)


# Pairs that are rotated side by side, queries of another name, no positions.
OTHER_QUERIES = {"Cohere": {}, "Phi3": {}, "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4}}


@pytest.mark.parametrize("name", OTHER_QUERIES)
def test_a_model_that_makes_its_queries_otherwise_is_refused_that_eviction_alone(
    model: ChatModel, name: str
) -> None:
    other = of_family(name, model.tokenizer, **OTHER_QUERIES[name])
    with pytest.raises(UsageError, match=r"^compress expected_attention: needs hidden") as caught:
        other.opened(CHAT, ["h2o", "expected_attention"])
    assert "\n" not in str(caught.value)
    rest = [one for one in EVICTIONS if one != "expected_attention"]
    read = other.opened(CHAT, rest)
    for one in rest:
        cut = read.under(Compression.parse(f"{one}@0.5"))
        assert {layer.keys.shape[2] for layer in cut.cache.layers} == {read.tokens // 2}


OWN = """
import torch
def small(keys): return -keys.float().norm(dim=-1)
def last(keys, attention, values=None):
    seen = attention[:, :, -1].float().mean(1, keepdim=True)
    seen[..., -1] = torch.inf
    return seen.expand(-1, keys.shape[1], -1)
def product(queries, keys, layer, *, width=16):
    every = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
    logits = (queries[:, :, -1:] * every).sum(-1) / keys.shape[-1] ** 0.5
    seen = logits.softmax(-1).mean(1, keepdim=True)
    seen[..., -1] = torch.inf
    return seen.expand(-1, keys.shape[1], -1)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of evictions, `own.py`, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)


@pytest.mark.usefixtures("own")
def test_an_eviction_of_the_users_scores_as_its_formula_does_among_ours(model: ChatModel) -> None:
    twins = {"small": "knorm", "last": "tova", "product": "tova"}
    names = [f"own.py:{one}" for one in twins]
    read = model.opened(CHAT, [*names, "knorm", "tova", "expected_attention"])
    for name, ours in zip(names, twins.values(), strict=True):
        for found, wanted in zip(read.seen[name], read.seen[ours], strict=True):
            assert torch.allclose(found, wanted, atol=1e-5), name


# What is said of it


def test_an_interval_at_an_end_is_the_exact_one() -> None:
    from scipy.stats import beta

    def interval(shares: list[float], least: float = 0.0) -> tuple[float, ...]:
        drawn = intervals.resampled(len(shares))
        return astuple(intervals.interval(np.tile(shares, (len(drawn), 1)), drawn, least))

    for n in (2, 100):
        low = float(beta.ppf(0.025, n, 1))
        assert interval([1.0] * n) == pytest.approx((1.0, low, 1.0))
        assert interval([0.0] * n) == pytest.approx((0.0, 0.0, 1 - low))
        # Prompts that were not drawn can be otherwise, either way.
        assert interval([0.0] * n, -1.0) == pytest.approx((0.0, low - 1, 1 - low))
    # Prompts that differ have their bootstrap, and ties are equal.
    assert interval([0.0, 1.0]) == pytest.approx((0.5, 0.0, 1.0), abs=0.06)
    assert interval([0.5] * 9) == (0.5, 0.5, 0.5)


def choices(score: Any, prompts: int = 40, compress: str = "none") -> Iterator[Choice]:
    """Rules of families with three options, scored by a function of (prompt, right option)."""
    draw = np.random.default_rng(0)
    for split in ("validation", "test"):
        for prompt in range(prompts):
            for rank in range(4):
                option = int(draw.integers(3))
                family = f"family-{(prompt + rank) % 6}"
                scores = tuple(score(option, draw))
                yield Choice(compress, split, prompt, family, rank, option, scores)


def record(found: Any, **asked: Any) -> Record:
    costs = {"cache_bytes": {"none": 4096, "knorm@0.5": 2048}} | asked.pop("costs", {})
    return Record.read(of_language(found, costs=costs, **asked))


# An option is likelier than the others by far, whether it is the rule or not.
LIKELY = np.array([-2.0, -9.0, -30.0])


def obeyed(option: int, _: Any) -> Any:
    """Scores of who gives each rule five nats."""
    return LIKELY + 5.0 * (np.arange(3) == option)


def test_an_oracle_follows_every_rule_whatever_an_option_scores_by_itself() -> None:
    found = figures.cell(record(choices(lambda option, _: LIKELY + 0.5 * (np.arange(3) == option))))
    assert found["none"].retention == Interval(1.0, pytest.approx(0.025 ** (1 / 40)), 1.0)
    assert found["none"].all_rules.mean == 1.0
    assert found["none"].gain == pytest.approx(0.5)
    assert found["none"].chance == pytest.approx(1 / 3)


def test_a_reader_of_nothing_scores_chance() -> None:
    found = figures.cell(record(choices(lambda _, draw: LIKELY + draw.normal(size=3), 300)))
    assert found["none"].retention.low < 1 / 3 < found["none"].retention.high


def test_a_difference_that_is_the_same_in_all_prompts_has_an_interval() -> None:
    whole = [*choices(obeyed)]
    same = [one._replace(compress="knorm@0.5") for one in whole]
    difference = figures.cell(record([*whole, *same]))["knorm@0.5"].difference
    assert difference is not None
    assert difference.mean == 0
    assert difference.low == -difference.high == pytest.approx(0.025 ** (1 / 40) - 1)


def test_a_family_that_a_model_cannot_follow_is_left_out() -> None:
    rows = [
        one._replace(scores=(0.0, 0.0, -1.0 * (one.prompt % 3)))
        if one.family == "family-2"
        else one
        for one in choices(obeyed)
    ]  # fmt: skip
    kept, left_out = figures.admitted(record(rows))
    assert left_out == ("family-2",)
    assert len(kept) == 5


def test_half_right_is_chance_where_a_family_has_two_options() -> None:
    def rows(right: int) -> list[Choice]:
        return [
            Choice("none", "validation", prompt, "two", 0, prompt % 2, shown, judged="written")
            for prompt in range(8)
            for shown in [tuple(float(o == prompt % 2 and prompt < right) for o in range(2))]
        ]

    assert figures.admitted(record(rows(5))) == ((), ("two",))
    assert figures.admitted(record(rows(6))) == (("two",), ())


def cell_of(*compress: str, name: str = "0", **asked: Any) -> Record:
    """A record of one cell, in which the model follows every rule under each compression."""
    rows = [row for one in compress for row in choices(obeyed, compress=one)]
    one = record(rows, **{"families": ["family-1"], "prompts": 40} | asked)
    spec = one.spec.model_copy(update={"compress": compress})
    return one.model_copy(update={"id": name * 16, "spec": spec})


@pytest.mark.parametrize(("version", "called"), [(2, "word, rivals alone"), (3, "word")])
def test_mentions_have_every_option_since_version_3(version: int, called: str) -> None:
    one = cell_of("none", mentions="word", versions={"protocol": version})
    assert [place.mentions for place in shown.cells([one])] == [called]


def test_compressions_that_were_run_later_stand_beside_the_first(tmp_path: Path) -> None:
    both = cell_of("none", "knorm@0.5", name="b"), cell_of("none", "snapkv@0.5", name="a")
    (kept,) = (kept for _, kept in shown.cells(both).values())
    assert {*kept} == {"none", "knorm@0.5", "snapkv@0.5"}
    assert kept["none"].prompts == 40
    assert kept["knorm@0.5"].difference is not None
    alone = shown.cells([cell_of("snapkv@0.5")])
    assert any("add none to --compress" in note for note in shown.notes(alone))


@pytest.mark.parametrize(
    "other", [{"prompts": 20}, {"seed": 2}, {"rules_at_once": 2}, {"families": ["family-2"]}],
    ids=str,
)  # fmt: skip
def test_cells_that_were_asked_for_otherwise_stand_apart(other: dict[str, Any]) -> None:
    assert len(shown.cells([cell_of("none"), cell_of("none", name="1", **other)])) == 2


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("model", {"versions": {"model": "aa11"}}, {"versions": {"model": "bb22"}}),
        ("model", {"endpoint": "http://a/v1"}, {"endpoint": "http://b/v1"}),
        ("families", {"versions": {"rules": "aa11"}}, {"versions": {"rules": "bb22"}}),
        ("families", {"families": ["family-1"]}, {"families": ["family-1", "family-2"]}),
        ("seed", {"seed": 1}, {"seed": 2}),
    ],
    ids=["weights", "endpoint", "rules", "families", "seed"],
)
def test_what_differs_in_model_families_or_seed_is_told_apart_everywhere(
    column: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    near, far = cell_of("none", **one), cell_of("none", name="1", **other, distance=99)
    more = cell_of("none", name="2", **one, distance=99)
    found = shown.cells([near, far, more])
    table = shown.tables(found)[0]
    assert len({row[table.header.index(column)].text for row in table.rows}) == 2
    (chart,) = charts(found)
    assert [len(line.points) for panel in chart.panels for line in panel.series] == [2]
    # Where all are alike, nothing says so.
    alike = shown.cells([near, more])
    assert "families" not in shown.tables(alike)[0].header
    said = shown.answers(alike)[0].said[0]
    assert said.startswith("m follows 1.000 of its rules after 99 tokens")


# Runs


@pytest.mark.slow
def test_a_cell_is_run_kept_and_resumed(chat_folder: Path, tmp_path: Path) -> None:
    one = spec(
        model=str(chat_folder), distance=40, prompts=5, rules_at_once=2, unstated=1,
        families=("home", "mood", "sport"),
        compress=("none", "knorm@0.5", "kivi@4bit", "keep_last@0.5"),
    )  # fmt: skip
    planned = planning.plan([one], tmp_path / "runs")
    events = making.execute(planned, LocalExecutor(1))
    (event,) = [event for event in events if isinstance(event, making.JobFinished)]
    assert event.record.status == "done", event.record.reason
    (found,) = read_runs(tmp_path / "runs").records
    assert len(found.choices) == 4 * 5 * (2 + 1) * 2
    assert {one.stored for one in found.choices if one.compress != "keep_last@0.5"} == {None}
    kept = [one for one in found.choices if one.compress == "keep_last@0.5"]
    assert {one.stored for one in kept if one.option is not None} <= {False, True}
    assert {one.stored for one in kept if one.option is None} == {None}
    assert found.cache_bytes["knorm@0.5"] < found.cache_bytes["none"]
    left = found.tokens_left
    assert left["none"] == left["kivi@4bit"] == round(found.costs["tokens_per_prompt"])
    assert left["knorm@0.5"] == pytest.approx(left["none"] / 2, abs=1)
    assert 0 < left["keep_last@0.5"] < left["none"]
    assert found.spec.parsed() == one
    assert planning.plan([one], tmp_path / "runs").jobs == []


def test_a_stopped_cell_goes_on_after_its_last_prompt(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointed, "CHECKPOINT_SECONDS", 0.0)
    one = spec(model=str(chat_folder), distance=0, prompts=5, rules_at_once=1)
    resolved = resolve_language(one)

    def until(stop: int) -> Any:
        def progress(step: int) -> None:
            if step == stop:
                raise KeyboardInterrupt

        return progress

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = run_module.run(resolved, RunFolder(tmp_path / "a"), lambda _: None, lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        run_module.run(resolved, RunFolder(tmp_path / "b"), until(4), lambda *_: None)
    steps: list[int] = []
    parts = run_module.run(resolved, RunFolder(tmp_path / "b"), steps.append, lambda *_: None)
    assert parts["choices"] == whole["choices"]
    assert steps[0] == 4
    # Bytes are the mean over prompts, as tokens are: 2 layers, 2 heads of 8 numbers of 2 bytes.
    for one in (whole, parts):
        tokens = one["costs"]["tokens_per_prompt"]
        assert one["costs"]["cache_bytes"]["none"] == round(tokens * 2 * 2 * 2 * 8 * 2)
        assert one["costs"]["tokens_left"]["none"] == round(tokens)


def test_a_command_counts_by_its_words_and_the_files_among_them(
    chat_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").write_text("#!/bin/sh\n")
    (tmp_path / "mine").chmod(0o755)

    def found(*commands: str) -> list[str]:
        asked = [spec(model=str(chat_folder), compress=(f"{one}@0.5",)) for one in commands]
        return [resolve_language(one).id for one in asked]

    (tmp_path / "words").write_text("a")
    commands = ["./mine", "./mine --flag", "./mine words", "./mine --by=words", "sh ./words"]
    before = found(*commands)
    assert len({*before}) == len(commands)
    (tmp_path / "words").write_text("b")
    after = found(*commands)
    changed = [one != other for one, other in zip(before, after, strict=True)]
    assert changed == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model Qwen/Qwen3-0.6B", "as in hf download Qwen/Qwen3-0.6B --local-dir qwen"),
        ("--model {} --compress snap@0.5", "choose from none"),
        ("--model {} --compress snapkv@2", "above 0 and at most 1"),
        ("--model {} --compress mine.py:cache@0.5", "takes budget; an eviction takes keys, "),
        ("--endpoint http://a/v1 --model m --compress mine.py:cut@0.5", "has no cache to cut"),
        ("--model {} --compress none,none", "name each once"),
        ("--model {} --rules-at-once 60", "can stand together"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_2(
    chat_folder: Path, tmp_path: Path, run: Command,
    options: str, said: str,
) -> None:  # fmt: skip
    (tmp_path / "mine.py").write_text("def cache(keys, values, budget): ...\ndef cut(keys): ...\n")
    code, _, error = run(
        "language", *options.replace("{}", str(chat_folder)).split(), "--out", "runs"
    )
    assert (code, error.count("\n")) == (2, 1), error
    assert said.replace("{}", str(chat_folder)) in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_cut_cache_is_that_of_kvpress(model: ChatModel) -> None:
    kvpress = pytest.importorskip("kvpress", reason="needs pip install kvpress")
    from transformers import DynamicCache

    messages = [Message(one.role, one.text * 6) for one in CHAT]
    read = model.opened(messages, list(EVICTIONS))
    ids = torch.tensor([model.tokens(model.text(messages))])
    for share in (0.5, 0.25):
        presses = {
            "streaming_llm": kvpress.StreamingLLMPress(1 - share, n_sink=evictions.SINKS),
            "snapkv": kvpress.SnapKVPress(1 - share, window_size=evictions.WINDOW),
            "tova": kvpress.TOVAPress(1 - share),
            "knorm": kvpress.KnormPress(1 - share),
            "h2o": kvpress.ObservedAttentionPress(1 - share),
            "expected_attention": kvpress.ExpectedAttentionPress(
                1 - share, n_future_positions=evictions.FUTURE
            ),
        }
        for name, press in presses.items():
            theirs = DynamicCache()
            with torch.inference_mode(), press(model.model):
                model.model.model(ids, past_key_values=theirs, use_cache=True)
            ours = evictions.evicted(read.cache, read.seen[name], share)
            found, wanted = (replace(read, cache=one).scores(PROBES) for one in (ours, theirs))
            assert found == pytest.approx(wanted, abs=1e-4), name


def test_rules_in_the_middle_of_recorded_chat_stand_at_its_middle_by_tokens() -> None:
    def talk(*_: Any) -> list[list[Message]]:
        return [[Message("user", "word " * size)] for size in (10, 10, 10, 90)]

    found = converse(SHIPPED, spec(placement="middle"), "test", 0, words, talk)
    texts = [message.text for message in found.messages[1:]]
    # Thirty of 120 tokens are nearer to sixty than twenty or all are.
    assert [text.startswith("From now on:") for text in texts].index(True) == 3


def test_the_families_named_as_kept_least_are_those_of_the_least_compression() -> None:
    lost = [
        one._replace(scores=tuple(LIKELY)) if one.family == "family-4" else one
        for one in choices(obeyed, compress="knorm@0.5")
    ]
    one = cell_of("none")
    one = one.model_copy(update={"choices": (*choices(obeyed), *lost)})
    found = shown.cells([one])
    least = shown.answers(found)[1].said[0]
    # Two others follow by name.
    assert least.startswith(
        "Under knorm@0.5 these are followed least: family-4 (0.33), family-0 (1.00)"
    )
    # Its mean is below 0.9 of the whole's, if not its upper end.
    assert shown.answers(found)[2].said[0].endswith(": none of these.")
    tables = {table.key: table for table in shown.tables(found)}
    assert tables["first-families"].header == ("family", "none", "knorm@0.5")
    # Rules of a sixth of all: 1 - (1 - 1/3) / 6 = 0.89.
    header = tables["helps"].header
    assert header[0] == "compression"
    at = header.index("retention")
    assert [row[at].text[:4] for row in tables["helps"].rows] == ["1.00", "0.88"]


def test_each_column_of_the_cells_has_its_own_figure() -> None:
    plain = [*choices(obeyed)]
    short = [one._replace(compress="keep_last@0.5", stored=one.prompt < 10) for one in plain]
    # Of what is said the rules of every fourth prompt are lost.
    back = [
        one._replace(how="said", scores=tuple(LIKELY) if one.prompt % 4 == 0 else one.scores)
        for one in short
    ]
    one = cell_of("none").model_copy(update={"choices": (*plain, *short, *back)})
    table = shown.tables(shown.cells([one]))[0]
    (row,) = [row for row in table.rows if row[table.header.index("compression")].text != "none"]
    values = {head: cell.text for head, cell in zip(table.header, row, strict=True)}
    assert (values["stored"], values["said"]) == ("0.250", "0.833")
    assert (values["retention"][:5], values["all rules"], values["prompts"]) == (
        "1.000", "1.000", "40"
    )  # fmt: skip
    assert (values["floor"], values["gain, nats"], values["minus whole"][:5]) == (
        "0.333", "5.00", "0.000"
    )  # fmt: skip


@pytest.mark.parametrize(("names", "prompts"), [(26, 20), (26, 100), (6, 20)])
def test_few_rules_are_left_out_with_as_many_families_as_the_command_asks_for(
    names: int, prompts: int
) -> None:
    # The families that the study's model follows without chat, or six of them.
    known = sorted({*SHIPPED} - {"layout", "letters"})
    families = {name: SHIPPED[name] for name in known[:names]}
    lost = rules = 0
    for seed in range(1, 5):
        one = spec(distance=0, seed=seed, unstated=language._unstated(spec(), names, prompts))
        rows = [
            Choice("none", "test", number, asked.family, asked.rank, asked.option,
                   tuple(range(len(families[asked.family].options))))
            for number in range(prompts)
            for asked in converse(families, one, "test", number, words).asked
        ]  # fmt: skip
        left_out = figures.left_out(record(rows))
        lost, rules = lost + left_out.rules, rules + left_out.of
    assert rules == 4 * 4 * prompts
    assert lost <= 0.05 * rules
