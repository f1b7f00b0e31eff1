"""A model in this process as a target of `genai eval`: it answers as `genai serve` does, and says how likely texts are.

Answers come from the engine of `genai serve`, many at a time; likelihoods from the same weights, read by a thread of
their own. Both begin with the first question that needs them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from genai.config.eval import TargetConfig
from genai.errors import DataError, UsageError
from genai.evaluation.costing import price_of
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Failure,
    Likelihoods,
    Outcome,
    Query,
    Question,
    Usage,
    WholeText,
)
from genai.evaluation.targets.asking import as_messages, as_prompt
from genai.jobs.eval_answers import EngineAnswers, engine_config
from genai.jobs.eval_readings import Readings
from genai.models.freed_memory import return_freed_memory
from genai.models.generation import Grammar, ModelCard, SamplingParams
from genai.models.references import ResolvedModel
from genai.serving.errors import ApiError

if TYPE_CHECKING:
    from genai.inference.likelihoods import RunnerLikelihoods
    from genai.inference.opening import OpenedModel
    from genai.serving.prompting import Prompter

Done = TypeVar("Done")
ANSWERS_AS = 1
"""Counted up when this module or the engine would give other answers to the same question."""
_BATCHES = 2
"""Of questions of likelihood: one is read, one waits."""
_ROLES = {"developer": "system"}
"""OpenAI's newer name; chat templates know the older one."""


class ModelTarget:
    """See `genai.evaluation.interfaces.Target`.

    Args:
        name: in results.
        config: with `model`.
        resolved: where that model lies.
        num_threads: of torch, in the whole process; None leaves them.
        allow_code: whether the command line allows a model to bring its own Python.
        section: of the job file, for errors: target, judges.own.

    Raises:
        UsageError: the model wants to run its own Python, and may not.
    """

    def __init__(
        self,
        name: str,
        config: TargetConfig,
        resolved: ResolvedModel,
        *,
        num_threads: int | None = None,
        allow_code: bool = False,
        section: str = "target",
    ) -> None:
        if config.trust_remote_code and not allow_code:
            raise UsageError(
                "this runs Python that comes with the model",
                where=f"{section}.trust_remote_code",
                fix="read that code, then add --allow-code to the command line",
            )
        self._name = name
        self._config = config
        self._resolved = resolved
        self._num_threads = num_threads
        self._section = section
        self._opened: OpenedModel | None = None
        self._prompter: Prompter | None = None
        self._answers: EngineAnswers | None = None
        self._readings: Readings | None = None
        self._thread: ThreadPoolExecutor
        self._beginning: asyncio.Lock
        """Held while an engine or a reading begins."""

    @property
    def name(self) -> str:
        """In results."""
        return self._name

    @property
    def model_fingerprint(self) -> str:
        """Of the model's files alone, as the registry has it."""
        return self._resolved.fingerprint

    @property
    def fingerprint(self) -> str:
        """The files' fingerprint, and behind a slash that of everything else an answer depends on."""
        config = self._config
        parts = [
            ANSWERS_AS,
            config.api,
            config.system,
            asdict(config.sampling),
            self._template_text(),
            self._precision(),
            config.max_model_len,
        ]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return f"{self._resolved.fingerprint}/{digest[:16]}"

    @property
    def concurrency(self) -> int:
        """Questions that are put at once: enough for the engine, and for the batches of likelihoods. Answers that are
        more than `config.concurrency` wait, and their time does not run.
        """
        return max(self._config.concurrency, _BATCHES * self._config.batch_size)

    async def __aenter__(self) -> ModelTarget:
        """Load the weights.

        Raises:
            UsageError: this kind of model cannot be run by the engine of `genai serve`, or a setting does not fit it.
            DataError: files are missing or damaged, or memory is out.
            MissingExtraError: torch or transformers is not installed.
        """
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self._name}")
        self._beginning = asyncio.Lock()
        try:
            await self._in_thread(self._open)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let go of everything; what is under way ends with a failure."""
        if self._readings is not None:
            await self._readings.close()
        if self._answers is not None:
            await self._answers.close()  # with the model
        elif self._opened is not None:
            self._opened.runner.close()
        self._readings = self._answers = self._opened = None
        await asyncio.to_thread(self._thread.shutdown)
        return_freed_memory()

    async def ask(self, question: Question) -> Outcome:
        """What the model says, or how likely it finds a text; a `Failure` where it cannot.

        Raises:
            UsageError: an index is needed, or a chat template.
            GenaiError: the engine has failed.
        """
        if isinstance(question, Chat):
            return await self._answer(question)
        if isinstance(question, Continuations | WholeText):
            return await self._likelihoods(question)
        assert isinstance(question, Query)
        raise UsageError(
            "a model answers no queries for documents", where=self._section, fix="datasets of kind retrieval: index"
        )

    def count_tokens(self, text: str) -> int:
        """Of the model's tokenizer, for an estimate; loads no weights.

        Raises:
            GenaiError: it cannot be read.
        """
        return len(self._opened_prompter().text(text, add_special_tokens=False))

    # --- answers ------------------------------------------------------------------------------------------------------

    async def _answer(self, question: Chat) -> Answer | Failure:
        if question.tools:
            return Failure(
                reason="a model in this process cannot be given tools, as genai serve cannot: use an endpoint"
            )
        try:
            prompt_ids = self._prompt_ids(question)
        except ApiError as error:
            return Failure(reason=error.message)
        config, opened = self._config, self._require_opened()
        room = opened.max_model_len - len(prompt_ids)
        if not prompt_ids or room < 1:
            return Failure(
                reason=f"the prompt has {len(prompt_ids)} tokens, and prompt and answer may have {opened.max_model_len}"
            )
        wanted = config.sampling.max_tokens if question.max_tokens is None else question.max_tokens
        stop = config.sampling.stop if question.stop is None else question.stop
        sampling = SamplingParams(
            max_tokens=min(wanted, room),
            temperature=config.sampling.temperature if config.sampling.top_p else 0.0,
            top_p=config.sampling.top_p or 1.0,
            seed=config.sampling.seed,
            stop=tuple(stop),
        )
        grammar = None
        if question.json_schema is not None:
            grammar = Grammar(kind="json_schema", text=json.dumps(dict(question.json_schema)))
        answers = await self._begun_answers(opened)
        return await answers.ask(prompt_ids, sampling, grammar)

    async def _begun_answers(self, opened: OpenedModel) -> EngineAnswers:
        async with self._beginning:
            if self._answers is None:
                answers = EngineAnswers(self._name, self._config)
                await self._in_thread(answers.begin, opened)
                self._answers = answers
        return self._answers

    def _prompt_ids(self, question: Chat) -> list[int]:
        """As /v1/chat/completions and /v1/completions of `genai serve` make them.

        Raises:
            ApiError: the chat template refuses this conversation.
            UsageError: there is none.
        """
        prompter = self._opened_prompter()
        if self._config.api == "completions":
            return prompter.text(as_prompt(question, self._config.system))
        if prompter.chat_template is None:
            raise UsageError(
                f"{self._resolved.reference} has no chat template",
                where=self._section,
                fix="set api: completions, or chat_template",
            )
        return prompter.chat([_plain(message) for message in as_messages(question, self._config.system)])

    # --- likelihoods --------------------------------------------------------------------------------------------------

    async def _likelihoods(self, question: Continuations | WholeText) -> Likelihoods | Failure:
        async with self._beginning:
            if self._readings is None:
                model = await self._in_thread(self._reading_model)
                self._readings = Readings(self._resolved, model, self._thread, batch_size=self._config.batch_size)
        found = await self._readings.ask(question)
        if isinstance(found, Failure):
            return found
        usd = price_of(self._config.price, prompt_tokens=found.usage.prompt_tokens, completion_tokens=0)
        return Likelihoods(each=found.each, usage=Usage(prompt_tokens=found.usage.prompt_tokens, usd=usd))

    def _reading_model(self) -> RunnerLikelihoods:
        from genai.inference.likelihoods import RunnerLikelihoods
        from genai.models.likelihoods import TextTokens
        from genai.models.tokenizers import open_tokenizer

        kwargs = {"trust_remote_code": True} if self._config.trust_remote_code else None
        texts = TextTokens(open_tokenizer(str(self._resolved.path), kwargs=kwargs))
        return RunnerLikelihoods(self._require_opened(), texts)

    # --- the model ----------------------------------------------------------------------------------------------------

    async def _in_thread(self, function: Callable[..., Done], *arguments: Any) -> Done:
        """Everything of torch is begun by one thread, in which the number of threads is set."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _open(self) -> None:
        from genai.training.allocator import keep_few_kernels, keep_freed_memory

        keep_few_kernels()  # steps have ever new numbers of tokens
        keep_freed_memory()  # else page faults of new logits are a twentieth of the time
        from genai.inference.opening import open_model

        self._opened_prompter()
        self._opened = open_model(
            self._resolved,
            engine=engine_config(self._config),
            num_threads=self._num_threads,
            trust_remote_code=self._config.trust_remote_code,
            chat_template=self._template_text(),
        )

    def _require_opened(self) -> OpenedModel:
        assert self._opened is not None, "it is asked inside `async with`"
        return self._opened

    def _opened_prompter(self) -> Prompter:
        if self._prompter is None:
            from genai.serving.prompting import Prompters

            card = ModelCard(
                name=self._resolved.reference,
                kind="text",
                state="unloaded",
                reference=self._resolved.reference,
                folder=str(self._resolved.path),
                fingerprint="",
                created=0,
                chat_template=self._template_text(),
            )
            try:
                self._prompter = Prompters().of(card)
            except ApiError as error:
                raise DataError(error.message, where=str(self._resolved.path)) from error
        return self._prompter

    def _template_text(self) -> str | None:
        from genai.models.chat_template import template_text

        return None if self._config.chat_template is None else template_text(self._config.chat_template)

    def _precision(self) -> str:
        if self._config.precision == "int8":
            return "int8"
        from genai.models.precision import device, dtype_for

        return str(dtype_for(self._config.precision, device())).removeprefix("torch.")


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates know it."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content)
    role = message.get("role")
    return {**message, "role": _ROLES.get(str(role), role), "content": content or ""}
