from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest
from engine_points import SPEC, make_points, nearest, query_vector
from toy_index import DIMENSION, ToyIndex, WordEncoder, document, make_config

from genai.config.embedding import EmbeddingConfig
from genai.config.index import QdrantConfig
from genai.errors import CredentialsError, DataError, GenaiError, MissingExtraError
from genai.index.engines import open_engine, qdrant, qdrant_server
from genai.index.engines.qdrant_filters import payload_key
from genai.index.engines.qdrant_server import Server
from genai.index.filters import All, Compare
from genai.index.interfaces import Engine, VectorQuery
from genai.index.swap import rollback, swap

pytestmark = pytest.mark.integration

StartProcess = Callable[..., AbstractContextManager[str]]
REST = Path(__file__).parents[2] / "plugins" / "qdrant_rest.py"


def start_rest(start_process: StartProcess, *key: str) -> AbstractContextManager[str]:
    return start_process(lambda port, folder: [sys.executable, str(REST), str(port), *key])


@pytest.fixture(scope="module")
def url(start_process: StartProcess) -> Iterator[str]:
    with start_rest(start_process) as url:
        yield url


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_server, "_PAUSES_S", (0.01, 0.01))


def make_engine(url: str, *, index: str = "faq", api_key: str | None = None) -> Engine:
    return open_engine(QdrantConfig(url=url, api_key=api_key), Path("unused"), index=index)


def collections(url: str) -> list[str]:
    return sorted(found.name for found in Server(QdrantConfig(url=url)).ask("get_collections").collections)


def publish(engine: Engine, numbers: range, token: str | None = None) -> str:
    writer = engine.writer(SPEC, token)
    writer.upsert(make_points(numbers))
    token = writer.publish()
    writer.close()
    return token


def test_everything_goes_over_http(url: str) -> None:
    engine, points = make_engine(url), make_points(range(300))
    writer = engine.writer(SPEC, None)
    writer.upsert(points)
    writer.delete([points[0].id, points[1].id])
    assert sorted(writer.ids()) == sorted(point.id for point in points[2:])
    reader = engine.reader(SPEC, writer.publish())
    passing = Compare(column="year", operator=">=", value=2020)
    hits = reader.search(
        [
            VectorQuery(vector=query_vector(1), limit=7, filter=passing),
            VectorQuery(vector=points[5].sparse, limit=1),
        ]
    )
    assert [hit.id for hit in hits[0]] == nearest(points[2:], query_vector(1), 7, passing)
    assert hits[1][0].id == points[5].id
    assert 0 < reader.count(passing) < reader.count() == 298
    engine.sweep({})
    with pytest.raises(DataError, match=r"doesn't exist.*genai index rebuild"):
        reader.search([VectorQuery(vector=query_vector(1), limit=7)])


def test_sweeping_leaves_other_indexes_alone(url: str) -> None:
    one, two, other = (make_engine(url, index=name) for name in ("a", "a", "a~b".replace("~", "_")))
    first, second, third = publish(one, range(3)), publish(two, range(3)), publish(other, range(3))
    one.sweep({"g1": second})
    left = [token.partition("/")[0] for token in (second, third)]
    assert [name for name in collections(url) if name.startswith("genai~a")] == sorted(left)
    with pytest.raises(DataError, match="there is no collection genai~a~g1~"):
        one.reader(SPEC, first)
    one.sweep({"g1": None})
    other.sweep({})
    assert not collections(url)


def test_the_index_over_the_payload_follows_the_columns(url: str) -> None:
    engine = make_engine(url, index="columns")
    token = publish(engine, range(3))
    narrow = replace(SPEC, columns={"year": "keyword", "new": "float"}, has_tenants=True)
    engine.writer(narrow, token).close()
    schema = Server(QdrantConfig(url=url)).ask("get_collection", token.partition("/")[0]).payload_schema
    kinds = {key: info.data_type.value for key, info in schema.items()}
    assert kinds["year"] == kinds["_tenant"] == "keyword"
    assert kinds["new"] == "float"
    assert kinds[payload_key("Größe in m²")] == "float"
    engine.sweep({})


def test_a_tenant_has_shards_of_its_own(url: str) -> None:
    config = QdrantConfig(url=url, tenant_shards=True)
    engine = open_engine(config, Path("unused"), index="sharded")
    spec = replace(SPEC, has_tenants=True)
    writer = engine.writer(spec, None)
    writer.upsert([*make_points(range(6), _tenant="a"), *make_points(range(6, 9), _tenant="b")])
    token = writer.publish()
    server, collection = Server(config), token.partition("/")[0]
    assert {found.key for found in server.ask("list_shard_keys", collection).shard_keys} == {"a", "b"}

    def asked(tenant: str) -> list[str]:
        mine = Compare(column="_tenant", operator="=", value=tenant)
        filter = All(filters=(mine,))
        reader = engine.reader(spec, token)
        return [hit.id for hit in reader.search([VectorQuery(vector=query_vector(0), limit=20, filter=filter)])[0]]

    assert (len(asked("a")), len(asked("b")), asked("nobody")) == (6, 3, [])
    moved = make_points(range(4, 6), _tenant="b")
    writer.upsert(moved)
    assert (len(asked("a")), len(asked("b"))) == (4, 5)
    assert {point.id for point in moved} <= set(asked("b"))
    writer.delete([moved[0].id])
    assert len(asked("b")) == 4
    engine.sweep({})


def test_the_alias_moves_to_the_live_collection(url: str) -> None:
    engine = make_engine(url, index="swapped")
    server = Server(QdrantConfig(url=url))
    assert isinstance(engine, qdrant.QdrantEngine)
    for _ in range(2):
        token = publish(engine, range(3))
        engine.make_live(SPEC, token)
        aliases = [(a.alias_name, a.collection_name) for a in server.ask("get_aliases").aliases]
        assert aliases == [("genai_swapped", token.partition("/")[0])]
    engine.sweep({})


def test_the_key_is_sent_and_its_lack_named(start_process: StartProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDRANT_KEY", "right")
    monkeypatch.setenv("WRONG_KEY", "wrong")
    with start_rest(start_process, "right") as url:
        publish(make_engine(url, api_key="env:QDRANT_KEY"), range(3))
        with pytest.raises(CredentialsError, match=r"wants a key \(set engine.api_key to env:NAME"):
            publish(make_engine(url), range(3))
        with pytest.raises(CredentialsError, match="refuses the key"):
            publish(make_engine(url, api_key="env:WRONG_KEY"), range(3))
        with pytest.raises(CredentialsError, match="NOT_SET is not set"):
            publish(make_engine(url, api_key="env:NOT_SET"), range(3))
    with pytest.raises(GenaiError, match=rf"{url}: the Qdrant server cannot be reached: .*\(see whether it runs"):
        publish(make_engine(url), range(3))


def test_what_a_server_refuses_is_shown(url: str) -> None:
    engine = make_engine(url)
    writer = engine.writer(SPEC, publish(engine, range(1)))
    with pytest.raises(GenaiError, match="the Qdrant server answers 400: "):
        writer.upsert(make_points(range(1), dimension=7))
    engine.sweep({})


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_of_local_mode_is_kept_and_has_one_owner(tmp_path: Path) -> None:
    path = str(tmp_path / "local")
    engine = make_engine(path)
    token = publish(engine, range(20))
    with pytest.raises(GenaiError, match="another process has this folder"):
        make_engine(path).reader(SPEC, token)
    assert isinstance(engine, qdrant.QdrantEngine)
    engine._server.ask("close")
    again = make_engine(path).reader(SPEC, token)
    assert again.count() == 20


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"engine qdrant needs the package 'qdrant_client'.*\[qdrant\]"):
        make_engine(":memory:")


def test_the_alias_leads_to_what_answers(url: str, tmp_path: Path) -> None:
    toy = ToyIndex(make_config(tmp_path, engine=QdrantConfig(url=url)))

    def dimension() -> int:
        found = {
            each.alias_name: each.collection_name for each in Server(QdrantConfig(url=url)).ask("get_aliases").aliases
        }
        (params,) = (
            Server(QdrantConfig(url=url)).ask("get_collection", found["genai_toy"]).config.params.vectors.values()
        )
        return int(params.size)

    toy.put(document("a", "one two"), document("b", "three four"))
    assert dimension() == DIMENSION
    other = EmbeddingConfig(model="words", dimension=DIMENSION // 2)
    toy.encoders.clear()
    opened = {each: WordEncoder(each) for each in (toy.config.embedding, other)}
    swap(toy.ledger, toy.engine(), toy.config, other, encoder_of=opened.__getitem__, queries=None, wait_s=10.0)
    assert dimension() == DIMENSION // 2
    rollback(toy.ledger, toy.engine(), toy.config, encoder_of=opened.__getitem__)
    assert dimension() == DIMENSION
    toy.close()
