"""Encoders and rerankers loaded by transformers, and checked before they are trusted.

Only safetensors are opened. What transformers lets pass with a warning is an error here: a weight that the files do not
hold and that would start random.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from genai.errors import DataError, MissingExtraError, UsageError
from genai.models.precision import Precision, device, dtype_for
from genai.models.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel

_UNUSED = ("pooler.",)
"""Weights that files often lack and that no pooling of ours looks at."""


def load_text_model(
    folder: Path, *, precision: Precision = "auto", trust_remote_code: bool = False, num_threads: int | None = None
) -> PreTrainedModel:
    """The transformer of an encoder, in evaluation mode on the machine's device, without a head.

    Raises:
        DataError: a weight is missing or a file is damaged.
        UsageError: the model wants to run code of its own.
        MissingExtraError: torch or transformers is not installed.
    """
    return _load(folder, _text_factory, precision, trust_remote_code, num_threads)


def load_classifier(folder: Path, *, num_threads: int | None = None) -> PreTrainedModel:
    """The model of a reranker: a transformer with one number a text.

    Raises:
        DataError, UsageError, MissingExtraError: see `load_text_model`.
    """
    return _load(folder, _classifier_factory, "auto", False, num_threads)


def load_trainable_classifier(
    folder: Path, *, seed: int, where: torch.device, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, list[str]]:
    """The model of a reranker in float32, to be trained; an encoder gets a new head with one number.

    Args:
        folder: of a sequence classifier with one label, or of an encoder.
        seed: of the new head's weights.
        where: the device.
        trust_remote_code: run Python that comes with the model.

    Returns:
        The model, and the names of the weights that start random.

    Raises:
        DataError, UsageError: see `load_text_model`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    shared: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    with quiet_transformers(), _explained(folder), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config: Any = AutoConfig.from_pretrained(folder, **shared)
        is_classifier = any("ForSequenceClassification" in name for name in config.architectures or ())
        if is_classifier:
            _classifier_factory(config)
        config.num_labels, config.use_cache = 1, False
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report names them all; they are refused below
            **shared,
        )
    values = dict(report if isinstance(report, Mapping) else vars(report))
    inside = f"{model.base_model_prefix}."
    # An encoder's files often lack its pooler, which is a part of the head here.
    is_head = [not name.startswith(inside) or ".pooler." in name for name in values["missing_keys"]]
    new = [] if is_classifier else [*compress(values["missing_keys"], is_head)]
    _check_report({**values, "missing_keys": set(values["missing_keys"]) - set(new)}, folder, unused=())
    return cast("PreTrainedModel", model.to(where)), sorted(new)


def _load(
    folder: Path,
    choose_factory: Callable[[PretrainedConfig], Any],
    precision: Precision,
    trust_remote_code: bool,
    num_threads: int | None,
) -> PreTrainedModel:
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="index", needed_for=f"running {folder}")
    import torch
    from transformers import AutoConfig

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    where = device()
    with quiet_transformers(), _explained(folder):
        config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
        config.use_cache = False
        model, report = choose_factory(config).from_pretrained(
            folder,
            config=config,
            dtype=dtype_for(precision, where),
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report names them all; they are refused below
        )
    _check_report(report, folder, unused=_UNUSED if choose_factory is _text_factory else ())
    return cast("PreTrainedModel", model.to(where).eval())


def _text_factory(config: PretrainedConfig) -> Any:
    """AutoModel, or the encoder alone where the architecture has a decoder too."""
    from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoModel, AutoModelForTextEncoding

    if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        return AutoModelForTextEncoding
    if config.is_encoder_decoder:
        raise ValueError(f"{config.model_type} is an encoder-decoder whose encoder cannot be had alone")
    return AutoModel


def _classifier_factory(config: PretrainedConfig) -> Any:
    from transformers import AutoModelForSequenceClassification

    if config.num_labels != 1:
        raise ValueError(f"it sorts texts into {config.num_labels} classes, but a reranker gives one number")
    return AutoModelForSequenceClassification


def _check_report(report: Any, folder: Path, *, unused: Sequence[str]) -> None:
    values = report if isinstance(report, Mapping) else vars(report)
    missing = [name for name in values["missing_keys"] if not any(part in name for part in unused)]
    found = sorted([*missing, *map(str, values["mismatched_keys"])])
    if found:
        raise DataError(
            f"{len(found)} weights are missing or have another shape, e.g. {found[0]}, and would start random",
            where=str(folder),
            fix="the folder is incomplete, or config.json belongs to another model",
        )


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turn what transformers and safetensors raise over a damaged or foreign folder into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise DataError(
            f"the weights are damaged ({error})", where=str(folder), fix="fetch or copy them again"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "trust_remote_code" in str(error):
            raise UsageError(
                "the model needs Python code of its own to run",
                where=str(folder),
                fix="read that code, then set trust_remote_code: true beside the model's name",
            ) from error
        raise DataError(f"the model cannot be loaded: {first}", where=str(folder)) from error
