"""Proof that what training makes can be saved, read back and exported: tried before the first step, not after the last.

The trained weights are saved and read back bit by bit. Then the job's own export runs into a scratch folder, and plain
transformers must load from it a model that says what the one in memory says, and the same tokenizer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from genai.errors import GenaiError, Problem
from genai.models.quiet import quiet_transformers
from genai.training.checkpoints import trained_parameters
from genai.training.proofs.probe import undisturbed
from genai.training.proofs.result import ProofResult, refuted
from genai.training.step import microbatches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from genai.data.tokenized import TokenizedRows
    from genai.training.interfaces import ModelLoss

MAX_DIFFERENCE = 0.1
"""Norm of the difference of the logits, as a share of their own. Both sides may be rounded to bfloat16, at other
places; a model of random weights is at 1.4."""

_MAX_SAVED_BYTES = 2 << 30
_MAX_EXPORTED_PARAMETERS = 1_500_000_000
"""What fits into the time of the proofs; of a larger model only a part is tried."""
_NUM_TOKENS = 24


def prove_export(
    model_loss: ModelLoss,
    tokenizer: PreTrainedTokenizerBase,
    rows: TokenizedRows,
    *,
    export: Callable[[Path], Path],
    scratch: Path,
    trust_remote_code: bool = False,
) -> ProofResult:
    """Save, read back, export and load; the model is left as it was and nothing is left on the disk.

    Args:
        model_loss: the trainer's forward pass, whose model is exported.
        tokenizer: the one that goes with it.
        rows: training rows; the beginning of the first is what both models are asked about.
        export: what the job does at its end: writes into an empty folder and returns the Hugging Face folder in it.
        scratch: an existing folder on the disk that the run writes to.
        trust_remote_code: the model brings its own Python.

    Raises:
        GateError: a weight comes back changed, the export fails, or what it writes is another model.
    """
    started = time.perf_counter()
    numbers: dict[str, float] = {}
    with undisturbed(model_loss.model), tempfile.TemporaryDirectory(prefix=".proof-", dir=scratch) as folder:
        details = [_prove_saving(model_loss.model, Path(folder, "weights.safetensors"), numbers)]
        parameters = sum(p.numel() for p in model_loss.model.parameters())
        if parameters <= _MAX_EXPORTED_PARAMETERS:
            exported = _export(export, Path(folder, "export"))
            _compare_tokenizers(exported, tokenizer, rows, trust_remote_code)
            numbers["logits_difference"] = _compare_models(exported, model_loss, rows, trust_remote_code)
            details.append(f"exported and loaded by transformers: logits within {numbers['logits_difference']:.1e}")
        else:
            details.append(f"the export was not tried: {parameters:,} parameters would take too long")
    return ProofResult(
        name="export", seconds=time.perf_counter() - started, details=("; ".join(details),), numbers=numbers
    )


# --- what a checkpoint does -------------------------------------------------------------------------------------------


def _prove_saving(model: torch.nn.Module, path: Path, numbers: dict[str, float]) -> str:
    """Save the trained weights (of a large model the first ones), read them back, compare every bit."""
    weights = trained_parameters(model)
    chosen = dict(_first_bytes(weights, _MAX_SAVED_BYTES))
    save_file(chosen, path)
    with safe_open(path, framework="pt") as file:
        changed = {*chosen} ^ {*file.keys()}
        changed |= {name for name in {*chosen} - changed if not _same_bits(file, name, chosen[name])}
    path.unlink()
    if changed:
        message = f"{len(changed)} of {len(chosen)} trained weights do not come back from disk as they were saved"
        raise refuted([_problem(f"{message}, among them {min(changed)}", "check the disk and the safetensors package")])
    numbers["saved_bytes"] = sum(tensor.nbytes for tensor in chosen.values())
    count = f"{len(chosen)}" if len(chosen) == len(weights) else f"{len(chosen)} of {len(weights)}"
    return f"{count} trained tensors ({numbers['saved_bytes'] / 2**20:,.1f} MiB) saved and read back bit by bit"


def _first_bytes(weights: dict[str, torch.Tensor], limit: int) -> Iterator[tuple[str, torch.Tensor]]:
    total = 0
    for name, tensor in weights.items():
        total += tensor.nbytes
        if total > limit:
            return
        yield name, tensor


def _same_bits(file: Any, name: str, tensor: torch.Tensor) -> bool:
    read = file.get_tensor(name)
    own = tensor.cpu()
    return read.dtype == own.dtype and torch.equal(_bytes(read), _bytes(own))


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)


# --- what the end of the job does -------------------------------------------------------------------------------------


def _export(export: Callable[[Path], Path], folder: Path) -> Path:
    folder.mkdir()
    try:
        return export(folder)
    except GenaiError as error:
        raise refuted(error.problems) from error


def _compare_tokenizers(
    folder: Path, tokenizer: PreTrainedTokenizerBase, rows: TokenizedRows, trust_remote_code: bool
) -> None:
    from transformers import AutoTokenizer

    text = tokenizer.decode(rows.example(0)[0].tolist())
    with _explained("the exported tokenizer"):
        loaded = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    if loaded(text)["input_ids"] != tokenizer(text)["input_ids"] or loaded.chat_template != tokenizer.chat_template:
        raise refuted([_problem("the exported tokenizer is not the one of the training", "look at tokenizer.name")])


def _compare_models(folder: Path, model_loss: ModelLoss, rows: TokenizedRows, trust_remote_code: bool) -> float:
    """Norm of the difference of both models' logits, as a share of their own."""
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM.from_pretrained  # its annotation knows no output_loading_info
    with _explained("the exported model"):
        loaded, info = load(
            folder, local_files_only=True, trust_remote_code=trust_remote_code, dtype="auto", output_loading_info=True
        )
    if missing := sorted(info["missing_keys"]):
        message = f"the export lacks {len(missing)} of the model's weights, among them {missing[0]}"
        raise refuted([_problem(message, "report this model; proofs.export: false trains it all the same")])
    tensors = _question(rows, model_loss)
    with torch.no_grad():
        own = _centred(model_loss.logits(tensors)[0])
        theirs = _centred(loaded.eval()(input_ids=tensors["input_ids"].cpu()).logits[0])
    vocabulary = min(own.shape[-1], theirs.shape[-1])
    own, theirs = own[:, :vocabulary], theirs[:, :vocabulary]
    difference = float((own - theirs).norm() / own.norm())
    # Written so that NaN is a failure.
    if not difference <= MAX_DIFFERENCE:
        message = f"the exported model is not the one in memory: its logits differ by {difference:.2g} of their norm"
        raise refuted([_problem(message, "report this model; proofs.export: false trains it all the same")])
    return difference


def _question(rows: TokenizedRows, model_loss: ModelLoss) -> dict[str, torch.Tensor]:
    from genai.data.batches import assemble
    from genai.data.tokenized import TokenizedRows

    ids = [int(token) for token in rows.example(0)[0][:_NUM_TOKENS]]
    batch = assemble(TokenizedRows.from_lists([ids]), [(0,)], seq_len=len(ids), pad_token_id=ids[0])
    (tensors,) = microbatches(batch, 1, model_loss.device)
    return tensors


def _centred(logits_SV: torch.Tensor) -> torch.Tensor:
    """Logits without what softmax does not see."""
    logits_SV = logits_SV.float().cpu()
    return logits_SV - logits_SV.mean(-1, keepdim=True)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        with quiet_transformers():
            yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise refuted(
            [_problem(f"{what} cannot be loaded by transformers: {first_line}", "report this model")]
        ) from error


def _problem(message: str, fix: str) -> Problem:
    return Problem(message=message, where="proofs.export", fix=fix)
