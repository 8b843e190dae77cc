"""Chat models of other makers: their templates, tokenizers, caches and positions."""

from pathlib import Path
from typing import Any

import pytest
import tiny_chat
import torch

from rulekeep.language import models
from rulekeep.language.chat import Message
from rulekeep.language.models import ChatModel, Probe, load_model
from rulekeep.specs import UsageError

CHAT = (
    Message("system", "You are a helpful assistant. Follow these rules. Your name is Nora."),
    Message("user", "Hello."),
    Message("assistant", "Hi there."),
)
RULES = ("Your name is Nora.",)
PROBES = [Probe("Who are you?", "My name is", " Nora"), Probe("Say it.", "", "Great.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_chat.saved(tmp_path_factory.mktemp("chat_model"))


@pytest.fixture
def model(folder: Path) -> ChatModel:
    return load_model(str(folder))


def test_a_special_token_without_letters_changes_no_text(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = model.text(CHAT)
    monkeypatch.setattr(type(model.tokenizer), "all_special_tokens", ["", "</>"])
    del model.__dict__["_control"]
    assert model.text(CHAT) == plain


def test_a_penalty_of_the_model_changes_no_written_text(
    model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "REPLY_TOKENS", 24)
    replied = model.opened(CHAT).reply("Say it.")
    model.model.generation_config.repetition_penalty = 5.0
    assert model.written([*CHAT, Message("user", "Say it.")], 24) == replied
