"""Thresholds on pairs and documents, each told with what was measured."""

from __future__ import annotations

import pytest

from genai.config.embed_finetune import RetrievalChecksConfig, RetrievalDataConfig
from genai.data.retrieval.checks import check_cut, check_material, check_retrieval
from genai.data.retrieval.material import Material
from genai.data.retrieval.records import HeldOutQuery, NearDuplicate, Pair, Passage, RetrievalData
from genai.data.rows import BadRow
from genai.errors import DataError, GateError

PASSAGE = Passage(key="a", text="A.", document="a")
PAIR = Pair(query="q", positive="a")
QUERY = HeldOutQuery(query="q", relevant={"a": 1.0})
NEAR = NearDuplicate(train="p:1", held_out="p:2", similarity=0.9, text="...")


def data(*, train: int = 8, test: int = 10, near: int = 0) -> RetrievalData:
    return RetrievalData(
        passages=(PASSAGE,) * 4,
        train=(PAIR,) * train,
        validation=(),
        test=(QUERY,) * test,
        near_duplicates=(NEAR,) * near,
    )


def config(**checks: float) -> RetrievalDataConfig:
    return RetrievalDataConfig(checks=RetrievalChecksConfig(**checks))  # type: ignore[arg-type]


def test_bad_rows_are_named() -> None:
    bad = [BadRow(source=f"p:{n}", reason="is bad" if n < 5 else "is worse") for n in range(6)]
    material = Material(passages=(PASSAGE,), pairs=(PAIR,), bad=tuple(bad), num_rows=20)
    with pytest.raises(GateError) as caught:
        check_material(material, RetrievalChecksConfig())
    assert str(caught.value).splitlines() == [
        "data.checks.max_bad_rows: 6 of 20 rows cannot be used (30.0%, allowed 0.0%)",
        "p:0: is bad",
        "p:5: is worse",
    ]
    assert caught.value.exit_code == 3
    check_material(material, RetrievalChecksConfig(max_bad_rows=0.3))


def test_no_text_at_all() -> None:
    with pytest.raises(DataError, match="there is no text to find"):
        check_material(Material(passages=(), pairs=()), RetrievalChecksConfig())


def test_what_is_left() -> None:
    check_retrieval(data(), config())
    with pytest.raises(GateError) as caught:
        check_retrieval(data(train=3, test=2, near=9), config())
    assert str(caught.value).splitlines() == [
        "data.checks.max_near_duplicates: 9 of 12 training pairs resemble held-out ones (75.0%, allowed 50.0%),"
        " e.g. p:1 like p:2, p:1 like p:2, p:1 like p:2 (put what belongs together into groups (data.split.group_by))",
        "data.checks.min_pairs: 3 pairs are left to train on, 8 are needed (data.split holds back the others)",
        "data.checks.min_queries: 2 test queries are held back, 10 are needed"
        " (raise data.split.test, or name labelled queries (evaluation.queries))",
    ]
    check_retrieval(data(train=3, test=2, near=9), config(max_near_duplicates=0.75, min_pairs=3, min_queries=2))


def test_cut_documents() -> None:
    check_cut(4, data(), RetrievalChecksConfig())
    with pytest.raises(GateError, match=r"2 of 4 passages are longer than the model reads \(50.0%, allowed 25.0%\)"):
        check_cut(2, data(), RetrievalChecksConfig(max_cut_documents=0.25))
