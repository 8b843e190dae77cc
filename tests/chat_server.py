"""A tiny OpenAI-compatible server for tests: it obeys the shipped rules, or fails as asked."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rulekeep.language.families import Family, read_families

SHIPPED = read_families("")
# Every turn in a line of its own, so that both APIs show the model the same text.
TEMPLATE = "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}<assistant> "


class Server(ThreadingHTTPServer):
    """How it answers is its `mode`; `asked` are the bodies of the requests so far.

    `content` makes what a message holds of a reply.
    """

    daemon_threads = True
    mode = "right"
    key = ""
    # Of a prompt's tokens, those that the model reads.
    reads = slice(None)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.content: Callable[[str], Any] = str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def read(self, text: str) -> str:
        """What the model reads of a prompt."""
        return "".join(tokens(text)[self.reads])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def obeying(text: str, request: str) -> str:
    """The reply to a request by the rules that a text states; "I cannot say." where none does."""
    replies = [
        family.prefix + reply
        for family in SHIPPED.values()
        for option, reply in enumerate(family.continuations)
        if family.request == request and _states(text, family, option)
    ]
    return "\n".join(replies) or "I cannot say."


def _states(text: str, family: Family, option: int) -> bool:
    return family.rule.rpartition("{old}")[2].replace("{}", family.options[option]) in text


def tokens(text: str) -> list[str]:
    """A word with the space before it is a token."""
    return re.findall(r"\s*\S+|\s+\Z", text)


def likelihoods(text: str) -> list[float | None]:
    """A word that was said before is likely."""
    said, found = set[str](), list[float | None]()
    for token in tokens(text):
        word = token.strip().strip(".")
        found.append(-0.5 if word in said else -3.0)
        said.add(word)
    return [None, *found[1:]]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_POST(self) -> None:
        server = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(asked)
        if server.mode == "slow":
            time.sleep(0.6)
        if server.key and self.headers["Authorization"] != f"Bearer {server.key}":
            return self.answer({"error": {"message": f"no {self.headers['Authorization']}"}}, 401)
        if server.mode == "failing":
            said = {"error": {"message": f"broken for {self.headers['Authorization']}"}}
            return self.answer(said, 400)
        if server.mode == "loading":
            return self.answer({"error": {"message": "model is still loading"}})
        if "messages" in asked:
            text = server.read("\n".join(one["content"] for one in asked["messages"]))
            reply = obeying(text, asked["messages"][-1]["content"])
            said = server.content(reply)
            choice: Any = {"index": 0, "message": {"role": "assistant", "content": said}}
        else:
            text = server.read(asked["prompt"])
            choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": "length"}
            if server.mode != "no logprobs":
                both = [*tokens(text), "!"], [*likelihoods(text), -9]
                choice["logprobs"] = dict(zip(("tokens", "token_logprobs"), both, strict=True))
        usage = {"prompt_tokens": len(tokens(text)), "completion_tokens": 1, "total_tokens": 1}
        made: Any = {"id": "1", "choices": [choice], "usage": usage, "model": "m"}
        if server.mode == "no usage":
            del made["usage"]
        return self.answer(made)

    def answer(self, what: Any, status: int = 200) -> None:
        body = json.dumps(what).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
