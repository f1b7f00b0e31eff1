"""Causal language models and tokenizers, loaded by transformers and checked before they are trusted.

What transformers lets pass with a warning is an error here: a weight that the files do not hold and that would start
random, an encoder taken for a language model, an unknown key for the model's config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from genai.config.finetune import HFCausalLMConfig, QuantizationConfig, TokenizerConfig
from genai.errors import ConfigError, DataError, MissingExtraError, Problem, UsageError
from genai.log import get_logger
from genai.models.chat_template import ensure_chat_template
from genai.models.quiet import quiet_transformers
from genai.models.references import ResolvedModel, resolve_model
from genai.registry import suggest

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_KWARGS = frozenset(
    [
        "add_bos_token",
        "add_eos_token",
        "add_prefix_space",
        "additional_special_tokens",
        "bos_token",
        "clean_up_tokenization_spaces",
        "cls_token",
        "eos_token",
        "extra_special_tokens",
        "legacy",
        "mask_token",
        "model_input_names",
        "model_max_length",
        "pad_token",
        "padding_side",
        "sep_token",
        "split_special_tokens",
        "truncation_side",
        "unk_token",
        "use_fast",
    ]
)
"""What `tokenizer.kwargs` may hold; AutoTokenizer itself takes any word without complaint."""
_PAD_CANDIDATES = ("<pad>", "<|pad|>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>", "<unk>")
_log = get_logger(__name__)


def load_tokenizer(
    model: HFCausalLMConfig, tokenizer: TokenizerConfig, resolved: ResolvedModel, *, runs_dir: str | Path = "runs"
) -> PreTrainedTokenizerBase:
    """The tokenizer of a job, with a chat template and a pad token that is not the end of a turn.

    Args:
        model: says whether code of the model may run.
        tokenizer: where it comes from, its arguments, its template.
        resolved: the model, whose tokenizer is taken when `tokenizer.name` is None.
        runs_dir: for a `tokenizer.name` that names a run.

    Raises:
        ConfigError: `tokenizer.kwargs` holds an unknown word.
        DataError: the folder holds no tokenizer that can be read, or its template fails.
    """
    if problems := tokenizer_kwargs_problems(tokenizer.kwargs):
        raise ConfigError(problems)
    if tokenizer.name is not None:
        resolved = resolve_model(tokenizer.name, runs_dir=runs_dir, weights=False)
    _need("transformers", f"loading {resolved.reference}")
    from transformers import AutoTokenizer

    with quiet_transformers(), _explained(resolved):
        loaded = AutoTokenizer.from_pretrained(
            resolved.path,
            local_files_only=True,
            trust_remote_code=model.trust_remote_code,
            **tokenizer.kwargs,
        )
    ensure_chat_template(loaded, tokenizer.chat_template)
    _set_pad_token(loaded)
    return loaded


def tokenizer_kwargs_problems(kwargs: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with `tokenizer.kwargs`; costs no torch, so that it can be asked before anything heavy."""
    problems = []
    for key in sorted(set(kwargs) - TOKENIZER_KWARGS):
        near = suggest(key, TOKENIZER_KWARGS)
        problems.append(
            Problem(
                message=f"unknown argument '{key}' for a tokenizer",
                where=f"tokenizer.kwargs.{key}",
                fix=f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(TOKENIZER_KWARGS))}",
            )
        )
    return problems


def load_config(model: HFCausalLMConfig, resolved: ResolvedModel) -> PretrainedConfig:
    """The model's own config with `model.config_overrides` in it.

    Raises:
        ConfigError: an override names no key of this config, or has another type.
        UsageError: the architecture is no causal language model, or only the model's own code knows it.
    """
    _need("transformers", f"loading {resolved.reference}")
    from transformers import AutoConfig

    with quiet_transformers(), _explained(resolved):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            resolved.path, local_files_only=True, trust_remote_code=model.trust_remote_code
        )
    _check_causal(config, resolved)
    _override(config, model.config_overrides)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    if config.pad_token_id in ends:
        # The embedding row of config.pad_token_id gets no gradient: the end of a turn must not be that row.
        config.pad_token_id = None
    return config


def load_model(
    model: HFCausalLMConfig,
    resolved: ResolvedModel,
    *,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    seed: int = 17,
) -> PreTrainedModel:
    """The model with its weights, in evaluation mode, or with random ones for `pretrained: false`.

    Args:
        model: what the job says about it.
        resolved: where it lies.
        dtype: of the weights in memory.
        device: where they go.
        seed: of random weights; the global random state is left as it was.

    Raises:
        DataError: a weight is missing, has another shape, or a file is damaged.
        MissingExtraError: quantization without bitsandbytes.
        UsageError: the attention kernel or the quantization does not work here.
    """
    import torch

    config = load_config(model, resolved)
    factory = _model_factory()
    _check_attention(model.attn_implementation)
    if not model.pretrained:
        with torch.random.fork_rng(), quiet_transformers():
            torch.manual_seed(seed)
            loaded: PreTrainedModel = factory.from_config(
                config,
                dtype=dtype,
                attn_implementation=model.attn_implementation,
                trust_remote_code=model.trust_remote_code,
            )
        return _placed(loaded, device)
    arguments: dict[str, Any] = {}
    if model.quantization is not None:
        arguments = {"quantization_config": _quantization(model.quantization, dtype), "device_map": {"": device}}
    with quiet_transformers(), _explained(resolved):
        loaded, report = factory.from_pretrained(
            resolved.path,
            config=config,
            dtype=dtype,
            attn_implementation=model.attn_implementation,
            trust_remote_code=model.trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report names them all; they are refused below
            **arguments,
        )
    _check_report(report, resolved)
    return _placed(loaded, None if arguments else device)


def build_meta(model: HFCausalLMConfig, resolved: ResolvedModel) -> PreTrainedModel:
    """The model without memory for its weights: every shape and name is there, on torch's meta device."""
    import torch

    config = load_config(model, resolved)
    with quiet_transformers(), torch.device("meta"):
        built: PreTrainedModel = _model_factory().from_config(
            config, attn_implementation="eager", trust_remote_code=model.trust_remote_code
        )
    built.tie_weights()
    return built


def fit_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give every token of `tokenizer` a row in the embeddings; True when rows were added.

    New rows start at the mean of the old ones. A model with more rows than tokens (padded for speed) is left alone.
    """
    rows = int(cast("torch.Tensor", model.get_input_embeddings().weight).shape[0])
    if len(tokenizer) <= rows:
        return False
    with quiet_transformers():
        model.resize_token_embeddings(len(tokenizer), mean_resizing=True)
    _log.warning(
        "%d tokens were added to the embeddings; to train them with an adapter: modules_to_save: [embed_tokens]",
        len(tokenizer) - rows,
    )
    return True


def _model_factory() -> Any:
    """AutoModelForCausalLM, whose methods carry no types."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _placed(model: PreTrainedModel, device: torch.device | str | None) -> PreTrainedModel:
    moved: Any = model if device is None else model.to(device)  # type: ignore[arg-type]  # transformers narrows it
    return cast("PreTrainedModel", moved.eval())


def _need(package: str, needed_for: str) -> None:
    import importlib.util

    for name in ("torch", package):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(name, extra="train", needed_for=needed_for)


def _set_pad_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Pad with a token of the vocabulary that ends nothing; with none at hand, the end of sequence has to do.

    Collators of other tools take every pad token out of the labels; with pad = eos that would be the end of every
    answer. genai's own batches mask padding by position and do not depend on it.
    """
    if tokenizer.pad_token is not None and tokenizer.pad_token != tokenizer.eos_token:
        return
    specials = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    candidates = [name for name in (tokenizer.unk_token, *_PAD_CANDIDATES) if name in specials]
    usable = [name for name in candidates if name not in (tokenizer.eos_token, tokenizer.bos_token)]
    tokenizer.pad_token = usable[0] if usable else tokenizer.eos_token


def _check_causal(config: PretrainedConfig, resolved: ResolvedModel) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    architectures = config.architectures or []
    own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    generative = [name for name in architectures if name.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration"))]
    if config.is_encoder_decoder or (architectures and not generative and not own_code):
        kind = "an encoder-decoder" if config.is_encoder_decoder else "an encoder, or lacks its language-model head"
        raise UsageError(
            f"{resolved.reference} is no causal language model: {', '.join(architectures)} is {kind}",
            fix="choose a text-generation model (genai models ls)",
        )
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not own_code:
        raise UsageError(f"{resolved.reference} has the architecture '{config.model_type}', no causal language model")


def _override(config: PretrainedConfig, overrides: Mapping[str, Any]) -> None:
    known = config.to_dict()
    problems = [problem for key, value in overrides.items() if (problem := _override_problem(known, key, value))]
    if problems:
        raise ConfigError(problems)
    for key, value in overrides.items():
        merged = {**known[key], **value} if isinstance(value, Mapping) and isinstance(known[key], dict) else value
        setattr(config, key, merged)


def _override_problem(known: Mapping[str, Any], key: str, value: Any) -> Problem | None:
    where = f"model.config_overrides.{key}"
    if key not in known:
        near = suggest(key, known)
        return Problem(
            message=f"'{key}' is no key of this model's config",
            where=where,
            fix=f"did you mean '{near}'?" if near else None,
        )
    old = known[key]
    numbers = isinstance(old, int | float) and isinstance(value, int | float)
    if old is None or value is None or isinstance(value, type(old)) or (numbers and not isinstance(old, bool)):
        return None
    return Problem(message=f"must be {type(old).__name__} (it is {old!r} now), not {value!r}", where=where)


def _check_attention(name: str) -> None:
    if name != "flash_attention_2":
        return
    from transformers.utils.import_utils import is_flash_attn_2_available

    if not is_flash_attn_2_available():
        raise UsageError(
            "attn_implementation: flash_attention_2 needs a CUDA device and the package flash-attn", fix="use sdpa"
        )


def _quantization(config: QuantizationConfig, dtype: torch.dtype) -> Any:
    """The settings of a bitsandbytes load; fails before anything is read where that cannot work."""
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", extra="qlora", needed_for=f"loading in {config.bits} bits")
    if not torch.cuda.is_available():
        raise UsageError(
            f"loading in {config.bits} bits needs a CUDA device, and there is none", fix="leave model.quantization out"
        )
    return BitsAndBytesConfig(
        load_in_4bit=config.bits == 4,
        load_in_8bit=config.bits == 8,
        bnb_4bit_quant_type=config.quant_type,
        bnb_4bit_use_double_quant=config.double_quant,
        bnb_4bit_compute_dtype=dtype,
    )


def _check_report(report: Any, resolved: ResolvedModel) -> None:
    """What transformers found out while loading: nothing may have started random."""
    values = report if isinstance(report, Mapping) else vars(report)
    missing, mismatched = sorted(values["missing_keys"]), sorted(map(str, values["mismatched_keys"]))
    if missing or mismatched:
        named = [*missing, *mismatched]
        what = "are missing" if missing else "have another shape"
        raise DataError(
            f"{len(named)} weights {what}, e.g. {named[0]}, and would start random",
            where=str(resolved.path),
            fix="the folder is incomplete, or config.json belongs to another model",
        )
    if unexpected := sorted(values["unexpected_keys"]):
        _log.warning(
            "%s: %d weights have no place in the model, e.g. %s", resolved.path, len(unexpected), unexpected[0]
        )


@contextmanager
def _explained(resolved: ResolvedModel) -> Iterator[None]:
    """Turn what transformers and safetensors raise over a damaged or foreign folder into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise DataError(
            f"the weights of {resolved.reference} are damaged ({error})",
            where=str(resolved.path),
            fix="fetch or copy them again",
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "trust_remote_code" in str(error):
            raise UsageError(
                f"{resolved.reference} needs Python code of its own to run",
                fix="read that code, then set model.trust_remote_code: true",
            ) from error
        raise DataError(f"{resolved.reference} cannot be loaded: {first}", where=str(resolved.path)) from error
