"""Disjoint sets of the numbers 0 to n - 1 that can be joined (union-find)."""

from __future__ import annotations


class DisjointSets:
    """Each number starts alone; a set is named by its smallest number."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def root(self, index: int) -> int:
        """The smallest number of the set that `index` is in."""
        parents = self._parents
        while parents[index] != index:
            # Halving the path keeps it short; the root stays the smallest number, whatever the order of the joins.
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    def join(self, left: int, right: int) -> None:
        """Make one set of the two that hold `left` and `right`."""
        left, right = self.root(left), self.root(right)
        self._parents[max(left, right)] = min(left, right)
