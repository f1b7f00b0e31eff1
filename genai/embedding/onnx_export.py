"""A transformer as an ONNX file with 8-bit weights, made once and kept in the cache."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from genai.embedding.encoder import fingerprint_of
from genai.embedding.torch_loading import load_text_model
from genai.errors import DataError, MissingExtraError
from genai.log import get_logger
from genai.models.fingerprint import fingerprint
from genai.models.pull import materialise
from genai.storage import atomic

if TYPE_CHECKING:
    from torch import nn

ONNX_FILE = "model.onnx"
RECIPE = 1
"""Goes up when the same model comes out with other numbers."""
_OPSET = 18
_NEEDED = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
_log = get_logger(__name__)


def exported(folder: Path, *, trust_remote_code: bool = False) -> Path:
    """The ONNX file of the transformer in `folder`, made now unless the cache has it.

    Weights of matrix products are 8-bit integers, one scale a column; what is multiplied with them is rounded to 8 bits
    while it runs (dynamic quantisation). Two processes may ask at once; a process that is killed leaves nothing.

    Args:
        folder: the transformer.
        trust_remote_code: run Python that comes with the model.

    Raises:
        MissingExtraError: a package that makes the file is not installed.
        DataError: the architecture cannot be exported.
    """
    parts = {"weights": fingerprint(folder, weights_only=True), "config": fingerprint(folder / "config.json")}
    key = fingerprint_of(parts).removeprefix("sha256:")[:16]
    target = atomic.cache_dir() / "onnx" / f"{key}-int8-{RECIPE}"

    def fill(scratch: Path) -> tuple[str, str | None]:
        _log.info("making an 8-bit ONNX file of %s, once", folder)
        _export(folder, scratch / ONNX_FILE, trust_remote_code)
        return str(folder), "weights rounded to 8 bits"

    return materialise(target, folder.name, fill) / ONNX_FILE


def check_packages() -> None:
    """Whether all is installed that makes such a file.

    Raises:
        MissingExtraError: it is not.
    """
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra="onnx", needed_for="making an ONNX file (backend: onnx)")


def _export(folder: Path, target: Path, trust_remote_code: bool) -> None:
    check_packages()
    import torch

    model: nn.Module = load_text_model(folder, precision="fp32", trust_remote_code=trust_remote_code)
    model.to("cpu")
    whole = target.with_name("whole.onnx")
    try:
        with _quiet(), atomic.explain_full_disk(target):
            _write(model, whole)
            _quantise(whole, target)
    except (torch.onnx.OnnxExporterError, RuntimeError, NotImplementedError, ValueError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"this architecture cannot be exported: {said}", where=str(folder), fix="use backend: torch"
        ) from error
    whole.unlink()


def _write(model: nn.Module, file: Path) -> None:
    """The model as it is, with inputs input_ids and attention_mask (batch, seq) and output hidden."""
    import torch

    ids_BT = torch.ones((2, 8), dtype=torch.long)
    mask_BT = torch.ones_like(ids_BT)
    mask_BT[1, 6:] = 0  # a mask of ones alone would be taken for no mask
    shape = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    torch.onnx.export(
        _hidden(model),
        (ids_BT, mask_BT),
        file,
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_shapes=(shape, shape),
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _hidden(model: nn.Module) -> nn.Module:
    """The model as a function of two tensors."""
    from torch import Tensor, nn

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            hidden: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return hidden

    return Hidden()


def _quantise(whole: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        whole, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=["MatMul", "Gemm"]
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings, log lines and prints of the exporters: what matters is said by our error."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
