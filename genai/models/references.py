"""From what a user writes for a model to a folder on this machine.

    gallery:NAME          a model of the gallery (`genai models ls`)
    hf:ORG/NAME           a repository on the Hugging Face hub; a bare ORG/NAME means the same
    PATH                  a folder with a config.json, or a .gguf file
    s3://BUCKET/PREFIX    such a folder or file in a bucket
    runs:RUN[/CHECKPOINT] what a run trained: its model/ folder, or a checkpoint with a model in it
    registry:NAME[@X]     a version X (a number), or what the alias X names; NAME alone: what is in production

Nothing here imports torch; only a .gguf file needs it, once, to be converted into a folder of the cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from genai.errors import DataError, GenaiError, Problem, UsageError
from genai.models import hub
from genai.models.fingerprint import fingerprint
from genai.models.gallery import GALLERY, find_entry
from genai.models.pull import materialise, model_folder, pull
from genai.registry import suggest
from genai.storage import atomic, fetch, is_remote
from genai.tracking import registry

Kind = Literal["gallery", "hub", "folder", "gguf", "bucket", "run", "registry"]
_SCHEMES = ("gallery", "hf", "runs", "registry")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """A model that is on this machine as a folder transformers loads."""

    reference: str
    """What the user wrote."""
    kind: Kind
    """Which kind of reference that was."""
    path: Path
    """The folder."""
    hub_id: str | None = None
    """ORG/NAME, where the model is known on the hub."""
    revision: str | None = None
    """The commit, for a model of the hub."""

    @cached_property
    def fingerprint(self) -> str:
        """Of weights, config, tokenizer and template."""
        return fingerprint(self.path)

    @cached_property
    def weights_fingerprint(self) -> str:
        """Of the weights alone: what an adapter was trained on."""
        return fingerprint(self.path, weights_only=True)


@dataclass(frozen=True, kw_only=True)
class _Located:
    """A reference that could be read: what it points at, before anything is fetched or converted."""

    kind: Kind
    target: str


def resolve_model(
    reference: str, *, runs_dir: str | Path = "runs", revision: str | None = None, weights: bool = True
) -> ResolvedModel:
    """Bring the model that `reference` names to this machine.

    Args:
        reference: see the module's text.
        runs_dir: where run directories lie.
        revision: branch, tag or commit of a model on the hub.
        weights: False fetches only configs and tokenizer from the hub (enough for planning).

    Raises:
        UsageError: nothing answers to that reference; says what would.
        DataError: what the registry names is gone, or is no longer what was registered.
        CredentialsError: the hub wants a token.
        GenaiError: it could not be fetched.
    """
    located = _locate(reference, Path(runs_dir))
    if located.kind == "gallery":
        return ResolvedModel(
            reference=reference,
            kind="gallery",
            path=pull(located.target),
            hub_id=find_entry(located.target).hub.repo_id,
        )
    if located.kind == "hub":
        snapshot = hub.fetch_snapshot(located.target, revision=revision, weights=weights)
        return ResolvedModel(
            reference=reference, kind="hub", path=snapshot.path, hub_id=located.target, revision=snapshot.commit
        )
    return ResolvedModel(reference=reference, kind=located.kind, path=_local_folder(located))


def resolve_adapter(reference: str, *, runs_dir: str | Path = "runs") -> Path:
    """The folder of the adapter that `reference` names: a folder with an adapter_config.json, or `runs:RUN`.

    Raises:
        UsageError: there is none.
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "runs":
        folder = _run_folder(rest.partition("/")[0], Path(runs_dir))
        folder = folder / "checkpoints" / rest.partition("/")[2] if "/" in rest else folder
        folder = folder / "adapter"
    else:
        folder = Path(reference).expanduser()
    if (folder / "adapter_config.json").is_file():
        return folder
    if not folder.is_dir():
        raise UsageError(f"there is no adapter at {folder}", fix=_near_path(folder))
    raise UsageError(f"{folder} holds no adapter: adapter_config.json is missing", fix=f"it holds {_listing(folder)}")


def exists_problem(reference: str, *, runs_dir: str | Path = "runs") -> Problem | None:
    """What is wrong with `reference` as far as can be told at once, without a network and without torch; else None."""
    try:
        _locate(reference, Path(runs_dir))
    except GenaiError as error:
        return error.problems[0]
    return None


def _locate(reference: str, runs_dir: Path) -> _Located:
    scheme, separator, rest = reference.partition(":")
    if is_remote(reference):
        return _Located(kind="bucket", target=reference)
    if separator and scheme == "gallery":
        return _Located(kind="gallery", target=find_entry(rest).name)
    if separator and scheme == "hf":
        return _Located(kind="hub", target=_check_hub_id(rest))
    if separator and scheme == "runs":
        return _Located(kind="run", target=str(_run_model(rest, runs_dir)))
    if separator and scheme == "registry":
        return _Located(kind="registry", target=str(_registered_model(rest, runs_dir)))
    path = Path(reference.removeprefix("file://")).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return _Located(kind="gguf", target=str(path))
    if path.is_dir():
        return _Located(kind="folder", target=str(_check_folder(path)))
    return _Located(kind="hub", target=_as_hub_id(reference, path))


def _check_hub_id(text: str) -> str:
    if not _HUB_ID.fullmatch(text):
        raise UsageError(f"'{text}' cannot be the name of a model on the hub", fix="write hf:ORG/NAME")
    return text


def _as_hub_id(reference: str, path: Path) -> str:
    """A bare ORG/NAME that is no path here, or an error that says what was probably meant."""
    scheme, separator, rest = reference.partition(":")
    if separator and (near := suggest(scheme, _SCHEMES)):
        raise UsageError(f"unknown kind of model reference '{scheme}:'", fix=f"did you mean '{near}:{rest}'?")
    looks_like_hub = _HUB_ID.fullmatch(reference) is not None and reference.count("/") == 1
    if looks_like_hub and path.suffix != ".gguf" and not path.parent.is_dir():
        return reference
    if near := suggest(reference, GALLERY):
        raise UsageError(f"there is no model '{reference}'", fix=f"did you mean 'gallery:{near}'?")
    what = "file" if path.suffix == ".gguf" else "folder"
    fix = _near_path(path) or (f"write hf:{reference} for the hub" if looks_like_hub else _KINDS)
    raise UsageError(f"there is no {what} '{reference}'", fix=fix)


_KINDS = "use gallery:NAME, hf:ORG/NAME, a folder, a .gguf file, s3://..., runs:RUN or registry:NAME"


def _run_folder(name: str, runs_dir: Path) -> Path:
    folder = runs_dir / atomic.safe_name(name, kind="run name")
    if not folder.is_dir():
        near = suggest(name, _folders_in(runs_dir))
        known = f"did you mean 'runs:{near}'?" if near else "see: genai runs ls"
        raise UsageError(f"there is no run '{name}' in {runs_dir}", fix=known)
    return folder


def _run_model(rest: str, runs_dir: Path) -> Path:
    """The folder with the weights of `RUN` or `RUN/CHECKPOINT`."""
    name, _, checkpoint = rest.partition("/")
    run = _run_folder(name, runs_dir)
    if not checkpoint:
        if not (run / "model").is_dir():
            saved = _folders_in(run / "checkpoints")
            fix = f"name a checkpoint: runs:{name}/{saved[-1]}" if saved else "let it finish"
            raise UsageError(f"the run '{name}' has no model yet (no {run / 'model'})", fix=fix)
        return _check_folder(run / "model")
    folder = run / "checkpoints" / atomic.safe_name(checkpoint, kind="checkpoint name")
    if not folder.is_dir():
        saved = _folders_in(run / "checkpoints")
        near = suggest(checkpoint, saved)
        fix = f"did you mean 'runs:{name}/{near}'?" if near else f"it has: {', '.join(saved) or 'none'}"
        raise UsageError(f"the run '{name}' has no checkpoint '{checkpoint}'", fix=fix)
    return _check_folder(folder / "model" if (folder / "model").is_dir() else folder)


def _registered_model(rest: str, runs_dir: Path) -> Path:
    """The folder of the version that `rest` names, when it still holds what was registered."""
    version = registry.find(runs_dir, rest)
    try:
        folder = _run_model(version.model.removeprefix("runs:"), runs_dir)
    except UsageError as error:
        fix = f"bring that run back, or name another version than {version.version}"
        raise DataError(f"its model is gone: {error.message}", where=version.reference, fix=fix) from error
    if fingerprint(folder) != version.fingerprint:
        raise DataError(
            f"{folder} is no longer what was registered at {version.created_at}: a file of the model was changed",
            where=version.reference,
            fix="bring the files back, or register the model anew and name that version",
        )
    return folder


def _check_folder(folder: Path) -> Path:
    """`folder`, when it can be a model: a readable config.json that names a model_type.

    Raises:
        UsageError: it cannot; says what is missing.
    """
    config = folder / "config.json"
    if not config.is_file():
        if (folder / "adapter_config.json").is_file():
            raise UsageError(
                f"{folder} is an adapter, not a whole model",
                fix="name its base model here and the adapter in model.adapter",
            )
        raise UsageError(f"{folder} is no model: config.json is missing", fix=f"it holds {_listing(folder)}")
    try:
        described = json.loads(config.read_text())
    except ValueError as error:
        raise UsageError(f"{config} is no JSON: {error}") from error
    if not isinstance(described, dict) or "model_type" not in described:
        raise UsageError(f"{config} does not say which model_type this is", fix="is it the config of a model?")
    return folder


def _local_folder(located: _Located) -> Path:
    """The folder of a reference that is no gallery or hub name; buckets are fetched, .gguf files converted."""
    path = Path(located.target)
    if located.kind == "bucket":
        if hub.is_offline():
            raise GenaiError(f"{located.target} was not asked for, GENAI_OFFLINE is set")
        path = fetch(located.target, atomic.cache_dir() / "buckets")
        if path.suffix != ".gguf":
            return _check_folder(path)
    return _converted(path) if path.suffix == ".gguf" else path


def _converted(file: Path) -> Path:
    """The folder of the cache with the content of a .gguf file, made once."""
    with open(file, "rb") as stream:
        if stream.read(4) != b"GGUF":
            raise DataError("this is no GGUF file", where=str(file))
    key = fingerprint(file).removeprefix("sha256:")[:16]

    def fill(scratch: Path) -> tuple[str, str | None]:
        from genai.models.gguf_import import convert_gguf

        convert_gguf(file, scratch)
        return f"file {file.name}", "brought to float32 from a GGUF file"

    return materialise(model_folder(f"gguf-{key}"), file.name, fill)


def _folders_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _near_path(path: Path) -> str | None:
    """A name beside `path` that it may have been meant to be."""
    if not path.parent.is_dir():
        return None
    near = suggest(path.name, (entry.name for entry in path.parent.iterdir()))
    return f"did you mean '{path.parent / near}'?" if near else None


def _listing(folder: Path) -> str:
    names: Iterable[str] = sorted(entry.name for entry in folder.iterdir())
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "") if shown else "nothing"
