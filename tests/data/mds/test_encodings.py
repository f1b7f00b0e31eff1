"""Every encoding gives back what it was given, and refuses what does not fit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.mds.encodings import BAD_VALUE, array_form, parse_encoding
from genai.errors import DataError

VALUES: dict[str, Any] = {
    "bytes": b"\x00abc",
    "str": "Håll 🙂",
    "int": -(2**63),
    "str_int": 10**40,
    "str_float": 0.1,
    "str_decimal": Decimal("1.10"),
    "json": {"a": [1, None, "ä"]},
    "uint8": 255,
    "uint16": 65535,
    "uint32": 2**32 - 1,
    "uint64": 2**64 - 1,
    "int8": -128,
    "int16": -(2**15),
    "int32": -(2**31),
    "int64": -(2**63),
    "float16": 0.5,
    "float32": 0.25,
    "float64": 0.1,
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back(name: str) -> None:
    encoding = parse_encoding(name, "c")
    data = encoding.encode(VALUES[name])
    assert encoding.decode(data) == VALUES[name]
    assert encoding.size in (None, len(data))


ARRAY = np.arange(6, dtype=np.uint16).reshape(2, 3)
ARRAY_BYTES = {
    "ndarray:uint16:2,3": b"",
    "ndarray:uint16": bytes([2 << 2, 2, 3]),
    "ndarray": bytes([16, 2 << 2, 2, 3]),
}


@pytest.mark.parametrize("name", ARRAY_BYTES)
def test_an_array_comes_back_with_what_the_encoding_does_not_fix(name: str) -> None:
    encoding = parse_encoding(name, "c")
    data = encoding.encode(ARRAY)
    assert data == ARRAY_BYTES[name] + ARRAY.tobytes()
    back = encoding.decode(data)
    assert back.dtype == ARRAY.dtype
    assert np.array_equal(back, ARRAY)
    assert encoding.size == (12 if name == "ndarray:uint16:2,3" else None)


def test_a_long_axis_takes_wider_numbers() -> None:
    encoding = parse_encoding("ndarray:int8", "c")
    array = np.zeros(300, dtype=np.int8)
    assert encoding.encode(array)[:3] == bytes([1 << 2 | 1, 300 & 255, 300 >> 8])
    assert encoding.decode(encoding.encode(array)).shape == (300,)


def test_a_big_endian_or_strided_array_is_stored_little_endian_and_in_c_order() -> None:
    encoding = parse_encoding("ndarray:uint16:3,2", "c")
    data = encoding.encode(ARRAY.T.astype(">u2"))
    assert data == np.ascontiguousarray(ARRAY.T).tobytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bytes", "text"),
        ("str", b"bytes"),
        ("str", "\ud800"),
        ("int", 2**63),
        ("int", 1.0),
        ("uint8", 256),
        ("uint8", -1),
        ("uint64", -1),
        ("int32", 1.5),
        ("int32", "1"),
        ("float32", None),
        ("str_int", "1"),
        ("json", {1, 2}),
        ("ndarray:uint16", np.zeros(3, np.int16)),
        ("ndarray:uint16:4", np.zeros(3, np.uint16)),
        ("ndarray", np.zeros(0, np.uint16)),
        ("ndarray", np.array(3)),
        ("ndarray", np.array(["a"])),
        ("ndarray", [1, 2]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BAD_VALUE):
        parse_encoding(name, "c").encode(value)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("str", b"\xff"),
        ("json", b"{"),
        ("json", b"[" * 100_000),
        ("str_int", b"x"),
        ("str_int", b"1" * 10_000),
        ("str_decimal", b"x"),
        ("ndarray", b""),
        ("ndarray", b"\x07"),
        ("ndarray", b"\x10"),
        ("ndarray", bytes([16, 1 << 2 | 3, 1])),
        ("ndarray:uint16", bytes([1 << 2, 5, 0, 0])),
        ("ndarray:uint8", bytes([2 << 2 | 3]) + b"\xff" * 16),
    ],
)
def test_bytes_that_no_value_makes_are_refused(name: str, data: bytes) -> None:
    with pytest.raises(BAD_VALUE):
        parse_encoding(name, "c").decode(data)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pkl", "can run code"),
        ("jpeg", "not supported"),
        ("uint61", "did you mean 'uint6"),
        ("ndarray:", "no array"),
        ("ndarray:complex64", "no array"),
        ("ndarray:uint8:0", "no array"),
        ("ndarray:uint8:-1", "no array"),
        ("ndarray:uint8:2,", "no array"),
        ("ndarray:uint8:2:3", "no array"),
        ("ndarray:uint8:" + "9" * 5000, "no array"),
    ],
)
def test_an_unknown_encoding_is_one_clear_line(name: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_encoding(name, "pixels")
    assert "'pixels'" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=40))
def test_no_bytes_make_an_array_decoder_do_anything_but_refuse(data: bytes) -> None:
    for name in ("ndarray", "ndarray:uint16", "ndarray:uint16:4"):
        try:
            array = array_form(name, "c").decode(data)
        except BAD_VALUE:
            continue
        assert array.nbytes <= len(data)
