"""Who has which block of the cache of keys and values, and what lies in those that nobody has.

A block is in one of three states:

    held      by one sequence, or by several that begin alike: then it is full and known
    idle      nobody's, but what lies in it is known and can be found again; the one left longest ago goes first
    blank     nobody's, and nothing worth keeping in it

Idle and blank blocks are both free to be taken. Nothing here knows of tensors: a block is a number.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

_KEY_BYTES = 32


def first_parent(salt: int) -> bytes:
    """What stands for the parent of a sequence's first block: other salts, other keys."""
    return salt.to_bytes(_KEY_BYTES, "little")


def block_key(parent: bytes, token_ids: Sequence[int]) -> bytes:
    """By what a full block is known: its tokens and all that came before them.

    256 bits of BLAKE2b: two different beginnings never meet, not even those that somebody looks for on purpose, so keys
    are compared in place of tokens.

    Args:
        parent: key of the block before, or `first_parent`.
        token_ids: of this block.
    """
    return hashlib.blake2b(parent + array("I", token_ids).tobytes(), digest_size=_KEY_BYTES).digest()


class BlockPool:
    """All blocks of a cache. Block 0 is never given to anybody: padding may be written there.

    Args:
        num_blocks: block 0 included.
        block_size: tokens a block.
        prefix_caching: whether blocks can become known at all.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_caching: bool = True) -> None:
        if num_blocks < 2 or block_size < 1:
            raise ValueError(f"{num_blocks} blocks of {block_size} tokens hold nothing: the first block is reserved")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.queries = 0
        """Tokens looked up, cumulated."""
        self.hits = 0
        """Of them found."""
        self._holders = [0] * num_blocks
        self._blank: list[int] = []
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self.forget()

    def forget(self) -> None:
        """All blocks are blank and nobody's: what the cache held is lost. Sequences must drop their blocks too."""
        self._holders = [0] * self.num_blocks
        self._blank = list(range(self.num_blocks - 1, 0, -1))
        self._idle.clear()
        self._key_of.clear()
        self._block_of.clear()

    @property
    def num_usable(self) -> int:
        """Blocks that there are for sequences."""
        return self.num_blocks - 1

    @property
    def num_free(self) -> int:
        """Blocks that can be taken, idle or blank."""
        return len(self._blank) + len(self._idle)

    @property
    def usage(self) -> float:
        """Share of the blocks that sequences hold, 0 to 1."""
        return 1 - self.num_free / self.num_usable

    def num_to_hold(self, num_tokens: int) -> int:
        """How many blocks so many tokens take."""
        return -(-num_tokens // self.block_size)

    def take(self, count: int) -> list[int]:
        """Blocks with nothing known in them, now held once; idle ones are forgotten where blank ones do not suffice.

        Args:
            count: at most `num_free`.
        """
        return [self._take_one() for _ in range(count)]

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """The known blocks of a beginning, as far as they are there; nobody holds them by this.

        Args:
            keys: of the first block, the second, ...
        """
        found = []
        for key in keys:
            block = self._block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def is_known(self, key: bytes) -> bool:
        """Whether a block with this key is there."""
        return key in self._block_of

    def count_idle(self, blocks: Sequence[int]) -> int:
        """How many of these are nobody's: holding them makes so many fewer free."""
        return sum(not self._holders[block] for block in blocks)

    def hold(self, blocks: Sequence[int]) -> None:
        """One more sequence has these known blocks."""
        for block in blocks:
            if not self._holders[block]:
                del self._idle[block]
            self._holders[block] += 1

    def know(self, block: int, key: bytes) -> None:
        """A held block is full and can be found from now on, unless another one of the same content can already."""
        if self.prefix_caching and key not in self._block_of and block not in self._key_of:
            self._block_of[key] = block
            self._key_of[block] = key

    def release(self, blocks: Sequence[int]) -> None:
        """A sequence is done with its blocks. The last ones become idle first, so that beginnings are kept longest."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if block in self._key_of:
                self._idle[block] = None
            else:
                self._blank.append(block)

    def _take_one(self) -> int:
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            del self._block_of[self._key_of.pop(block)]
        self._holders[block] = 1
        return block
