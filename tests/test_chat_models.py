"""Chat models of other makers: their templates, tokenizers, caches and positions."""

import string
from pathlib import Path
from typing import Any

import pytest
import tiny_chat
import torch
from tiny_chat import directly

from rulekeep.language import models
from rulekeep.language.chat import Message, converse
from rulekeep.language.compressions import EVICTIONS
from rulekeep.language.contract import ROOM
from rulekeep.language.families import read_families
from rulekeep.language.models import ChatModel, Probe, load_model
from rulekeep.specs import LanguageSpec, UsageError

CHAT = (
    Message("system", "You are a helpful assistant. Follow these rules. Your name is Nora."),
    Message("user", "Hello."),
    Message("assistant", "Hi there."),
)
RULES = ("Your name is Nora.",)
PROBES = [Probe("Who are you?", "My name is", " Nora"), Probe("Say it.", "", "Great.")]


@pytest.fixture
def model(chat_folder: Path) -> ChatModel:
    return load_model(str(chat_folder))


# As Qwen3's: the last reply has its thought, even an empty one, until a request follows.
QWEN = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>"
    "{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
# As Qwen3.5's: a system prompt alone is no conversation.
ASKED = (
    "{% if messages | selectattr('role', 'equalto', 'user') | list == [] %}"
    "{{ raise_exception('No user query found') }}{% endif %}" + tiny_chat.TEMPLATE
)
# As Mistral's: the system prompt stands in the last user's turn.
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}<s>{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {% if loop.last and system is defined %}"
    "{{ system + '\n\n' }}{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
# As Gemma's, which refuses a system prompt, and others, which leave it out.
GEMMA = (
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}<{{ m.role }}>{{ m.content }}</>"
    "\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
SILENT = GEMMA.replace(
    "{{ raise_exception('System role not supported') }}{% endif %}", "{% else %}"
)
SILENT = SILENT.replace("</>\n{% endfor", "</>\n{% endif %}{% endfor")


@pytest.mark.parametrize("template", [QWEN, ASKED])
@pytest.mark.parametrize("messages", [CHAT, CHAT[:1]])
def test_a_template_that_rewrites_its_end_is_read_up_to_there(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch, template: str, messages: Any
) -> None:
    model.tokenizer.chat_template = template
    monkeypatch.setattr(models, "REPLY_TOKENS", 8)
    # As some models ask for: one reply would have it, and the other not.
    monkeypatch.setattr(model.model.generation_config, "repetition_penalty", 5.0)
    opened = model.opened(messages, rules=RULES)
    expected = [directly(model, probe, messages) for probe in PROBES]
    assert opened.scores(PROBES) == pytest.approx(expected, abs=1e-3)
    assert opened.reply("Say it.") == model.written([*messages, Message("user", "Say it.")], 8)
    (places,) = model.places(opened.head, RULES)
    ids = model.tokens(opened.head)
    assert model.tokenizer.decode([ids[at] for at in places]) == RULES[0]


def test_rules_that_a_template_moves_behind_the_chat_are_refused(model: ChatModel) -> None:
    # The last turn may be written otherwise too.
    for template in (MISTRAL, MISTRAL.replace("</s>", "{{ '' if loop.last else '</s>' }}")):
        model.tokenizer.chat_template = template
        for mentions in ("none", "instruction"):
            asked = {"distance": 100, "mentions": mentions, "control": "swapped"}
            for placement in ("start", "middle"):
                one = LanguageSpec.parse(
                    model="none", rules_at_once=1, placement=placement, **asked
                )
                found = converse(read_families(""), one, "test", 0, model.tokens_of)
                if placement == "start":
                    with pytest.raises(UsageError, match="--placement middle"):
                        model.opened(found.messages, rules=found.rules)
                else:
                    opened = model.opened(found.messages, rules=found.rules)
                    expected = [directly(model, probe, found.messages) for probe in PROBES]
                    assert opened.scores(PROBES) == pytest.approx(expected, abs=1e-3)
        # Nothing stands between such rules and the request; and without rules nothing moves.
        model.opened(CHAT[:1], rules=RULES)
        model.opened(CHAT)


@pytest.mark.parametrize("template", [GEMMA, SILENT])
@pytest.mark.parametrize("messages", [CHAT, CHAT[:1]])
def test_a_system_prompt_without_a_place_begins_the_first_users_turn(
    model: ChatModel, template: str, messages: Any
) -> None:
    count = model.tokens_of(CHAT[1:])
    assert "system prompt" not in model.libraries
    chat = ChatModel(model.model, model.tokenizer)
    chat.tokenizer.chat_template = template
    assert chat.tokens_of(CHAT[1:]) == count
    opened = chat.opened(messages, rules=RULES)
    assert opened.head.startswith(f"<user>{CHAT[0].text}\n\n{'Hello.</>' * (messages == CHAT)}")
    expected = [directly(chat, probe, messages) for probe in PROBES]
    assert opened.scores(PROBES) == pytest.approx(expected, abs=1e-3)
    assert chat.libraries["system prompt"] == "in the first user's turn"


def test_a_model_that_thinks_is_asked_after_an_empty_thought(model: ChatModel) -> None:
    request = [*CHAT, Message("user", "Say it.")]
    plain = model.text(request, reply=True)
    thought = "{{ '<think>\n\n</think>\n\n' if enable_thinking is false else '<think>\n' }}"
    for opens in (thought, "{{ '<think>\n' }}"):
        model.tokenizer.chat_template = tiny_chat.TEMPLATE.replace(
            "{% endif %}", opens + "{% endif %}"
        )
        assert model.text(request, reply=True) == f"{plain}<think>\n\n</think>\n\n"
        assert model.opened(CHAT).head == model.text(CHAT)


def test_nothing_is_read_beyond_the_last_position(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    highest = [0]
    model.model.model.rotary_emb.register_forward_pre_hook(
        lambda _, __, given: highest.append(int(given["position_ids"].max())), with_kwargs=True
    )
    opened = model.opened(CHAT)
    model.longest = opened.tokens + ROOM
    long = "Say it. " * 25
    written = [*CHAT, Message("user", "Say it.")]
    for ask in (
        lambda: opened.scores([Probe(long, "", "Yes.")]),
        lambda: opened.reply(long),
        lambda: model.written(written, 128),
    ):
        with pytest.raises(UsageError, match=f"the model {model.longest} positions; give shorter"):
            ask()
    monkeypatch.setattr(models, "REPLY_TOKENS", 200)
    monkeypatch.setattr(model, "ends", lambda: set())
    # A token is a byte, and the last is said but not read.
    assert opened.reply("Say it.")
    assert max(highest) == model.longest - 1


@pytest.mark.parametrize(
    ("config", "more", "said"),
    [
        ("Lfm2Config", {"full_attn_idxs": [1], "block_ff_dim": 48}, "no cache of keys and values"),
        ("MistralConfig", {"sliding_window": 8}, "a sliding window"),
    ],
)  # fmt: skip
def test_a_model_that_keeps_no_cache_of_all_tokens_is_refused_as_it_is_loaded(
    model: ChatModel, config: str, more: dict[str, Any], said: str
) -> None:
    transformers: Any = pytest.importorskip("transformers")
    made = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, config)(
            vocab_size=256, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, **more,
        ),
        attn_implementation="sdpa",
    )  # fmt: skip
    with pytest.raises(UsageError, match=f"^model: .*{said}.*; name one"):
        ChatModel(made, model.tokenizer)


def test_what_follows_has_no_token_that_begins_a_text(model: ChatModel) -> None:
    from tokenizers import Tokenizer, normalizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    # As SentencePiece: a text begins with a space, and a space joins the word after it.
    letters = {letter: at for at, letter in enumerate([*string.printable, "▁", "▁W"])}
    words = Tokenizer(BPE(letters, [("▁", "W")]))
    words.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    tokenizer.chat_template = tiny_chat.TEMPLATE
    chat = ChatModel(model.model, tokenizer)
    opened = chat.opened(CHAT)
    asked = chat.text([*CHAT, Message("user", "Who are you?")], reply=True)
    assert chat.tokens(opened.head) + chat.after(opened.head, asked) == chat.tokens(asked)
    expected = [directly(chat, probe, CHAT) for probe in PROBES]
    assert opened.scores(PROBES) == pytest.approx(expected, abs=1e-3)
    # Where the last token of a head joins what follows, the head stays as it was read.
    assert chat.after("<user> ", "<user> Who") == chat.tokens("Who")


def test_a_guard_finds_the_rule_and_not_its_mention(model: ChatModel) -> None:
    one = LanguageSpec.parse(
        model="none", placement="middle", mentions="instruction", control="swapped", distance=100
    )
    found = converse(read_families(""), one, "test", 0, model.tokens_of)
    opened = model.opened(found.messages, rules=found.rules)
    whole = model.text(found.messages)
    ids = model.tokens(whole)
    said = [model.tokenizer.decode([ids[at] for at in places]) for places in opened._rule_places]
    assert said == list(found.rules)
    # A token is a byte.
    stated = whole.index("From now on")
    assert all(stated < places[0] < stated + 1000 for places in opened._rule_places)
    assert any(whole.index(rule) < stated for rule in found.rules)


def test_a_conversation_is_read_in_one_form_whatever_is_observed(model: ChatModel) -> None:
    plain = model.opened(CHAT)
    scores = plain.scores(PROBES)
    for names in (["h2o"], list(EVICTIONS), ["knorm"]):
        watched = model.opened(CHAT, names)
        for own, other in zip(plain.cache.layers, watched.cache.layers, strict=True):
            assert torch.equal(own.keys, other.keys)
            assert torch.equal(own.values, other.values)
        assert watched.scores(PROBES) == plain.scores(PROBES) == scores
