from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genai.errors import DataError
from genai.evaluation.embedding_scores import frechet_of_files, inception_of_file, read_matrix


def saved(path: Path, array: np.ndarray) -> Path:
    """A .npy file."""
    np.save(path, array)
    return path


def test_the_distance_of_two_files(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    first = generator.normal(size=(400, 8)).astype(np.float32)
    a, b = saved(tmp_path / "a.npy", first), saved(tmp_path / "b.npy", first + 2)
    same, moved = frechet_of_files(a, a), frechet_of_files(a, b)
    assert same.distance == pytest.approx(0, abs=1e-6)
    assert moved.distance == pytest.approx(8 * 4, rel=1e-5)  # the covariance is the same, every mean 2 away
    assert (moved.num_first, moved.num_second, moved.num_dimensions, moved.note) == (400, 400, 8, "")


def test_few_rows_are_said_to_be_few(tmp_path: Path) -> None:
    few = saved(tmp_path / "few.npy", np.random.default_rng(1).normal(size=(5, 8)))
    assert frechet_of_files(few, few).note.startswith("5 rows are few for 8 dimensions")


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    a = saved(tmp_path / "a.npy", np.ones((3, 2)))
    with pytest.raises(DataError, match=r"its rows have 3 numbers, those of .* 2"):
        frechet_of_files(a, saved(tmp_path / "b.npy", np.ones((3, 3))))
    with pytest.raises(DataError, match="it has one row"):
        frechet_of_files(a, saved(tmp_path / "c.npy", np.ones((1, 2))))


def test_the_inception_style_score_lies_between_one_and_the_number_of_classes(tmp_path: Path) -> None:
    assert inception_of_file(saved(tmp_path / "sure.npy", np.eye(4, dtype=np.float32))) == pytest.approx(4)
    assert inception_of_file(saved(tmp_path / "unsure.npy", np.full((6, 4), 0.25))) == pytest.approx(1)


@pytest.mark.parametrize("row", [[0.5, 0.6], [-0.5, 1.5]])
def test_rows_that_are_no_probabilities_are_refused(tmp_path: Path, row: list[float]) -> None:
    with pytest.raises(DataError, match="row 1 is no distribution"):
        inception_of_file(saved(tmp_path / "p.npy", np.array([[0.5, 0.5], row])))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((0, 3)), r"shape \(0, 3\)"),
        (np.ones((2, 2), dtype=complex), "complex128"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.array([[1.0, 2.0], [np.nan, 1.0]]), "row 1 holds what is no finite number"),
    ],
)
def test_arrays_of_another_shape_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_matrix(saved(tmp_path / "x.npy", array))


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(tmp_path / "missing.npy")
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(tmp_path / "text.npy")
    (tmp_path / "empty.npy").touch()
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(tmp_path / "empty.npy")
    np.savez(tmp_path / "two.npz", a=np.ones((2, 2)))
    with pytest.raises(DataError, match="several arrays"):
        read_matrix(tmp_path / "two.npz")


def test_objects_which_could_carry_code_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([[object()]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as an array: Object arrays cannot be loaded"):
        read_matrix(tmp_path / "objects.npy")
