"""Hard negatives of a run: mined before the first step, and again with the model as it is by then.

What was mined lies in the run's `negatives/`, under the number of steps that the model had; a checkpoint names it, so
that a run which goes on reads what it was trained with. Rank 0 mines, all ranks read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from genai.config.durations import Duration
from genai.config.embed_finetune import EmbedFinetuneConfig, HardNegativesConfig
from genai.data.retrieval.records import RetrievalData
from genai.embedding.opening import open_reranker
from genai.embedding.tuning.interfaces import TextEmbedder
from genai.embedding.tuning.negatives import Mined, mine, read_negatives, write_negatives
from genai.embedding.tuning.stream import PairIndex, PairStream
from genai.jobs.embed_finetune_result import MinedNegatives
from genai.jobs.passage_neighbours import passage_neighbours
from genai.log import get_logger
from genai.tracking.run import RunDirectory
from genai.training.callbacks.base import Callback, StepInfo
from genai.training.parallel.ranks import Ranks
from genai.training.state import TrainState, is_due

if TYPE_CHECKING:
    from genai.embedding.tuning.interfaces import PairScorer

_FOLDER = "negatives"
_log = get_logger(__name__)


class Miner:
    """Mines for the training pairs of a run, and gives what was found to their stream.

    Args:
        config: the job.
        data: whose pairs and passages.
        index: of the same.
        stream: takes the negatives.
        directory: of the run.
        ranks: who trains.
    """

    def __init__(
        self,
        config: EmbedFinetuneConfig,
        data: RetrievalData,
        index: PairIndex,
        stream: PairStream,
        directory: RunDirectory,
        ranks: Ranks,
    ) -> None:
        assert config.hard_negatives is not None
        self._config: HardNegativesConfig = config.hard_negatives
        self._job = config
        self._data = data
        self._index = index
        self._stream = stream
        self._folder = directory.path / _FOLDER
        self._ranks = ranks
        self._scorer: PairScorer | None = None
        self.last: Mined | None = None
        """What the stream has now."""
        self.times = 0

    def mine(self, embedder: Callable[[], TextEmbedder], *, batch: int) -> None:
        """Mine with a model, and train on what is found from here on. All ranks must call it.

        Args:
            embedder: opens the model; called on rank 0.
            batch: steps that it was trained for.
        """
        name = f"ba{batch:08d}"
        self._ranks.share(lambda: self._mine(embedder(), name))
        self.take(name)

    def take(self, name: str) -> None:
        """Train on what was mined under that name from here on.

        Raises:
            DataError: it is not there any more, or damaged.
        """
        self.last = read_negatives(self._folder, name)
        self.times += 1
        self._stream.set_negatives(self.last.negatives, name)

    def summary(self) -> MinedNegatives | None:
        """What the last mining found."""
        if self.last is None:
            return None
        return MinedNegatives(
            num_negatives=self._config.num_negatives,
            mean_score=self.last.mean_score,
            mean_positive_score=self.last.mean_positive_score,
            share_excluded=self.last.share_excluded,
            share_missing=self.last.share_missing,
            times=self.times,
        )

    def _mine(self, embedder: TextEmbedder, name: str) -> str:
        queries = [pair.query for pair in self._data.train]
        passages = [passage.text for passage in self._data.passages]
        mined = mine(
            np.asarray(embedder.embed_queries(queries)),
            np.asarray(embedder.embed_documents(passages)),
            self._index.answers,
            self._config,
            neighbours_of=passage_neighbours(),
            seed=self._job.seed,
            allowed=self._index.may_be_negative,
            scorer=self._open_scorer(),
            queries=queries,
            passages=passages,
        )
        write_negatives(self._folder, name, mined)
        _log.info(
            "hard negatives of %s: score %.3f beside %.3f of the positives; %.0f %% of the candidates left out as "
            "probable answers, %.0f %% of the places filled at random",
            name,
            mined.mean_score,
            mined.mean_positive_score,
            100 * mined.share_excluded,
            100 * mined.share_missing,
        )
        return name

    def _open_scorer(self) -> PairScorer | None:
        reranker = self._config.reranker
        if reranker is None:
            return None
        if self._scorer is None:
            self._scorer = open_reranker(reranker, runs_dir=self._job.runs_dir, num_threads=self._job.num_threads)
        return self._scorer


class Remine(Callback):
    """Mines again, every so often.

    Args:
        miner: of the run.
        embedder: the model in training.
        interval: how often.
        total_batches: steps of the whole run; behind the last one nothing is mined.
    """

    def __init__(self, miner: Miner, embedder: TextEmbedder, *, interval: str, total_batches: int) -> None:
        self._miner = miner
        self._embedder = embedder
        self._interval = Duration.parse(interval)
        self._total_batches = total_batches
        self._before = TrainState()

    def step_end(self, info: StepInfo) -> Mapping[str, float]:
        """Mine where it is due, but not behind the last step."""
        after = TrainState(batch=info.batch, epoch=info.epoch, tokens=info.tokens, samples=info.samples)
        due = is_due(self._interval, self._before, after, total_batches=self._total_batches)
        self._before = after
        if not due or info.batch >= self._total_batches:
            return {}
        self._miner.mine(lambda: self._embedder, batch=info.batch)
        last = self._miner.last
        assert last is not None
        return {"negatives/mean_score": last.mean_score, "negatives/mean_positive_score": last.mean_positive_score}

    def state_dict(self) -> dict[str, Any]:
        """Where the last step stood."""
        return {"before": self._before.to_json(), "times": self._miner.times}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from there."""
        self._before = TrainState.from_json(state["before"])
        self._miner.times = state["times"]
