import pytest

from genai.inference.blocks import BlockPool, block_key, first_parent


def keys(*tokens: int, salt: int = 0) -> list[bytes]:
    """Of blocks of one token."""
    chain = [first_parent(salt)]
    for token in tokens:
        chain.append(block_key(chain[-1], [token]))
    return chain[1:]


def test_block_0_is_never_given() -> None:
    pool = BlockPool(5, 16)
    assert sorted(pool.take(4)) == [1, 2, 3, 4]
    assert pool.num_free == 0
    assert pool.usage == 1


def test_a_pool_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="hold nothing"):
        BlockPool(1, 16)
    with pytest.raises(ValueError, match="hold nothing"):
        BlockPool(4, 0)


def test_blocks_come_back() -> None:
    pool = BlockPool(4, 16)
    blocks = pool.take(3)
    assert pool.usage == 1
    pool.release(blocks)
    assert (pool.num_free, pool.usage) == (3, 0)
    assert sorted(pool.take(3)) == [1, 2, 3]


@pytest.mark.parametrize(("tokens", "blocks"), [(0, 0), (1, 1), (15, 1), (16, 1), (17, 2), (160, 10)])
def test_how_many_blocks_tokens_take(tokens: int, blocks: int) -> None:
    assert BlockPool(2, 16).num_to_hold(tokens) == blocks


def test_what_is_known_is_found_as_far_as_it_is_there() -> None:
    pool = BlockPool(4, 1)
    blocks = pool.take(2)
    for block, key in zip(blocks, keys(7, 8), strict=True):
        pool.know(block, key)
    assert pool.find(keys(7, 8, 9)) == blocks
    assert pool.find(keys(7, 9)) == blocks[:1]
    assert pool.find(keys(8)) == []
    assert pool.find(keys(7, 8, salt=1)) == []


def test_a_known_block_can_be_held_by_several() -> None:
    pool = BlockPool(3, 1)
    (block,) = pool.take(1)
    pool.know(block, keys(7)[0])
    assert pool.count_idle([block]) == 0
    pool.hold([block])
    pool.release([block])
    assert pool.num_free == 1
    pool.release([block])
    assert pool.num_free == 2
    assert pool.count_idle([block]) == 1
    pool.hold([block])
    assert pool.num_free == 1


def test_blank_blocks_go_first_then_those_left_longest_ago_and_ends_before_beginnings() -> None:
    pool = BlockPool(6, 1)
    first, second = pool.take(2), pool.take(2)
    for blocks, chain in ((first, keys(1, 2)), (second, keys(3, 4))):
        for block, key in zip(blocks, chain, strict=True):
            pool.know(block, key)
    pool.release(first)
    pool.release(second)
    assert pool.take(1) == [5]
    assert pool.take(3) == [first[1], first[0], second[1]]
    assert pool.find(keys(1)) == []
    assert pool.find(keys(3, 4)) == second[:1]


def test_the_same_content_is_known_once() -> None:
    pool = BlockPool(3, 1)
    one, other = pool.take(2)
    pool.know(one, keys(7)[0])
    pool.know(other, keys(7)[0])
    assert pool.find(keys(7)) == [one]
    pool.release([other])
    assert pool.take(1) == [other]
    assert pool.is_known(keys(7)[0])


def test_without_prefix_caching_nothing_becomes_known() -> None:
    pool = BlockPool(3, 1, prefix_caching=False)
    (block,) = pool.take(1)
    pool.know(block, keys(7)[0])
    assert pool.find(keys(7)) == []


def test_forgetting_makes_everything_blank() -> None:
    pool = BlockPool(4, 1)
    pool.know(pool.take(3)[0], keys(7)[0])
    pool.forget()
    assert pool.find(keys(7)) == []
    assert sorted(pool.take(3)) == [1, 2, 3]


def test_keys_depend_on_salt_parent_tokens_and_their_borders() -> None:
    parent = first_parent(0)
    all_keys = {
        block_key(parent, [1, 2]),
        block_key(parent, [2, 1]),
        block_key(first_parent(1), [1, 2]),
        block_key(block_key(parent, [1, 2]), [1, 2]),
        block_key(parent, [1, 2, 0]),
        block_key(parent, [0x20001]),
    }
    assert len(all_keys) == 6
