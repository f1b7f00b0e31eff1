"""The proofs of a fine-tuning job before step 1: which ones, on what, and what they are remembered by."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded
from genai.jobs.finetune_export import write_model
from genai.jobs.finetune_parts import Parts, source_of
from genai.jobs.training_proofs import disk_needs
from genai.log import get_logger
from genai.models.chat_template import stop_token_ids
from genai.models.export import ModelCard, export_gguf
from genai.storage.atomic import cache_dir
from genai.tracking.run import RunDirectory
from genai.training.compiling import eagerly
from genai.training.proofs.accumulation import prove_accumulation
from genai.training.proofs.disk import prove_disk
from genai.training.proofs.export import prove_export
from genai.training.proofs.labels import prove_labels
from genai.training.proofs.packing import prove_packing
from genai.training.proofs.rendering import terminal_text
from genai.training.proofs.result import ProofResult
from genai.training.proofs.runner import Proof, proof_key, run_proofs

_log = get_logger(__name__)
_DECIDING = (
    "model",
    "tokenizer",
    "precision",
    "max_seq_len",
    "train_loader",
    "proofs",
    "data",
    "seed",
    "device",
    "export",
)
"""Keys of the config that a proof could depend on."""


def prove(parts: Parts, loaded: Loaded[FinetuneConfig], directory: RunDirectory) -> tuple[ProofResult, ...]:
    """Carry out the proofs that the job file asks for.

    Raises:
        GateError: one is refuted; the job must not start.
    """
    config = loaded.config
    needs = disk_needs(config, parts.model, directory.path)
    proofs = [Proof(name="disk", prove=lambda: prove_disk(needs), remember=False)]
    labels = config.proofs.labels
    if labels is not None:
        proofs.append(
            Proof(
                name="labels",
                prove=lambda: prove_labels(
                    parts.train_tokens,
                    parts.tokenizer,
                    labels,
                    stop_token_ids=stop_token_ids(parts.tokenizer, parts.model.generation_config.eos_token_id),
                    name_row=lambda index: source_of(parts.rows.train, parts.train_tokens, index),
                ),
            )
        )
    pad = parts.pad_token_id
    if config.proofs.packing and config.train_loader.dataset.packing_ratio is not None:
        proofs.append(
            Proof(
                name="packing",
                prove=lambda: prove_packing(parts.model_loss, parts.train_tokens, pad_token_id=pad),
            )
        )
    if config.proofs.accumulation:
        proofs.append(
            Proof(
                name="accumulation",
                prove=lambda: prove_accumulation(parts.model_loss, parts.train_tokens, pad_token_id=pad),
            )
        )
    if config.proofs.export:
        proofs.append(Proof(name="export", prove=lambda: _prove_export(parts, directory)))
    with eagerly():
        results = run_proofs(proofs, key=_key(parts), cache_dir=cache_dir())
    _show_labels(results)
    return results


def _show_labels(results: Sequence[ProofResult]) -> None:
    """The rendered examples, for the eye: what is in colour is what the model learns to say."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for example in (example for result in results for example in result.examples):
        _log.info("%s is trained on:\n%s", example.source, terminal_text(example, colour=colour).rstrip())


def _key(parts: Parts) -> str:
    values = asdict(parts.config)
    config = json.dumps({key: values[key] for key in _DECIDING}, sort_keys=True)
    digest = hashlib.sha256(config.encode()).hexdigest()
    return proof_key(digest, parts.resolved.fingerprint, parts.train_tokens.fingerprint)


def _prove_export(parts: Parts, directory: RunDirectory) -> ProofResult:
    return prove_export(
        parts.model_loss,
        parts.tokenizer,
        parts.train_tokens,
        export=lambda folder: _export(parts, folder),
        scratch=directory.path,
        trust_remote_code=parts.config.model.trust_remote_code,
    )


def _export(parts: Parts, folder: Path) -> Path:
    """What the end of the job does."""
    model = write_model(parts, folder / "model", folder / "adapter", ModelCard(name="proof"))
    if "gguf" in parts.config.export.formats:
        export_gguf(model, folder / "model.gguf")
    return model
