"""What lies in a folder's safetensors, by their headers alone: names, formats, shapes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genai.errors import DataError

_MAX_HEADER_BYTES = 100_000_000
"""The most that safetensors itself reads."""
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTensor:
    """A tensor in a file."""

    name: str
    dtype: str
    """As safetensors calls it: F32, BF16, F8_E4M3, ..."""
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """In the file."""
        return -(-self.numel * _BITS.get(self.dtype, 32) // 8)

    @property
    def is_floating(self) -> bool:
        """Whether it holds numbers with a fraction, which are loaded in whatever format is wanted."""
        return self.dtype.startswith(("F", "BF"))


def read_weights(folder: Path) -> list[StoredTensor]:
    """The tensors of a model's weights, in one file or several.

    Raises:
        DataError: there are none, only pickled ones, a part is missing, or a file is damaged.
    """
    return [tensor for file in _weight_files(folder) for tensor in read_header(file)]


def read_header(file: Path) -> list[StoredTensor]:
    """The tensors of one file. Source: safetensors' format: a uint64 length, a JSON header, then the numbers.

    Raises:
        DataError: it cannot be read, is cut off, or is no such file.
    """
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MAX_HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        tensors = [_stored(name, entry) for name, entry in entries]
        end = max((int(entry["data_offsets"][1]) for _, entry in entries), default=0)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}", where=str(file)) from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise DataError("this is no intact safetensors file", where=str(file), fix="fetch it again") from error
    if size < 8 + length + end:
        raise DataError(
            f"the file is cut off: it has {size} of {8 + length + end} bytes", where=str(file), fix="fetch it again"
        )
    return tensors


def _stored(name: str, entry: Any) -> StoredTensor:
    shape = tuple(int(width) for width in entry["shape"])
    if any(width < 0 for width in shape):
        raise ValueError(f"{name} has the shape {shape}")
    return StoredTensor(name=name, dtype=str(entry["dtype"]), shape=shape)


def _weight_files(folder: Path) -> Iterator[Path]:
    """Those that transformers reads; others in the folder (an original of another layout, say) do not count."""
    if (folder / _WHOLE).is_file():
        yield folder / _WHOLE
        return
    if not (folder / _INDEX).is_file():
        raise _nothing_there(folder)
    for name in _indexed(folder / _INDEX):
        file = folder / name
        if not file.is_file():
            raise DataError(f"a part of the weights is missing: {name}", where=str(folder), fix="fetch it again")
        yield file


def _indexed(index: Path) -> list[str]:
    try:
        names = sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("the list of the weights' parts cannot be read", where=str(index)) from error
    if outside := [name for name in names if Path(name).name != name]:
        raise DataError(f"it names a part outside of its folder: {outside[0]}", where=str(index))
    return names


def _nothing_there(folder: Path) -> DataError:
    pickled = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
    if pickled:
        return DataError(
            f"the weights are pickled ({pickled[0].name}), and a pickle can run code",
            where=str(folder),
            fix="take a revision with safetensors, or convert them: model.save_pretrained(FOLDER)",
        )
    return DataError(f"there are no weights: {_WHOLE} is missing", where=str(folder))
