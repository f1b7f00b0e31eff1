"""`genai models export runs:RUN/CHECKPOINT`: a checkpoint of a pretraining, of either layout, as a model of one's own.

The run's own job file tells the architecture. A run that was stopped, or trained on many ranks, can be exported this
way at any of its checkpoints, by one process.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from genai.config.inherit import read_with_bases
from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.config.schemas import guess_job
from genai.errors import UsageError
from genai.registry import suggest
from genai.storage.atomic import safe_name
from genai.tracking.run import RunDirectory

_SCHEME = "runs:"


def names_pretraining_checkpoint(reference: str, runs_dir: str | Path) -> bool:
    """Whether `reference` is runs:RUN/CHECKPOINT of a run of `genai pretrain`."""
    name, slash, _ = reference.removeprefix(_SCHEME).partition("/")
    if not reference.startswith(_SCHEME) or not slash:
        return False
    config = Path(runs_dir) / safe_name(name, kind="run name") / "config.yaml"
    return config.is_file() and guess_job(config, read_with_bases(config)[0]) == "pretrain"


def export_checkpoint(
    reference: str, out: Path, *, kind: str, dtype: str | None = None, runs_dir: str | Path = "runs"
) -> Path:
    """Write the model of a checkpoint to `out`.

    Args:
        reference: runs:RUN/CHECKPOINT of a pretraining, see `names_pretraining_checkpoint`.
        out: the folder (hf) or file (gguf) to write; replaced as a whole.
        kind: "hf" or "gguf".
        dtype: of the weights in the files; None means f16 for gguf and float32 for hf.
        runs_dir: where run directories lie.

    Raises:
        UsageError: the run has no such checkpoint, or the dtype is unknown.
        DataError: the checkpoint is damaged.
    """
    import torch

    from genai.jobs.pretrain_export import whole_model, write_model
    from genai.jobs.pretrain_model import describe
    from genai.jobs.pretrain_parts import tokenizer_of
    from genai.models.conversion import check_dtype
    from genai.models.export import ModelCard, export_gguf
    from genai.training.checkpoints import Checkpoints

    check_dtype(kind, dtype)
    run, _, name = reference.removeprefix(_SCHEME).partition("/")
    directory = RunDirectory(Path(runs_dir) / safe_name(run, kind="run name"))
    loaded = load(directory.path / "config.yaml", PretrainConfig)
    checkpoints = Checkpoints(loaded.config.save_folder or str(directory.checkpoints), keep=1, context={})
    known = checkpoints.names()
    if name not in known:
        near = suggest(name, known)
        fix = f"did you mean '{_SCHEME}{run}/{near}'?" if near else f"it has: {', '.join(known) or 'none'}"
        raise UsageError(f"the run '{run}' has no checkpoint '{name}'", fix=fix)
    tokenizer = tokenizer_of(loaded)
    model = whole_model(describe(loaded, num_tokens=len(tokenizer)), checkpoints, name)
    card = ModelCard(name=out.name, base_model=None, licence=None, method=f"pretraining, checkpoint {name} of {run}")
    if kind == "hf":
        return write_model(model, tokenizer, out, card, dtype=getattr(torch, dtype) if dtype else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".whole-") as scratch:
        return export_gguf(write_model(model, tokenizer, Path(scratch) / "model", card), out, dtype=dtype or "f16")
