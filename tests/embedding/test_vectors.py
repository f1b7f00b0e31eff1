import numpy as np
import pytest

from genai.embedding.vectors import finished
from genai.errors import DataError


def test_cut_before_it_is_scaled() -> None:
    vectors = np.array([[3, 4, 12], [0, 0, 7]], dtype=np.float32)
    np.testing.assert_allclose(
        finished(vectors, dimension=2, normalize=True, model="m"), [[0.6, 0.8], [0, 0]], rtol=1e-6
    )
    np.testing.assert_array_equal(finished(vectors, dimension=2, normalize=False, model="m"), [[3, 4], [0, 0]])


def test_float32_in_one_piece() -> None:
    for normalize in (True, False):
        done = finished(np.ones((3, 4), dtype=np.float32), dimension=3, normalize=normalize, model="m")
        assert done.dtype == np.float32
        assert done.flags["C_CONTIGUOUS"]


def test_no_text_is_no_vector() -> None:
    assert finished(np.zeros((0, 5), dtype=np.float32), dimension=4, normalize=True, model="m").shape == (0, 4)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_infinite_numbers_are_refused(number: float) -> None:
    vectors = np.ones((3, 4), dtype=np.float32)
    vectors[1, 3] = number
    with pytest.raises(DataError, match=r"gallery:x gave infinite numbers for 1 of 3 texts .*precision: fp32"):
        finished(vectors, dimension=2, normalize=True, model="gallery:x")
