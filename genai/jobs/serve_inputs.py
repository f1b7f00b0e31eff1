"""What can be told of a server's job file without loading anything: whether all that it names is there."""

from __future__ import annotations

from genai.config import secrets
from genai.config.loading import Loaded
from genai.config.serve import (
    EncoderEndpointConfig,
    IndexEndpointConfig,
    ModelEndpointConfig,
    RerankerEndpointConfig,
    ServeConfig,
)
from genai.errors import Problem, UsageError
from genai.jobs.index_parts import open_ledger, read_config
from genai.jobs.problems import Problems
from genai.models.chat_template import template_text
from genai.models.references import exists_problem, resolve_adapter

_MIN_KEY_CHARACTERS = 16


def check_inputs(loaded: Loaded[ServeConfig], *, allow_code: bool) -> None:
    """Look at models, adapters, indexes and keys.

    Args:
        loaded: the checked job file.
        allow_code: the command line lets models bring their own Python.

    Raises:
        ConfigError: with everything that is missing.
        CredentialsError: a key cannot be found.
    """
    config = loaded.config
    problems = Problems(loaded)
    for name, endpoint in config.endpoints.items():
        key = f"endpoints.{name}"
        if isinstance(endpoint, IndexEndpointConfig):
            _check_index(problems, key, endpoint, config)
        else:
            _check_model(problems, key, endpoint, config, allow_code=allow_code)
    _check_keys(problems, config)
    problems.raise_all()


def _check_model(
    problems: Problems,
    key: str,
    endpoint: ModelEndpointConfig | EncoderEndpointConfig | RerankerEndpointConfig,
    config: ServeConfig,
    *,
    allow_code: bool,
) -> None:
    if isinstance(endpoint, EncoderEndpointConfig):
        reference, key_of_model, asks_code = (
            endpoint.embedding.model,
            f"{key}.embedding.model",
            endpoint.embedding.trust_remote_code,
        )
    else:
        asks_code = isinstance(endpoint, ModelEndpointConfig) and endpoint.trust_remote_code
        reference, key_of_model = endpoint.model, f"{key}.model"
    found = exists_problem(reference, runs_dir=config.runs_dir)
    if found is not None:
        problems.extend(key_of_model, [found])
    if asks_code and not allow_code:
        fix = "read that code, then add --allow-code to the command line"
        problems.add(key_of_model, "this runs Python that comes with the model (trust_remote_code)", fix)
    if isinstance(endpoint, ModelEndpointConfig):
        for adapter, adapter_reference in endpoint.adapters.items():
            with problems.at(f"{key}.adapters.{adapter}"):
                resolve_adapter(adapter_reference, runs_dir=config.runs_dir)
        if endpoint.chat_template is not None:
            with problems.at(f"{key}.chat_template"):
                template_text(endpoint.chat_template)


def _check_index(problems: Problems, key: str, endpoint: IndexEndpointConfig, config: ServeConfig) -> None:
    with problems.at(f"{key}.index"), open_ledger(endpoint.index, config.indexes_dir) as ledger:
        index = read_config(ledger)
        if endpoint.writable and not index.source.direct:
            raise UsageError(
                f"index '{endpoint.index}' follows {index.source.table or index.source.documents}",
                where=f"{key}.writable",
                fix="leave writable out: rows go by hand only into an index with source.direct: true",
            )


def _check_keys(problems: Problems, config: ServeConfig) -> None:
    owners: dict[str, str] = {}
    named = {f"apps.{name}.key": app.key for name, app in config.apps.items()}
    if config.admin is not None:
        named["admin.token"] = config.admin.token
    for key, reference in named.items():
        value = secrets.resolve(reference)
        if len(value) < _MIN_KEY_CHARACTERS:
            fix = "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            message = f"the key is shorter than {_MIN_KEY_CHARACTERS} characters"
            problems.extend(key, [Problem(message=message, fix=fix)])
        elif value in owners:
            message = f"the same key as {owners[value]}"
            problems.extend(key, [Problem(message=message, fix="give each app a key of its own")])
        owners.setdefault(value, key)
