"""Token streams: the same global batches for any number of ranks, every sample once, and going on exactly."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genai.data.batches import Batch
from genai.data.mds import MDSWriter
from genai.data.token_streams import StreamSpec, TokenStream
from genai.errors import DataError, UsageError

SEQ = 6
ANY_ORDER = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ids_of(batch: Batch) -> list[int]:
    """The samples of a batch, by its tokens."""
    found: list[int] = (batch.input_ids[:, 0] + 60000 * batch.input_ids[:, 1]).tolist()
    assert [(sample,) for sample in found] == list(batch.row_ids)
    return found


def one_epoch(stream: TokenStream) -> list[Batch]:
    batches = [stream.next_batch()]
    while not batches[-1].ends_epoch:
        batches.append(stream.next_batch())
    return batches


def test_a_batch_by_hand(hundred: str, open_stream: Callable[..., TokenStream]) -> None:
    stream = open_stream(hundred, shuffle=False)
    batch = stream.next_batch()
    assert batch.input_ids.tolist() == [[n, 0, 0, 1, 2, 3] for n in range(4)]
    assert batch.labels.tolist() == [[-100, 0, 0, 1, 2, 3]] * 4
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5]] * 4
    assert (batch.num_tokens, batch.num_trained_tokens, batch.num_examples) == (24, 20, 4)
    assert (batch.input_ids.dtype, batch.labels.dtype, batch.position_ids.dtype) == (np.int64,) * 3
    assert batch.row_ids == ((0,), (1,), (2,), (3,))
    assert (stream.epoch, stream.batch_in_epoch, stream.batches_in_epoch(0), stream.num_samples) == (0, 1, 25, 103)


def test_every_sample_once_an_epoch_and_another_order_in_the_next(
    hundred: str, open_stream: Callable[..., TokenStream]
) -> None:
    stream = open_stream(hundred, drop_last=False)
    epochs = [[sample for batch in one_epoch(stream) for sample in ids_of(batch)] for _ in range(3)]
    assert all(sorted(epoch) == list(range(103)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert (stream.epoch, stream.batch_in_epoch) == (3, 0)


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("block_size", [1, 40, 1 << 18])
def test_the_same_global_batches_for_any_number_of_ranks(
    hundred: str, open_stream: Callable[..., TokenStream], drop_last: bool, block_size: int
) -> None:
    def batches(world_size: int) -> list[tuple[list[int], int, int, bool]]:
        same = {"drop_last": drop_last, "shuffle_block_size": block_size, "world_size": world_size}
        ranks = [one_epoch(open_stream(hundred, rank=rank, **same)) for rank in range(world_size)]
        return [
            (
                [sample for batch in parts for sample in ids_of(batch)],
                parts[0].num_tokens,
                parts[-1].num_trained_tokens,
                parts[0].ends_epoch,
            )
            for parts in zip(*ranks, strict=True)
        ]

    one = batches(1)
    assert batches(2) == one
    assert batches(4) == one
    assert len(one) == (25 if drop_last else 26)


@ANY_ORDER
@given(data=st.data())
def test_going_on_anywhere_with_any_number_of_ranks(
    hundred: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    batch_size = data.draw(st.sampled_from([4, 8, 12]))
    changes = {
        "seq_len": SEQ,
        "global_batch_size": batch_size,
        "seed": data.draw(st.integers(0, 2**64)),
        "shuffle_block_size": data.draw(st.sampled_from([1, 16, 64, 1000])),
        "drop_last": data.draw(st.booleans()),
        "epoch_size": data.draw(st.none() | st.integers(1, 300)),
        "cache_dir": tmp_path_factory.getbasetemp() / "unused",
    }
    specs = [StreamSpec(name="a", remote=hundred)]
    whole = TokenStream(specs, **changes)  # type: ignore[arg-type]
    seen = data.draw(st.integers(0, 3 * whole.batches_in_epoch(0)))
    for _ in range(seen):
        whole.next_batch()
    state = json.loads(json.dumps(whole.state_dict()))
    expected = [ids_of(whole.next_batch()) for _ in range(5)]
    world_size = data.draw(st.sampled_from([1, 2, 4]))
    ranks = [TokenStream(specs, rank=rank, world_size=world_size, **changes) for rank in range(world_size)]  # type: ignore[arg-type]
    for stream in ranks:
        stream.load_state_dict(state)
    found = [[sample for stream in ranks for sample in ids_of(stream.next_batch())] for _ in range(5)]
    assert found == expected
    assert ranks[0].state_dict() == whole.state_dict()
    for stream in (whole, *ranks):
        stream.close()


def test_going_back_in_the_same_stream(hundred: str, open_stream: Callable[..., TokenStream]) -> None:
    stream = open_stream(hundred)
    start = stream.state_dict()
    first = [ids_of(stream.next_batch()) for _ in range(40)]
    stream.load_state_dict(start)
    assert [ids_of(stream.next_batch()) for _ in range(40)] == first


def test_other_data_or_settings_are_refused(
    hundred: str, tokens: Callable[..., str], open_stream: Callable[..., TokenStream]
) -> None:
    state = open_stream(hundred).state_dict()
    for changes in ({"seed": 8}, {"global_batch_size": 8}, {"shuffle_block_size": 41}, {"epoch_size": 50}):
        with pytest.raises(UsageError, match="is not what the checkpoint was made with"):
            open_stream(hundred, **changes).load_state_dict(state)
    with pytest.raises(UsageError, match="data, samples changed"):
        open_stream(tokens(range(90), a_shard=10)).load_state_dict(state)
    open_stream(hundred, rank=1, world_size=2, predownload_shards=0, concurrency=1).load_state_dict(state)


def test_the_fingerprint_is_of_the_content(
    hundred: str, tmp_path: Path, tokens: Callable[..., str], open_stream: Callable[..., TokenStream]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(hundred).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert open_stream(str(copy)).fingerprint == open_stream(hundred).fingerprint
    assert open_stream(tokens(range(103), a_shard=9)).fingerprint != open_stream(hundred).fingerprint


def test_streams_are_mixed_in_proportion(tokens: Callable[..., str], open_stream: Callable[..., TokenStream]) -> None:
    large, small = tokens(range(300), a_shard=20), tokens(range(1000, 1050), a_shard=10)
    specs = [
        StreamSpec(name="large", remote=large, proportion=0.75),
        StreamSpec(name="small", local=small, proportion=0.25),
    ]
    stream = open_stream(specs, epoch_size=400, seed=1)
    batches = one_epoch(stream)
    # tokens, not row_ids: those are numbered through all streams
    seen = [int(token) for batch in batches for token in batch.input_ids[:, 0]]
    assert len(seen) == 400
    assert sum(token >= 1000 for token in seen) == 100
    counts = np.bincount([token - 1000 for token in seen if token >= 1000])
    assert (counts.min(), counts.max()) == (2, 2)
    assert len({token for token in seen if token < 1000}) == 300
    halves = [sum(token >= 1000 for token in half) for half in (seen[:200], seen[200:])]
    assert min(halves) >= 30


@pytest.mark.parametrize("encoding", ["ndarray:uint16", "ndarray"])
def test_other_encodings(encoding: str, tokens: Callable[..., str], open_stream: Callable[..., TokenStream]) -> None:
    stream = open_stream(tokens(range(50), a_shard=7, encoding=encoding), drop_last=False)
    assert sorted(sample for batch in one_epoch(stream) for sample in ids_of(batch)) == list(range(50))


def test_shards_without_samples_are_passed_over(tmp_path: Path, open_stream: Callable[..., TokenStream]) -> None:
    from genai.data.mds import read_index, write_index

    out = str(tmp_path / "set")
    with MDSWriter(out, {"tokens": f"ndarray:uint16:{SEQ}"}) as writer:
        writer.write_rows("tokens", np.array([[n, 0, 0, 1, 2, 3] for n in range(8)], dtype=np.uint16))
    (full,) = read_index(out)
    empty = {**full.to_json(), "samples": 0, "raw_data": {"basename": "empty.mds", "bytes": 9, "hashes": {}}}
    write_index(out, [type(full).from_json(empty, "x"), full])
    assert sorted(sample for batch in one_epoch(open_stream(out)) for sample in ids_of(batch)) == list(range(8))


def test_longer_rows_are_cut_and_shorter_ones_refused(
    hundred: str,
    tokens: Callable[..., str],
    open_stream: Callable[..., TokenStream],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "genai"):
        batch = open_stream(hundred, seq_len=4, shuffle=False).next_batch()
    assert batch.input_ids.tolist()[1] == [1, 0, 0, 1]
    assert "only the first 4 of 6 tokens" in caplog.text
    with pytest.raises(UsageError, match="its rows have 6 tokens, max_seq_len is 8"):
        open_stream(hundred, seq_len=8)
    varied = open_stream(tokens(range(9), a_shard=9, encoding="ndarray:uint16"), seq_len=8)
    with pytest.raises(UsageError, match="its rows have 6 tokens"):
        varied.next_batch()


def test_an_epoch_smaller_than_a_batch(
    tokens: Callable[..., str], open_stream: Callable[..., TokenStream], caplog: pytest.LogCaptureFixture
) -> None:
    url = tokens(range(3), a_shard=3)
    stream = open_stream(url)
    assert "drop_last is ignored" in caplog.text
    assert [sorted(ids_of(stream.next_batch())) for _ in range(2)] == [[0, 1, 2]] * 2
    shares = [len(open_stream(url, rank=rank, world_size=4).next_batch().input_ids) for rank in range(4)]
    assert sum(shares) == 3


@pytest.mark.parametrize("changes", [{"world_size": 3}, {"rank": 1}, {"concurrency": 0}, {"shuffle_algo": "naive"}])
def test_settings_that_cannot_be_used(
    hundred: str, open_stream: Callable[..., TokenStream], changes: dict[str, int]
) -> None:
    with pytest.raises(UsageError):
        open_stream(hundred, **changes)


def test_a_damaged_shard_ends_in_one_line_where_it_is_reached(
    tokens: Callable[..., str], open_stream: Callable[..., TokenStream]
) -> None:
    url = tokens(range(40), a_shard=10, hashes=["sha1"])
    last = max(Path(url).glob("*.mds"))
    data = last.read_bytes()
    last.write_bytes(data[:-10])
    stream = open_stream(url, shuffle=False, predownload_shards=0)
    stream.next_batch()
    with pytest.raises(DataError, match=f"{last.name}: it holds only .* index.json says"):
        one_epoch(stream)
    last.write_bytes(data[:-1] + b"\xff")
    assert len(one_epoch(open_stream(url))) == 10
    with pytest.raises(DataError, match=f"{last.name}: it is damaged"):
        one_epoch(open_stream(url, validate_hash="sha1"))
    last.unlink()
    with pytest.raises(DataError, match=last.name):
        one_epoch(open_stream(url))


def test_a_closed_stream_has_no_threads_left(hundred: str, open_stream: Callable[..., TokenStream]) -> None:
    import threading

    before = threading.active_count()
    stream = open_stream(hundred)
    assert threading.active_count() == before  # reading begins with the first batch
    stream.next_batch()
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before
