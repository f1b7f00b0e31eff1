"""How a value of a column becomes bytes and comes back, as `streaming/base/format/mds/encodings.py` (0.13.0) does it.

Numbers are little-endian. Images and `pkl` are not read: a pickle can run code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genai.errors import DataError
from genai.registry import suggest

MAX_AXES = 63
_SCALARS = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
_CODE_OF_DTYPE = {
    "uint8": 8,
    "int8": 9,
    "uint16": 16,
    "int16": 17,
    "float16": 18,
    "uint32": 32,
    "int32": 33,
    "float32": 34,
    "uint64": 64,
    "int64": 65,
    "float64": 66,
}
_DTYPE_OF_CODE = {code: name for name, code in _CODE_OF_DTYPE.items()}
_SHAPE_DTYPES = ("uint8", "uint16", "uint32", "uint64")

BAD_VALUE = (ValueError, TypeError, OverflowError, ArithmeticError, RecursionError)
"""What encoding or decoding raises for a value that does not fit: UnicodeDecodeError and JSONDecodeError are among."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """One encoding of a column."""

    text: str
    """As index.json names it, e.g. `ndarray:uint16:2048`."""
    size: int | None
    """Bytes of every value, None where they differ."""
    encode: Callable[[Any], bytes]
    """Raises one of `BAD_VALUE` for a value of another kind."""
    decode: Callable[[bytes], Any]
    """Raises one of `BAD_VALUE` for bytes that no value makes."""


@dataclass(frozen=True, kw_only=True)
class ArrayForm:
    """What an `ndarray` encoding fixes for all arrays; what is None stands before the values of each."""

    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    @property
    def size(self) -> int | None:
        """Bytes of every array, None where they differ."""
        if self.dtype is None or self.shape is None:
            return None
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def encode(self, array: Any) -> bytes:
        """The bytes of an array: dtype and shape where they are not fixed, then the values in C order."""
        if not isinstance(array, np.ndarray):
            raise TypeError(f"expected an array, got {type(array).__name__}")
        name = array.dtype.name
        if name not in _CODE_OF_DTYPE or self.dtype not in (None, name):
            raise ValueError(f"expected an array of {self.dtype or 'numbers'}, got one of {name}")
        if self.shape not in (None, array.shape) or not array.size or not 1 <= array.ndim <= MAX_AXES:
            raise ValueError(f"expected an array of shape {self.shape or '(n, ...)'}, got {array.shape}")
        head = b"" if self.dtype else bytes([_CODE_OF_DTYPE[name]])
        head += b"" if self.shape else _shape_bytes(array.shape)
        return head + np.ascontiguousarray(array, dtype=np.dtype(name).newbyteorder("<")).tobytes()

    def read_head(self, data: bytes) -> tuple[str, tuple[int, ...], int]:
        """Dtype and shape of an array, and how many bytes say them; its values must fill the rest.

        Raises:
            ValueError: they do not, or no array begins like this.
        """
        dtype, shape, position = self.dtype, self.shape, 0
        if dtype is None:
            if not data or data[0] not in _DTYPE_OF_CODE:
                raise ValueError("it begins with no known dtype")
            dtype, position = _DTYPE_OF_CODE[data[0]], 1
        if shape is None:
            shape, position = _read_shape(data, position)
        needed_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        if len(data) - position != needed_bytes:
            raise ValueError(f"{dtype}{list(shape)} takes {needed_bytes} bytes, not {len(data) - position}")
        return dtype, shape, position

    def decode(self, data: bytes) -> NDArray[Any]:
        """The array, not writable."""
        dtype, shape, position = self.read_head(data)
        return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=position).reshape(shape)


def parse_encoding(text: str, column: str) -> Encoding:
    """The encoding that index.json or a caller calls `text`.

    Raises:
        DataError: it is not known, or not supported; names `column`.
    """
    if text in _FIXED:
        return _FIXED[text]
    if text == "ndarray" or text.startswith("ndarray:"):
        form = array_form(text, column)
        return Encoding(text=text, size=form.size, encode=form.encode, decode=form.decode)
    if text == "pkl":
        raise DataError(
            f"column {column!r} is encoded as 'pkl': reading a pickle can run code",
            fix="write the data anew with another encoding, e.g. json",
        )
    near = suggest(text, (*_FIXED, "ndarray"))
    fix = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(_FIXED))}, ndarray[:DTYPE[:SHAPE]]"
    raise DataError(f"column {column!r} has the encoding {text!r}, which is not supported", fix=fix)


def array_form(text: str, column: str) -> ArrayForm:
    """What `ndarray[:DTYPE[:N,N,...]]` fixes.

    Raises:
        DataError: the dtype or the shape is wrong.
    """
    parts = text.split(":")[1:]
    dimensions = parts[1].split(",") if len(parts) == 2 else []
    sound = len(parts) <= 2 and all(part.isascii() and part.isdigit() and int(part[:20]) > 0 for part in dimensions)
    if not sound or (parts and parts[0] not in _CODE_OF_DTYPE) or len(text) > 1000:
        raise DataError(
            f"column {column!r} has the encoding {text[:100]!r}, which is no array",
            fix=f"write ndarray, ndarray:DTYPE or ndarray:DTYPE:N,N with DTYPE of {', '.join(_CODE_OF_DTYPE)}",
        )
    return ArrayForm(dtype=parts[0] if parts else None, shape=tuple(map(int, dimensions)) or None)


def _shape_bytes(shape: tuple[int, ...]) -> bytes:
    """Number of axes and the width of each, in the smallest unsigned integers that can hold them all."""
    code = next(code for code, name in enumerate(_SHAPE_DTYPES) if max(shape) <= np.iinfo(name).max)
    return bytes([len(shape) << 2 | code]) + np.array(shape, np.dtype(_SHAPE_DTYPES[code]).newbyteorder("<")).tobytes()


def _read_shape(data: bytes, position: int) -> tuple[tuple[int, ...], int]:
    if position >= len(data):
        raise ValueError("it ends before its shape")
    axes, code = data[position] >> 2, data[position] & 3
    dtype = np.dtype(_SHAPE_DTYPES[code]).newbyteorder("<")
    end = position + 1 + axes * dtype.itemsize
    if end > len(data):
        raise ValueError("it ends within its shape")
    return tuple(np.frombuffer(data[position + 1 : end], dtype).tolist()), end


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _scalar(name: str) -> Encoding:
    dtype = np.dtype(name).newbyteorder("<")

    def encode(value: Any) -> bytes:
        number = np.asarray(value)
        if number.ndim or number.dtype.kind not in ("iub" if dtype.kind in "iu" else "iufb"):
            raise TypeError(f"expected a number of {name}, got {type(value).__name__}")
        with np.errstate(over="ignore"):  # a float too large for float16 is infinite there
            cast = number.astype(dtype)
        if dtype.kind in "iu" and int(cast) != int(number):
            raise ValueError(f"{value} does not fit {name}")
        return bytes(cast.tobytes())

    return Encoding(text=name, size=dtype.itemsize, encode=encode, decode=lambda data: np.frombuffer(data, dtype)[0])


def _number_of(data: bytes) -> int:
    return int(np.frombuffer(data, "<i8")[0])


def _encode_json(value: Any) -> bytes:
    return json.dumps(value.tolist() if isinstance(value, np.ndarray) else value).encode()


_FIXED: dict[str, Encoding] = {
    encoding.text: encoding
    for encoding in (
        Encoding(text="bytes", size=None, encode=lambda value: bytes(_expect(value, bytes)), decode=bytes),
        Encoding(
            text="str", size=None, encode=lambda value: bytes(_expect(value, str).encode()), decode=lambda d: d.decode()
        ),
        Encoding(text="int", size=8, encode=lambda value: np.int64(_expect(value, int)).tobytes(), decode=_number_of),
        Encoding(
            text="str_int",
            size=None,
            encode=lambda value: str(_expect(value, int)).encode(),
            decode=lambda data: int(data.decode()),
        ),
        Encoding(
            text="str_float",
            size=None,
            encode=lambda value: str(_expect(value, float)).encode(),
            decode=lambda data: float(data.decode()),
        ),
        Encoding(
            text="str_decimal",
            size=None,
            encode=lambda value: str(_expect(value, Decimal)).encode(),
            decode=lambda data: Decimal(data.decode()),
        ),
        Encoding(text="json", size=None, encode=_encode_json, decode=lambda data: json.loads(data.decode())),
        *map(_scalar, _SCALARS),
    )
}
