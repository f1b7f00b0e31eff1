"""Against a singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from genai.index.projection import MAX_POINTS, project, sample_places


@pytest.mark.parametrize(("num", "dim"), [(200, 16), (12, 64), (3, 2)])
def test_the_plane_is_that_of_the_largest_singular_values(num: int, dim: int) -> None:
    generator = np.random.default_rng(0)
    vectors = (generator.normal(size=(num, dim)) * np.linspace(3, 0.1, dim)).astype(np.float32)
    points = project(vectors)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    signs = np.sign((points * expected).sum(axis=0))
    assert points.shape == (num, 2)
    assert points * signs == pytest.approx(expected, abs=1e-3)


def test_the_same_vectors_give_the_same_picture() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 20)).astype(np.float32)
    assert (project(vectors) == project(vectors.copy())).all()


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (5, 1)])
def test_too_little_to_span_a_plane(shape: tuple[int, int]) -> None:
    points = project(np.ones(shape, dtype=np.float32))
    assert points.shape == (shape[0], 2)
    assert (points == 0).all()


def test_equal_vectors_lie_on_one_point() -> None:
    assert project(np.ones((10, 4), dtype=np.float32)) == pytest.approx(np.zeros((10, 2)), abs=1e-6)
    assert project(np.ones((3, 9), dtype=np.float32)) == pytest.approx(np.zeros((3, 2)), abs=1e-6)


def test_samples_are_drawn_the_same_way_every_time() -> None:
    assert list(sample_places(5)) == [0, 1, 2, 3, 4]
    places = sample_places(10_000)
    assert len(set(places.tolist())) == MAX_POINTS
    assert (np.diff(places) > 0).all()
    assert (places == sample_places(10_000)).all()
