"""The proofs of a pretraining job before step 1: which ones, on what, and what they are remembered by."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from genai.data.token_streams import token_eval_batches
from genai.data.tokenized import TokenizedRows
from genai.jobs.pretrain_export import write_model
from genai.jobs.pretrain_parts import Parts
from genai.jobs.training_proofs import disk_needs
from genai.models.export import ModelCard, export_gguf
from genai.storage.atomic import cache_dir
from genai.tracking.run import RunDirectory
from genai.training.compiling import eagerly
from genai.training.proofs.accumulation import prove_accumulation
from genai.training.proofs.disk import prove_disk
from genai.training.proofs.export import prove_export
from genai.training.proofs.result import ProofResult
from genai.training.proofs.runner import Proof, proof_key, run_proofs

_DECIDING = ("model", "tokenizer", "precision", "max_seq_len", "seed", "device", "loss", "proofs", "export")
"""Keys of the config that a proof could depend on."""
_NUM_ROWS = 4
_NUM_TOKENS = 32
"""Of each row: the beginnings are enough for what is proven."""


def prove(parts: Parts, directory: RunDirectory) -> tuple[ProofResult, ...]:
    """Carry out the proofs that the job file asks for; the model must still be whole.

    Raises:
        GateError: one is refuted; the job must not start.
    """
    config = parts.config
    needs = disk_needs(config, parts.model, directory.path)
    proofs = [Proof(name="disk", prove=lambda: prove_disk(needs), remember=False)]
    if config.proofs.accumulation:
        proofs.append(
            Proof(
                name="accumulation",
                prove=lambda: prove_accumulation(parts.model_loss, first_rows(parts), pad_token_id=0),
            )
        )
    if config.proofs.export:
        proofs.append(Proof(name="export", prove=lambda: _prove_export(parts, directory)))
    with eagerly():
        return run_proofs(proofs, key=_key(parts), cache_dir=cache_dir())


def first_rows(parts: Parts) -> TokenizedRows:
    """The beginnings of the first training rows."""
    batches = token_eval_batches(
        parts.inputs.train.specs,
        seq_len=parts.config.max_seq_len,
        batch_size=_NUM_ROWS,
        cache_dir=parts.inputs.cache_dir,
        num_batches=1,
    )
    return TokenizedRows.from_lists([row[:_NUM_TOKENS] for batch in batches for row in batch.input_ids.tolist()])


def _key(parts: Parts) -> str:
    values = asdict(parts.config)
    config = json.dumps({key: values[key] for key in _DECIDING}, sort_keys=True)
    digest = hashlib.sha256(config.encode()).hexdigest()
    return proof_key(digest, parts.architecture.fingerprint, parts.inputs.train.fingerprint)


def _prove_export(parts: Parts, directory: RunDirectory) -> ProofResult:
    return prove_export(
        parts.model_loss,
        parts.tokenizer,
        first_rows(parts),
        export=lambda folder: _export(parts, folder),
        scratch=directory.path,
        trust_remote_code=getattr(parts.config.model, "trust_remote_code", False),
    )


def _export(parts: Parts, folder: Path) -> Path:
    """What the end of the job does."""
    model = write_model(parts.model, parts.tokenizer, folder / "model", ModelCard(name="proof"))
    if "gguf" in parts.config.export.formats:
        export_gguf(model, folder / "model.gguf")
    return model
