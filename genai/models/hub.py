"""The one door to the Hugging Face hub: which files of a repository are taken, and what its refusals mean.

Only safetensors weights are taken, never pickles. HF_ENDPOINT names another hub, HF_TOKEN (or `hf auth login`) the
account, HF_HOME the cache, as for every tool that uses huggingface_hub; GENAI_OFFLINE=1 keeps to what is in that
cache.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError, UsageError
from genai.log import get_logger

DEADLINE_S = 10.0
"""How long the hub may take to answer a question (not to send a file)."""
WEIGHT_PATTERNS = ("model.safetensors", "model-*-of-*.safetensors", "adapter_model.safetensors")
TEXT_PATTERNS = ("*.json", "*.jinja", "*.model", "*.txt")
MODULE_PATTERNS = ("[0-9]*/model.safetensors",)
"""Weights of a sentence-transformers module, such as `2_Dense/`."""
IGNORED_PATTERNS = ("[!0-9]*/*",)
"""Folders with the same model in other formats: onnx/, original/, ..."""
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One commit of a repository, on this machine."""

    path: Path
    """Folder with its files."""
    commit: str
    """The commit's hash."""


def is_offline() -> bool:
    """Whether GENAI_OFFLINE forbids to ask any network."""
    return os.environ.get("GENAI_OFFLINE", "0") not in ("", "0")


def fetch_snapshot(
    repo_id: str, *, revision: str | None = None, to: Path | None = None, weights: bool = True
) -> Snapshot:
    """Bring a model's safetensors, configs and tokenizer here; what the cache already holds is not sent again.

    Args:
        repo_id: ORG/NAME.
        revision: branch, tag or commit; None takes the main branch.
        to: put the files into this folder instead of huggingface_hub's cache.
        weights: False leaves the weights out (for planning).

    Raises:
        CredentialsError: the repository is gated or the token was refused.
        UsageError: there is no such repository or revision.
        DataError: it holds no safetensors.
        GenaiError: the hub cannot be reached.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ModuleNotFoundError as error:
        raise MissingExtraError("huggingface_hub", extra="train", needed_for=f"fetching hf:{repo_id}") from error
    if is_offline() or huggingface_hub.constants.HF_HUB_OFFLINE:
        return _cached_snapshot(repo_id, revision, weights)
    if not sys.stderr.isatty() or "CI" in os.environ:
        disable_progress_bars()
    with _explained(repo_id, revision):
        info = huggingface_hub.HfApi(endpoint=endpoint()).model_info(repo_id, revision=revision, timeout=DEADLINE_S)
        check_weights([file.rfilename for file in info.siblings or ()], repo_id)
        _log.info("fetching %s at %s", repo_id, (info.sha or "?")[:8])
        path = huggingface_hub.snapshot_download(
            repo_id, revision=revision, endpoint=endpoint(), local_dir=to, etag_timeout=DEADLINE_S, **_wanted(weights)
        )
    return Snapshot(path=Path(path), commit=info.sha or "unknown")


def endpoint() -> str:
    """Where the hub is: $HF_ENDPOINT, or the public one."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def check_weights(names: Sequence[str], repo_id: str) -> None:
    """See that a repository holds weights that can be opened safely.

    Args:
        names: its files.
        repo_id: for the error.

    Raises:
        DataError: the weights are there as pickles only, or not at all.
    """
    if any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in WEIGHT_PATTERNS):
        return
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        raise DataError(
            f"{repo_id} has its weights as pickles only ({pickles[0]}), which run code when they are opened",
            fix="look for a repository or a revision (refs/pr/N) with safetensors",
        )
    raise DataError(f"{repo_id} holds no safetensors weights", fix="name a repository of a model")


def _wanted(weights: bool) -> dict[str, Any]:
    allowed = (*TEXT_PATTERNS, *WEIGHT_PATTERNS, *MODULE_PATTERNS) if weights else TEXT_PATTERNS
    return {"allow_patterns": list(allowed), "ignore_patterns": list(IGNORED_PATTERNS)}


def _cached_snapshot(repo_id: str, revision: str | None, weights: bool) -> Snapshot:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(repo_id, revision=revision, local_files_only=True, **_wanted(weights)))
    except (LocalEntryNotFoundError, FileNotFoundError) as error:
        raise GenaiError(
            f"{repo_id} is not in the cache of the hub, and GENAI_OFFLINE is set", fix="unset GENAI_OFFLINE once"
        ) from error
    return Snapshot(path=path, commit=path.name)


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn huggingface_hub's exceptions into ours."""
    from huggingface_hub import errors

    # The HTTP library below huggingface_hub changes between its versions; all its failures share this base class.
    bases: list[Any] = list(errors.HfHubHTTPError.__mro__)
    transport_error: type[Exception] = next(base for base in bases if base.__name__ == "HTTPError")
    try:
        yield
    except errors.GatedRepoError as error:
        raise _no_access(repo_id) from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"the hub at {endpoint()} has no model {repo_id} that you may see",
            fix="check the spelling; for a private model set HF_TOKEN",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{repo_id} has no revision {revision!r}", fix="name a branch, a tag or a commit") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{repo_id!r} cannot be the name of a model on the hub", fix="write hf:ORG/NAME") from error
    except errors.HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise CredentialsError(f"the hub refused the token in HF_TOKEN for {repo_id}", fix=_TOKEN_FIX) from error
        raise GenaiError(f"the hub answered {error.response.status_code} for {repo_id}", where=endpoint()) from error
    except (errors.LocalEntryNotFoundError, OSError, transport_error) as error:
        raise GenaiError(
            f"the hub cannot be reached for {repo_id} ({_first_line(error)})",
            where=endpoint(),
            fix="check the network and HF_ENDPOINT",
        ) from error


_TOKEN_FIX = "make a token with read access on the hub's page 'Access Tokens' and set HF_TOKEN"


def _no_access(repo_id: str) -> CredentialsError:
    from huggingface_hub import get_token

    page = f"{endpoint()}/{repo_id}"
    if get_token() is None:
        return CredentialsError(
            f"{repo_id} is gated and HF_TOKEN is not set", fix=f"ask for access at {page}, then set HF_TOKEN"
        )
    return CredentialsError(f"{repo_id} is gated and HF_TOKEN has no access to it", fix=f"ask for access at {page}")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
