"""Language models that answer prompts: one in this process, or behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from genai.config.embed_finetune import GeneratorConfig
from genai.config.finetune import HFCausalLMConfig
from genai.embedding.posting import Endpoint, endpoint, post_json
from genai.errors import DataError, GenaiError
from genai.log import get_logger
from genai.models.references import ResolvedModel, resolve_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from genai.embedding.tuning.interfaces import Generator

_CHARACTERS_A_TOKEN = 4
_log = get_logger(__name__)


def open_generator(
    config: GeneratorConfig,
    *,
    runs_dir: str | Path = "runs",
    num_threads: int | None = None,
    seed: int = 17,
    section: str = "data.synthetic_queries.generator",
) -> Generator:
    """The language model that the config describes. Its files are fetched now; weights are loaded by the first prompt.

    Args:
        config: the section `generator` or `judge`.
        runs_dir: where run directories lie, for `runs:RUN`.
        num_threads: threads of torch, in the whole process; None leaves them.
        seed: of the job.
        section: of the config, for errors.

    Raises:
        UsageError: no such model, or the URL is none.
        GenaiError: it could not be fetched.
    """
    if config.base_url is not None:
        return EndpointGenerator(config, config.base_url, section=section)
    return LocalGenerator(config, resolve_model(config.model, runs_dir=runs_dir), num_threads=num_threads, seed=seed)


class LocalGenerator:
    """A model in this process; see `genai.embedding.tuning.interfaces.Generator`.

    Prompts are continued as plain text, also by models with a chat template: they hold examples and end where the
    answer begins. SmolLM2-135M-Instruct, asked through its template, repeats the examples or talks about the task; as
    plain text six of ten questions find their passage.

    Args:
        config: how answers are drawn.
        resolved: where the model lies.
        num_threads: threads of torch, in the whole process; None leaves them.
        seed: of the job.
    """

    def __init__(
        self, config: GeneratorConfig, resolved: ResolvedModel, *, num_threads: int | None = None, seed: int = 17
    ) -> None:
        self._config = config
        self._resolved = resolved
        self._num_threads = num_threads
        self._seed = seed

    @cached_property
    def name(self) -> str:
        """The reference and the beginning of the fingerprint of the files."""
        return f"{self._resolved.reference}@{self._resolved.fingerprint.removeprefix('sha256:')[:12]}"

    def generate(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """The first line of an answer to each.

        Raises:
            DataError: the weights cannot be read, or a prompt is as long as the model's context.
            UsageError: it is no causal language model.
        """
        from genai.models.generate import Sampling, generate_batch

        return generate_batch(
            self._model,
            self._tokenizer,
            [self._ids(prompt) for prompt in prompts],
            seeds=[prompt_seed(seed, prompt) for prompt in prompts],
            sampling=Sampling(
                max_new_tokens=self._config.max_new_tokens,
                temperature=self._config.temperature,
                top_p=self._config.top_p,
                one_line=True,
            ),
            batch_size=self._config.batch_size,
        )

    def count_tokens(self, text: str) -> int:
        """Of the model's own tokenizer."""
        return len(self._ids(text))

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer(text)["input_ids"]]

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from genai.models.tokenizers import open_tokenizer

        return open_tokenizer(str(self._resolved.path))

    @cached_property
    def _model(self) -> PreTrainedModel:
        import torch

        from genai.models.loading import load_model
        from genai.models.precision import device, dtype_for

        if self._num_threads is not None:
            torch.set_num_threads(self._num_threads)
        where = device()
        model = HFCausalLMConfig(pretrained_model_name_or_path=self._config.model)
        return load_model(model, self._resolved, dtype=dtype_for("auto", where), device=where, seed=self._seed)


class EndpointGenerator:
    """A model behind POST {base_url}/chat/completions; see `genai.embedding.tuning.interfaces.Generator`.

    Args:
        config: what the server calls the model, and how answers are drawn.
        base_url: of the server.
        section: of the config, for errors.

    Source:
        https://platform.openai.com/docs/api-reference/chat
    """

    def __init__(self, config: GeneratorConfig, base_url: str, *, section: str) -> None:
        self._config = config
        self._endpoint = endpoint(
            base_url, "chat/completions", api_key=config.api_key, timeout_s=config.timeout_s, section=section
        )
        self._has_answered = False

    @cached_property
    def name(self) -> str:
        """The model and the server; what the server does with the model cannot be known."""
        return f"{self._config.model} at {_server(self._endpoint)}"

    def generate(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        """An answer to each; `batch_size` of them are asked for at a time.

        A server that has answered before and cannot use one prompt (a filter of contents) gives an empty answer to it.

        Raises:
            GenaiError: the server refuses or does not answer; see `post_json`.
        """
        with ThreadPoolExecutor(max_workers=self._config.batch_size) as pool:
            waiting = [pool.submit(self._request, prompt, prompt_seed(seed, prompt)) for prompt in prompts]
            try:
                given = [future.result() for future in waiting]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._has_answered = self._has_answered or any(isinstance(answer, str) for answer in given)
        return [self._text(answer) for answer in given]

    def count_tokens(self, text: str) -> int:
        """Estimated: four characters each."""
        return -(-len(text) // _CHARACTERS_A_TOKEN)

    def _text(self, answer: str | DataError) -> str:
        if isinstance(answer, str):
            return answer
        if not self._has_answered:
            raise answer
        _log.warning("a prompt is left out: %s", answer.message)
        return ""

    def _request(self, prompt: str, seed: int) -> str | DataError:
        body = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self._config.max_new_tokens,
            "temperature": self._config.temperature,
            "top_p": self._config.top_p,
            "seed": seed,
        }
        try:
            return self._content(post_json(self._endpoint, body))
        except DataError as error:
            return error

    def _content(self, answer: Any) -> str:
        """The text of the first choice; empty where the model said nothing."""
        try:
            content = answer["choices"][0]["message"]["content"]
        except (TypeError, KeyError, IndexError):
            raise self._broken("without a message") from None
        if content is not None and not isinstance(content, str):
            raise self._broken("with a message that is no text")
        return content or ""

    def _broken(self, what: str) -> GenaiError:
        fix = f"is {self._endpoint.section}.base_url an OpenAI-compatible server?"
        return GenaiError(f"the server gave an answer {what}", where=_server(self._endpoint), fix=fix)


def prompt_seed(seed: int, prompt: str) -> int:
    """A seed of a prompt's own, so that its answer does not depend on what else is asked. It has 31 bits: some servers
    take no more.
    """
    digest = hashlib.sha256(f"{seed}:{prompt}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _server(to: Endpoint) -> str:
    """The URL of a server as far as it holds no secret."""
    parts = urlsplit(to.url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.removesuffix('/chat/completions')}"
