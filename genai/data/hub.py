"""Data sets of the Hugging Face hub, by the `datasets` package, which is imported nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from genai.config.kwargs import check_kwargs
from genai.data.faults import DataConfigError, data_fault
from genai.data.readers import Record
from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError, Problem
from genai.registry import suggest

_SET_BY_GENAI = ("path", "split", "trust_remote_code")


@dataclass(frozen=True, kw_only=True)
class HubDataset:
    """What is known of a split without reading its rows."""

    num_rows: int
    """How many rows it has."""
    size_bytes: int
    """How large they are in memory."""
    fingerprint: str
    """Changes with the content: the revision on the hub where there is one, and datasets' own fingerprint."""


def check(kwargs: Mapping[str, Any]) -> None:
    """Refuse `hf_kwargs` that `datasets.load_dataset` does not take, without reading anything.

    Raises:
        DataConfigError: names each of them.
        MissingExtraError: `datasets` is not installed.
    """
    # Builders take arguments of their own (sep, field, ...) through **config_kwargs, so only our own names are refused.
    wrong = check_kwargs(_datasets().load_dataset, kwargs, set_by_genai=_SET_BY_GENAI)
    if wrong:
        problems = [Problem(message=message, where=f"hf_kwargs.{name}", fix=fix) for name, message, fix in wrong]
        raise DataConfigError(problems, key="dataset.hf_kwargs")


def read(name: str, *, split: str, kwargs: Mapping[str, Any]) -> Iterator[Record]:
    """The rows of one split.

    Args:
        name: ORG/NAME, or one of datasets' own readers (json, csv, parquet, text) with `data_files` in `kwargs`.
        split: its name, also with a slice: `train[:1000]`.
        kwargs: further arguments of `datasets.load_dataset`.

    Raises:
        DataConfigError: there is no such data set or split.
        CredentialsError: it is private or gated, and the token in use does not open it.
        DataError: it cannot be loaded for another reason.
    """
    loaded = _load(_datasets(), name, split, kwargs)
    for number, values in enumerate(loaded, 1):
        yield Record(values=dict(values), source=f"hf:{name}[{split}][{number}]")


def describe(name: str, *, split: str, kwargs: Mapping[str, Any]) -> HubDataset:
    """Size and version of one split; see `read` for arguments and errors."""
    loaded = _load(_datasets(), name, split, kwargs)
    urls = sorted(loaded.info.download_checksums or {})
    revisions = sorted({url.partition("@")[2].partition("/")[0] for url in urls if url.startswith("hf://")})
    return HubDataset(
        num_rows=loaded.num_rows,
        size_bytes=loaded.data.nbytes,
        fingerprint="+".join([*revisions, loaded._fingerprint]),
    )


def _load(datasets: ModuleType, name: str, split: str, kwargs: Mapping[str, Any]) -> Any:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        return datasets.load_dataset(name, split=split, **kwargs)
    except GatedRepoError as error:
        fix = "accept its terms on the hub and set HF_TOKEN"
        raise CredentialsError("the data set is gated", where=f"hf:{name}", fix=fix) from error
    except datasets.exceptions.DatasetNotFoundError as error:
        if "gated" in str(error):
            fix = "accept its terms on the hub and set HF_TOKEN"
            raise CredentialsError("the data set is gated", where=f"hf:{name}", fix=fix) from error
        fix = "if it is private, set HF_TOKEN"
        raise data_fault("no such data set", key="dataset.path", where=f"hf:{name}", fix=fix) from error
    except FileNotFoundError as error:
        raise data_fault(_first_line(error), key="dataset.hf_kwargs", where=f"hf:{name}") from error
    except (ConnectionError, HfHubHTTPError) as error:
        fix = "check the network and HF_ENDPOINT, or name local files in path"
        raise GenaiError(f"the hub cannot be reached: {_first_line(error)}", where=f"hf:{name}", fix=fix) from error
    except ValueError as error:
        _explain_split(error, name, split)
        if "doesn't have a" in str(error):
            raise data_fault(_first_line(error), key="dataset.hf_kwargs", where=f"hf:{name}") from error
        raise DataError(_first_line(error), where=f"hf:{name}") from error
    except TypeError as error:
        raise data_fault(_first_line(error), key="dataset.hf_kwargs", where=f"hf:{name}") from error
    except (RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(_first_line(error), where=f"hf:{name}") from error


def _explain_split(error: ValueError, name: str, split: str) -> None:
    """Turn "unknown split" into an error with the nearest one; other errors are left alone."""
    text = str(error)
    if "nknown split" not in text and "Bad split" not in text:
        return
    known = [word for word in text.partition("[")[2].partition("]")[0].replace("'", "").split(", ") if word]
    near = suggest(split, known)
    fix = f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
    raise data_fault(f"has no split '{split}'", key="dataset.split", where=f"hf:{name}", fix=fix) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _datasets() -> ModuleType:
    if os.environ.get("GENAI_OFFLINE", "0") not in ("", "0"):
        # Read when the packages are imported, which is now or was done by us under the same setting.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise MissingExtraError("datasets", extra="datasets", needed_for="reading hf:...") from error
    datasets.disable_progress_bars()
    module: ModuleType = datasets
    return module
