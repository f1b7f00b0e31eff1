"""`genai models export`: from any model reference to a folder or a file of one's own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from genai.config.finetune import HFCausalLMConfig, TokenizerConfig
from genai.errors import UsageError
from genai.models.describe import licence_of
from genai.models.gguf_export import GGUF_DTYPES, export_gguf
from genai.models.model_card import ModelCard
from genai.models.references import ResolvedModel, resolve_adapter, resolve_model

HF_DTYPES = ("float32", "bfloat16", "float16")


def export_model(
    reference: str,
    out: Path,
    *,
    kind: str,
    dtype: str | None = None,
    adapter: str | None = None,
    runs_dir: str | Path = "runs",
    revision: str | None = None,
) -> Path:
    """Write the model that `reference` names to `out`.

    Args:
        reference: a model reference.
        out: the folder (hf) or file (gguf) to write; replaced as a whole.
        kind: "hf" or "gguf".
        dtype: of the weights in the files; None means f16 for gguf, and for hf the one they are stored in now.
        adapter: an adapter to merge in first.
        runs_dir: where run directories lie.
        revision: of a model on the hub.

    Raises:
        UsageError: an unknown dtype; or whatever is wrong with the references.
    """
    check_dtype(kind, dtype)
    adapter_path = resolve_adapter(adapter, runs_dir=runs_dir) if adapter else None
    resolved = resolve_model(reference, runs_dir=runs_dir, revision=revision)
    if kind == "hf":
        return _write_folder(resolved, out, dtype, adapter_path)
    if adapter_path is None:
        return export_gguf(resolved.path, out, dtype=dtype or "f16")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".merged-") as scratch:
        merged = _write_folder(resolved, Path(scratch) / "model", None, adapter_path)
        return export_gguf(merged, out, dtype=dtype or "f16")


def check_dtype(kind: str, dtype: str | None) -> None:
    """Hold `--dtype` against what an export of `kind` can write.

    Raises:
        UsageError: it is unknown.
    """
    known = GGUF_DTYPES if kind == "gguf" else HF_DTYPES
    if dtype is not None and dtype not in known:
        raise UsageError(f"--dtype {dtype} is unknown for {kind}", fix=f"one of {', '.join(known)}")


def _write_folder(resolved: ResolvedModel, out: Path, dtype: str | None, adapter: Path | None) -> Path:
    import torch

    from genai.models.adapters import merge_adapter
    from genai.models.export import export_hf, stored_dtype
    from genai.models.loading import load_model, load_tokenizer

    config = HFCausalLMConfig(pretrained_model_name_or_path=resolved.reference)
    tokenizer = load_tokenizer(config, TokenizerConfig(), resolved)
    model = load_model(config, resolved, dtype=torch.float32)
    if adapter is not None:
        model = merge_adapter(model, adapter, base=resolved)
    card = ModelCard(
        name=out.name,
        base_model=resolved.hub_id or resolved.reference,
        licence=licence_of(resolved),
        method="merged adapter" if adapter else "not trained further",
    )
    target = getattr(torch, dtype) if dtype else stored_dtype(resolved)
    return export_hf(model, tokenizer, out, card=card, dtype=target)
