"""The loss of an encoder over a whole batch, on one rank or many, in one pass or in pieces with the same gradient.

A loss over a batch cannot be cut like a sum over rows: each row needs the vectors of all others. So the vectors come
first, those of all ranks are brought together without a graph, the loss over the whole batch gives the gradient with
respect to this rank's own vectors, and that gradient goes backward through this rank's own texts. Every rank computes
the same loss, each takes its own rows of the gradient: the sum of the ranks' parameter gradients is that of the whole
batch. (The gradient through other ranks' vectors is theirs to take; averaging would be wrong, and so would be a loss
over own rows alone.)

Where not all rows fit into memory, vectors are first computed without a graph, piece by piece, and once more with one
when their gradient is known; a random state that is put back lets both passes draw the same dropout.

Shapes: B rows of the global batch, K negatives of each, D numbers a vector.

Source:
    Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" (GradCache),
    arXiv:2101.06983.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from genai.embedding.tuning.interfaces import Embedded, Gather, Ids, Objective, PairBatch, TokenTable

if TYPE_CHECKING:
    from genai.embedding.tuning.model import TrainableEncoder

_ROWS_WITHOUT_GRAPH = 128
"""Rows a pass where nothing is kept for a gradient."""


class EncoderLoss:
    """What a batch of pairs costs an encoder; see `genai.training.interfaces.BatchLoss`.

    Args:
        model: from token ids to vectors of length 1.
        tokens: every text of the job.
        objective: the loss over vectors.
        device: where the model lies.
    """

    def __init__(
        self, model: TrainableEncoder, tokens: TokenTable, objective: Objective, *, device: torch.device | str
    ) -> None:
        self.model = model
        self.tokens = tokens
        self.objective = objective
        self.device = torch.device(device)

    def accumulate(self, batch: PairBatch, microbatch_size: int, gather: Gather) -> float:
        """Add the gradient of the batch's loss by way of this rank's rows to the parameters' `.grad`.

        All ranks must call it, also one without rows.

        Args:
            batch: this rank's rows of a global batch.
            microbatch_size: rows a forward pass; with fewer than there are the vectors are computed twice.
            gather: brings the rows of all ranks together.

        Returns:
            This rank's part of the mean loss: its share of the rows. The parts of all ranks add up to the loss.
        """
        layout = _lay_out(batch, self.tokens, microbatch_size)
        if len(layout.pieces) == 1:
            with_graph = self._embed(layout.pieces[0])
            loss, gradient_ND = self._vector_gradient(with_graph.detach(), batch, layout, gather)
            with_graph.backward(gradient_ND)
        else:
            states, parts = [], []
            with torch.no_grad():
                for piece in layout.pieces:
                    states.append(_random_state(self.device))
                    parts.append(self._embed(piece))
            loss, gradient_ND = self._vector_gradient(self._together(parts), batch, layout, gather)
            # The last piece leaves the stream where the first pass had left it.
            for piece, state, part_ND in zip(layout.pieces, states, layout.split(gradient_ND), strict=True):
                _restore(state, self.device)
                self._embed(piece).backward(part_ND)
        return loss * len(batch.pairs) / batch.num_examples

    def measure(self, batch: PairBatch, gather: Gather) -> tuple[float, int]:
        """Sum of the losses of this rank's rows, and how many these are; without a graph, in the model's own mode.

        The loss is one of the whole batch: each row's is taken to be the mean. All ranks must call it.
        """
        layout = _lay_out(batch, self.tokens, _ROWS_WITHOUT_GRAPH)
        with torch.no_grad():
            vectors_ND = self._together([self._embed(piece) for piece in layout.pieces])
            everything, _ = self._bring_together(vectors_ND, batch, layout, gather)
            loss = float(self.objective(everything))
        return loss * len(batch.pairs), len(batch.pairs)

    def _embed(self, piece: Sequence[Ids]) -> torch.Tensor:
        vectors: torch.Tensor = self.model(piece)
        return vectors

    def _together(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The vectors of all pieces, (N, D); of none on a rank without rows."""
        return torch.cat(list(parts)) if parts else torch.zeros(0, self.model.width, device=self.device)

    def _vector_gradient(
        self, vectors_ND: torch.Tensor, batch: PairBatch, layout: _Layout, gather: Gather
    ) -> tuple[float, torch.Tensor]:
        """The loss of the global batch, and its gradient with respect to this rank's own vectors."""
        everything, own = self._bring_together(vectors_ND, batch, layout, gather)
        with torch.enable_grad():
            leaves = [everything.queries.requires_grad_(), everything.documents.requires_grad_()]
            loss = self.objective(everything)
            queries_BD, documents_BKD = torch.autograd.grad(loss, leaves)
        gradient_ND = torch.zeros_like(vectors_ND)
        # A text may stand in several places. Unlike index_add, this sums in a fixed order on a GPU too.
        gradient_ND.index_put_((self._on_device(layout.queries),), queries_BD[own], accumulate=True)
        gradient_ND.index_put_((self._on_device(layout.documents),), documents_BKD[own], accumulate=True)
        return float(loss.detach()), gradient_ND

    def _bring_together(
        self, vectors_ND: torch.Tensor, batch: PairBatch, layout: _Layout, gather: Gather
    ) -> tuple[Embedded, slice]:
        """The global batch without a graph, and which of its rows are this rank's."""
        counts = batch.rows_by_rank
        pairs = gather(self._on_device(batch.pairs), counts)
        everything = Embedded(
            queries=gather(vectors_ND[self._on_device(layout.queries)], counts),
            documents=gather(vectors_ND[self._on_device(layout.documents)], counts),
            pairs=pairs,
            passages=gather(self._on_device(batch.passages), counts),
            labels=None if batch.labels is None else gather(self._on_device(batch.labels), counts),
        )
        return everything, _own_rows(batch, pairs.tolist())

    def _on_device(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The N texts of this rank, each once, in pieces."""

    pieces: tuple[tuple[Ids, ...], ...]
    """Token ids, of queries and passages."""
    queries: NDArray[np.int64]
    """Where each row's query stands among the N, (rows,)."""
    documents: NDArray[np.int64]
    """Where its documents do, (rows, 1 + K)."""

    def split(self, values_ND: torch.Tensor) -> Iterator[torch.Tensor]:
        """What belongs to each piece."""
        yield from values_ND.split([len(piece) for piece in self.pieces])


def _lay_out(batch: PairBatch, tokens: TokenTable, rows_a_piece: int) -> _Layout:
    """A piece holds the queries of its rows, and those of their passages that no piece before it holds."""
    pieces: list[tuple[Ids, ...]] = []
    queries = np.zeros(len(batch.pairs), dtype=np.int64)
    places: dict[int, int] = {}
    count = 0
    for start in range(0, len(batch.pairs), rows_a_piece):
        rows = slice(start, start + rows_a_piece)
        pairs = batch.pairs[rows].tolist()
        queries[rows] = range(count, count + len(pairs))
        count += len(pairs)
        new = [each for each in dict.fromkeys(batch.passages[rows].flatten().tolist()) if each not in places]
        places.update(zip(new, range(count, count + len(new)), strict=True))
        count += len(new)
        pieces.append((*(tokens.queries[pair] for pair in pairs), *(tokens.passages[passage] for passage in new)))
    documents = np.array([places[each] for each in batch.passages.flatten().tolist()], dtype=np.int64)
    return _Layout(pieces=tuple(pieces), queries=queries, documents=documents.reshape(batch.passages.shape))


def _own_rows(batch: PairBatch, pairs: list[int]) -> slice:
    """Which rows of the global batch are this rank's: nobody says which rank this is, but no two hold the same pair.

    Args:
        batch: of this rank.
        pairs: of the global batch.
    """
    own = batch.pairs.tolist()
    starts = accumulate(batch.rows_by_rank, initial=0)
    found = [slice(start, end) for start, end in pairwise(starts) if own and pairs[start:end] == own]
    if own and len(found) != 1:
        raise AssertionError(f"the rows of this rank stand in {len(found)} places of the gathered batch")
    return found[0] if found else slice(0, 0)


def _random_state(device: torch.device) -> torch.Tensor:
    """Of the stream that dropout draws from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore(state: torch.Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
