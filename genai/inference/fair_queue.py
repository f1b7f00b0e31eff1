"""A queue in which those who wait take turns, however much each has brought."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import zip_longest
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items wait by client: clients take turns, within one client first come, first served.

    A turn is over when an item is taken; passing an item over costs its client nothing.
    """

    def __init__(self) -> None:
        # Ordered dicts, not deques: anything may leave from anywhere at any time, at the same small cost.
        self._clients: OrderedDict[str, OrderedDict[str, Item]] = OrderedDict()
        self._client_of: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._client_of)

    def __contains__(self, key: str) -> bool:
        return key in self._client_of

    def has(self, client: str) -> bool:
        """Whether something of this client waits."""
        return client in self._clients

    def put(self, key: str, client: str, item: Item) -> None:
        """Let an item wait.

        Args:
            key: by which it is taken; not used by another one that waits.
            client: whose it is.
            item: what waits.
        """
        if key in self._client_of:
            raise ValueError(f"{key!r} waits already")
        self._client_of[key] = client
        self._clients.setdefault(client, OrderedDict())[key] = item

    def in_turn(self) -> Iterator[Item]:
        """All that wait, in the order in which they would be taken; items may be taken meanwhile."""
        waiting = [iter(list(items.values())) for items in self._clients.values()]
        missing = object()
        for turns in zip_longest(*waiting, fillvalue=missing):
            yield from (item for item in turns if item is not missing)  # type: ignore[misc]

    def take(self, key: str) -> Item:
        """Its turn has come: the item leaves, and its client goes behind the others."""
        client = self._client_of[key]
        item = self.remove(key)
        if client in self._clients:
            self._clients.move_to_end(client)
        return item

    def remove(self, key: str) -> Item:
        """The item leaves without having had its turn."""
        client = self._client_of.pop(key)
        items = self._clients[client]
        item = items.pop(key)
        if not items:
            del self._clients[client]
        return item
