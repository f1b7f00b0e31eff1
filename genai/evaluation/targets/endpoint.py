"""A server that speaks OpenAI's API, asked over HTTP."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from genai.config.eval import TargetConfig
from genai.config.secrets import masked, resolve
from genai.errors import CredentialsError, UsageError
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Failure,
    Likelihoods,
    Outcome,
    Question,
    WholeText,
)
from genai.evaluation.targets.answers import read_answer, usage_of
from genai.evaluation.targets.asking import CHAT, COMPLETIONS, answer_body, echo_body
from genai.evaluation.targets.echoed import (
    EchoedToken,
    NoEchoError,
    likelihood_from,
    read_tokens,
    texts_of_pairs,
    whole_likelihood,
)
from genai.evaluation.targets.replies import Reply
from genai.evaluation.targets.retrying import Patience

if TYPE_CHECKING:
    from genai.evaluation.targets.connection import Connection


class EndpointTarget:
    """A model behind a URL; see `genai.evaluation.interfaces.Target`.

    Conversations and prompts go to /v1/chat/completions or /v1/completions, as `config.api` says. Likelihoods are asked
    for at /v1/completions with `echo` and `logprobs`, which `genai serve` and vLLM answer. Of a whole text they leave
    out the first token, of which such servers say nothing; one that is longer than the wanted context is a `Failure`,
    since windows take the model's tokenizer.

    Args:
        name: in results.
        config: with `endpoint` and `model`.
        section: of the job file, for errors: target, judges.gpt.

    Raises:
        UsageError: there is no model, or the endpoint is no URL.
    """

    def __init__(self, name: str, config: TargetConfig, *, section: str = "target") -> None:
        if config.model is None:
            raise UsageError(
                "an endpoint needs the name of a model", where=f"{section}.model", fix="GET /v1/models lists them"
            )
        self._name = name
        self._config = config
        self._section = section
        self._base_url = _base_url(config.endpoint or "", section)
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """In results."""
        return self._name

    @property
    def fingerprint(self) -> str | None:
        """Of all that is sent, with `reuse_answers`; else None, because nobody can tell which model answers."""
        config = self._config
        if not config.reuse_answers:
            return None
        parts = [self._base_url, config.model, config.api, config.system, asdict(config.sampling), config.extra_body]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def concurrency(self) -> int:
        """Requests under way at once; others wait, and their time does not run."""
        return self._config.concurrency

    async def __aenter__(self) -> EndpointTarget:
        """Get ready to connect.

        Raises:
            CredentialsError: the key is not where its reference says.
            MissingExtraError: aiohttp is not installed.
        """
        from genai.evaluation.targets.connection import Connection, shown

        config = self._config
        key = _key(config.api_key) if config.api_key else None
        self._connection = Connection(
            base_url=self._base_url,
            key=key,
            key_reference=config.api_key,
            limit=config.concurrency,
            section=self._section,
        )
        self._patience = Patience(
            server=shown(self._base_url),
            concurrency=config.concurrency,
            max_attempts=config.max_attempts,
            timeout_s=config.timeout_s,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close all connections."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def ask(self, question: Question) -> Outcome:
        """What the server says, or a `Failure`: it did not in the end, or cannot.

        Raises:
            CredentialsError: the key was refused.
            UsageError: there is no such model, or an index is needed.
        """
        if isinstance(question, Chat):
            return await self._answer(question)
        if isinstance(question, Continuations):
            return await self._continuations(question)
        if isinstance(question, WholeText):
            return await self._whole_text(question)
        raise UsageError(
            "an endpoint answers no queries for documents", where=self._section, fix="datasets of kind retrieval: index"
        )

    async def _answer(self, question: Chat) -> Answer | Failure:
        if question.tools and self._config.api == "completions":
            return Failure(reason="tools can be called in a chat only (api: chat)")
        path = CHAT if self._config.api == "chat" else COMPLETIONS
        reply = await self._post(path, answer_body(question, self._config))
        return reply if isinstance(reply, Failure) else read_answer(reply, self._config.price)

    async def _continuations(self, question: Continuations) -> Likelihoods | Failure:
        pairs = texts_of_pairs(question.pairs)
        found = await self._tokens([text for text, _ in pairs])
        if isinstance(found, Failure):
            return found
        reply, tokens = found
        try:
            each = tuple(likelihood_from(row, begin) for row, (_, begin) in zip(tokens, pairs, strict=True))
        except NoEchoError as error:
            return self._no_likelihoods(error)
        return self._likelihoods(reply, each)

    async def _whole_text(self, question: WholeText) -> Likelihoods | Failure:
        found = await self._tokens([question.text])
        if isinstance(found, Failure):
            return found
        reply, [tokens] = found
        if question.context is not None and len(tokens) > question.context:
            return Failure(
                reason=f"a text of {len(tokens)} tokens in windows of {question.context}: that takes a model in this "
                "process (model: without endpoint:)"
            )
        try:
            return self._likelihoods(reply, (whole_likelihood(tokens),))
        except NoEchoError as error:
            return self._no_likelihoods(error)

    async def _tokens(self, texts: list[str]) -> tuple[Reply, list[list[EchoedToken]]] | Failure:
        reply = await self._post(COMPLETIONS, echo_body(texts, self._config))
        if isinstance(reply, Failure):
            return reply
        try:
            return reply, read_tokens(reply.body, texts)
        except NoEchoError as error:
            return self._no_likelihoods(error)

    async def _post(self, path: str, body: dict[str, Any]) -> Reply | Failure:
        connection = self._connection
        assert connection is not None, "it is asked inside `async with`"
        return await self._patience.ask(lambda: connection.post(path, body))

    def _likelihoods(self, reply: Reply, each: tuple[Any, ...]) -> Likelihoods:
        return Likelihoods(each=each, usage=usage_of(reply.body, self._config.price, latency_s=reply.latency_s))

    def _no_likelihoods(self, error: NoEchoError) -> Failure:
        return Failure(reason=f"the server tells no likelihoods of a prompt (echo with logprobs): {error}")


def _base_url(url: str, section: str) -> str:
    """With /v1 where there is no path.

    Raises:
        UsageError: it is no URL of HTTP.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # as of a port
        is_url = False
    if not is_url:
        raise UsageError(
            f"{masked(url)!r} is no URL of a server", where=f"{section}.endpoint", fix="write https://HOST/v1"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "the URL of a server ends with its path, and names no user",
            where=f"{section}.endpoint",
            fix="put the key under api_key: env:NAME",
        )
    base = url.rstrip("/")
    return f"{base}/v1" if not parts.path.strip("/") else base


def _key(reference: str) -> str:
    """What the reference stands for.

    Raises:
        CredentialsError: it stands for nothing, or for what cannot be sent.
    """
    key = resolve(reference).strip()
    if not key or not (key.isascii() and key.isprintable()):
        raise CredentialsError("this is no key: it is empty, or has letters that no header can hold", where=reference)
    return key
