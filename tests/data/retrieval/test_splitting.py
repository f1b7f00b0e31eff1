"""The split: whole documents on one side, nothing of the held-out ones in training, the same again."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.config.embed_finetune import RetrievalDataConfig, RetrievalSplitConfig
from genai.data.faults import DataConfigError
from genai.data.retrieval.grades import query_key
from genai.data.retrieval.material import Material
from genai.data.retrieval.passages import text_key
from genai.data.retrieval.records import HeldOutQuery, Pair, Passage, RetrievalData
from genai.data.retrieval.splitting import split_material
from genai.errors import DataError

SENTENCE = "Number {0} is about the matter {1} and says of it {2}, which nobody else does."


def passage(key: str, text: str | None = None, document: str | None = None) -> Passage:
    """A passage with words that no other one has."""
    rng = random.Random(key)
    words = [f"{rng.getrandbits(60):x}" for _ in range(6)]
    return Passage(key=key, text=text or " ".join(words), document=document or key, source=f"corpus:{key}")


def pair(query: str, positive: str, **changes: object) -> Pair:
    return replace(Pair(query=query, positive=positive, source=f"pairs:{query}"), **changes)  # type: ignore[arg-type]


def material(pairs: Sequence[Pair], passages: Sequence[Passage] | None = None) -> Material:
    keys = dict.fromkeys(key for each in pairs for key in (each.positive, *each.negatives))
    return Material(passages=tuple(passages or (passage(key) for key in keys)), pairs=tuple(pairs))


def config(**split: object) -> RetrievalDataConfig:
    return RetrievalDataConfig(split=RetrievalSplitConfig(**split))  # type: ignore[arg-type]


def side_of(data: RetrievalData) -> dict[str, str]:
    sides = {query_key(pair.query): "train" for pair in data.train}
    sides |= {query_key(query.query): "validation" for query in data.validation}
    return sides | {query_key(query.query): "test" for query in data.test}


MANY = [pair(f"{n * 7919:x} {n}?", f"doc {n}") for n in range(600)]


def test_shares() -> None:
    data = split_material(material(MANY), config(validation=0.1, test=0.2))
    assert len(data.train) + len(data.validation) + len(data.test) == 600
    assert 40 < len(data.validation) < 80
    assert 90 < len(data.test) < 150
    assert len(data.passages) == 600  # the corpus is not split
    assert data.near_duplicates == ()
    more = split_material(material(MANY), config(validation=0.1, test=0.3))
    assert {query.query for query in data.test} < {query.query for query in more.test}
    assert side_of(split_material(material(MANY), config(seed=3))) != side_of(data)


@given(
    triples=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20)), min_size=1, max_size=40),
    seed=st.integers(0, 50),
)
def test_nothing_is_shared_between_the_sides(triples: list[tuple[int, int, int]], seed: int) -> None:
    pairs = [
        pair(f"{'Q' if number % 2 else 'q'}{query}", f"d{document}#{number % 3}", group=f"g{group}" if group else None)
        for number, (query, document, group) in enumerate(triples)
    ]
    keys = dict.fromkeys(each.positive for each in pairs)
    whole = material(pairs, [passage(key, document=key.partition("#")[0]) for key in keys])
    data = split_material(whole, config(seed=seed, validation=0.3, test=0.3, near_duplicates=1.0))
    document_of = {each.key: each.document for each in data.passages}
    documents = [
        {document_of[pair.positive] for pair in data.train},
        *({document_of[key] for query in side for key in query.relevant} for side in (data.validation, data.test)),
    ]
    queries = [
        {query_key(pair.query) for pair in data.train},
        *({query_key(query.query) for query in side} for side in (data.validation, data.test)),
    ]
    for sides in (documents, queries):
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    group_sides: dict[str, set[str]] = {}
    where = side_of(data)
    for each in pairs:
        if each.group is not None:
            group_sides.setdefault(each.group, set()).add(where[query_key(each.query)])
    assert all(len(sides) == 1 for sides in group_sides.values())
    assert not {pair.positive for pair in data.train} & data.kept_back
    # every query is somewhere, with all that answers it
    assert where.keys() == {query_key(each.query) for each in pairs}
    for query in (*data.validation, *data.test):
        answers = {each.positive for each in pairs if query_key(each.query) == query_key(query.query)}
        assert query.relevant.keys() == answers


@given(take=st.integers(1, 60), seed=st.integers(0, 20))
def test_neither_order_nor_other_documents_matter(take: int, seed: int) -> None:
    whole = side_of(split_material(material(MANY[:60]), config(seed=seed, near_duplicates=1.0)))
    some = random.Random(seed).sample(MANY[:60], take)
    part = side_of(split_material(material(some), config(seed=seed, near_duplicates=1.0)))
    assert part == {query_key(each.query): whole[query_key(each.query)] for each in some}


def test_the_choice_is_a_promise() -> None:
    # Another name or hash would turn test queries of a run that is repeated into training pairs.
    data = split_material(material(MANY[:12]), config(validation=0.25, test=0.25))
    assert [query.query for query in data.test] == ["0 0?", "3dde 2?"]
    assert [query.query for query in data.validation] == ["5ccd 3?", "b99a 6?", "d889 7?", "f778 8?"]


def test_a_group_names_its_component() -> None:
    pairs = [pair(f"q{n}", f"d{n}", group=f"g{n % 7}") for n in range(70)]
    before = side_of(split_material(material(pairs), config(test=0.4)))
    # more documents of the groups, with smaller names, move nothing
    more = [pair(f"r{n}", f"a{n}", group=f"g{n % 7}") for n in range(70)]
    after = side_of(split_material(material([*more, *pairs]), config(test=0.4)))
    assert {query: after[query] for query in before} == before
    assert len(set(before.values())) > 1


LONG = " ".join(SENTENCE.format(n, n * 7919, n * 104729) for n in range(6))


@pytest.mark.parametrize(
    "copy",
    [
        LONG.upper().replace(",", " -"),
        LONG + " " + SENTENCE.format(7, 8, 9),
        LONG.replace("matter 7919", "subject 7919"),
    ],
)
def test_a_planted_document_across_the_split_is_found(copy: str) -> None:
    plain = split_material(material(MANY), config())
    train, test = plain.train[3], plain.test[3]
    key = next(iter(test.relevant))
    texts = {key: LONG, train.positive: copy}
    passages = [passage(each.positive, texts.get(each.positive)) for each in MANY]
    data = split_material(material(MANY, passages), config())
    assert [(near.train, near.held_out) for near in data.near_duplicates] == [(train.source, f"corpus:{key}")]
    assert data.near_duplicates[0].similarity >= 0.8
    assert len(data.train) == len(plain.train) - 1
    assert data.kept_back == plain.kept_back | {train.positive}
    assert data.test == plain.test
    # and with a threshold that it does not reach, it is not
    assert len(split_material(material(MANY, passages), config(near_duplicates=0.999)).near_duplicates) == (
        copy == LONG.upper().replace(",", " -")
    )


def test_a_planted_query_across_the_split_is_found() -> None:
    plain = split_material(material(MANY), config())
    question = "How long does a building permit take in the municipality of Helsingborg?"
    asked = {plain.test[0].query: question, plain.train[0].query: question.replace("?", ", please?")}
    pairs = [replace(each, query=asked.get(each.query, each.query)) for each in MANY]
    data = split_material(material(pairs), config())
    assert [(near.train, near.held_out) for near in data.near_duplicates] == [
        (plain.train[0].source, plain.test[0].source)
    ]
    assert data.near_duplicates[0].text == question.replace("?", ", please?")


def test_held_out_documents_are_no_negatives() -> None:
    plain = split_material(material(MANY), config())
    test_key, train_key = next(iter(plain.test[0].relevant)), plain.train[1].positive
    first = replace(plain.train[0], negatives=(test_key, train_key))
    pairs = [first if each.query == first.query else each for each in MANY]
    data = split_material(material(pairs), config())
    assert data.train[0].negatives == (train_key,)
    assert test_key in data.kept_back
    assert train_key not in data.kept_back


def test_all_passages_of_a_held_out_document_are_kept_back() -> None:
    passages = [passage(f"{each.positive}#{n}", document=each.positive) for each in MANY[:60] for n in range(3)]
    pairs = [replace(each, positive=f"{each.positive}#1") for each in MANY[:60]]
    data = split_material(material(pairs, passages), config(test=0.4, validation=0))
    assert len(data.kept_back) == 3 * len(data.test)


def test_grades_decide_what_is_relevant() -> None:
    pairs = [pair("q", "a", score=5.0), pair("q", "b", score=4.0), pair("q", "c", score=1.0), pair("r", "c", score=0.0)]
    data = split_material(material(pairs), config(test=0.99, validation=0.0))
    assert [(query.query, dict(query.relevant)) for query in data.test] == [("q", {"a": 5.0, "b": 4.0})]


def test_labelled_queries_are_the_test() -> None:
    extra = Passage(key="x", text="A passage without a pair.", document="x")
    cut = [passage(f"book#{n}", document="book") for n in range(2)]
    whole = replace(
        material(MANY, [*(passage(each.positive) for each in MANY), extra, *cut]),
        names={"alias": ("x",), "book": ("book#0", "book#1")},
    )
    queries = [
        HeldOutQuery(query=MANY[0].query.upper(), relevant={MANY[0].positive: 2.0}, source="queries:1"),
        HeldOutQuery(query="by text", relevant={"alias": 1.0, "nowhere": 1.0}),
        HeldOutQuery(query="by document", relevant={"book": 1.0}),
    ]
    data = split_material(whole, config(validation=0.0), queries=queries)
    assert [dict(query.relevant) for query in data.test] == [
        {MANY[0].positive: 2.0},
        {"x": 1.0, "nowhere": 1.0},
        {"book#0": 1.0, "book#1": 1.0},
    ]
    assert [(near.train, near.held_out, near.similarity) for near in data.near_duplicates] == [
        (MANY[0].source, "queries:1", 1.0)
    ]
    assert len(data.train) == 599
    assert data.kept_back == frozenset()  # the user has split
    validation = split_material(whole, config(validation=0.5), queries=queries).validation
    assert query_key(MANY[0].query) not in {query_key(query.query) for query in validation}
    assert 200 < len(validation) < 400


def test_labelled_queries_that_name_nothing() -> None:
    with pytest.raises(
        DataError, match=r"neither 'Doc 1' nor any other \(name passages by their keys, such as 'doc 0'"
    ):
        split_material(material(MANY), config(), queries=[HeldOutQuery(query="q", relevant={"Doc 1": 1.0})])


def test_labelled_queries_may_name_texts() -> None:
    text = "Some text."
    texts = Material(passages=(Passage(key=text_key(text), text=text, document=text_key(text)),), pairs=())
    data = split_material(texts, config(), queries=[HeldOutQuery(query="q", relevant={"Some text. ": 1.0})])
    assert data.test[0].relevant == {text_key(text): 1.0}


def test_made_pairs_are_for_training_where_there_are_written_ones() -> None:
    made = [pair(f"made {n * 104729:x}", f"doc {n}", provenance={"method": "m"}) for n in range(600)]
    plain = split_material(material(MANY), config())
    data = split_material(material(MANY), config(), made=made)
    assert (data.test, data.validation) == (plain.test, plain.validation)
    assert len(data.train) == 2 * len(plain.train)
    alone = split_material(replace(material(MANY), pairs=()), config(), made=made)
    assert all(query.provenance == {"method": "m"} for query in alone.test)
    assert 90 < len(alone.test) < 150


def test_the_fingerprint_is_that_of_the_content() -> None:
    data = split_material(material(MANY), config())
    assert data.fingerprint == split_material(material(MANY), config()).fingerprint
    others = [
        split_material(material(MANY), config(seed=18)),
        split_material(material([*MANY[:-1], replace(MANY[-1], query="other?")]), config()),
        split_material(material(MANY, [passage(each.positive, each.positive * 9) for each in MANY]), config()),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_faults() -> None:
    with pytest.raises(DataConfigError, match="take all documents") as caught:
        split_material(material(MANY), config(validation=0.5, test=0.5))
    assert caught.value.key == "data.split"
    with pytest.raises(DataError, match="pairs:q: the pair names a passage 'nowhere'"):
        split_material(material([pair("q", "nowhere")], [passage("a")]), config())


def test_one_component_is_told(caplog: pytest.LogCaptureFixture) -> None:
    pairs = [pair(f"q{n}", f"d{n}", group="same" if n < 7 else None) for n in range(10)]
    split_material(material(pairs), config())
    assert "7 of 10 pairs hang together" in caplog.text
