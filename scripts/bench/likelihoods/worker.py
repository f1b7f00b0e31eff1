"""One side of a comparison in a process of its own, on one thread: `--worker ours|lm-eval KIND` with its settings, and
scripts/bench in PYTHONPATH.

Loading and a first text are not measured. What is measured begins with texts and ends with likelihoods.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

from turns.clock import cpu_s, peak_rss_mib

from likelihoods.texts import choices, documents, long_texts

MODEL = "gallery:smollm2-135m-instruct"
WARM_UP = ["A gutter needs a slope of three millimetres a metre, or the water stands in it. " * 8] * 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--worker", choices=["ours", "lm-eval"], required=True)
    parser.add_argument("kind", choices=["long", "documents", "choices"])
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--count", type=int, default=4)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    side = Ours(options) if options.worker == "ours" else LmEval(options)
    print(json.dumps(side.run()))


def material(options: argparse.Namespace) -> list[Any]:
    """Texts, or (context, endings)."""
    if options.kind == "long":
        return long_texts(4 * options.length)[: options.count]
    return documents(options.count) if options.kind == "documents" else choices(options.count)


def measured(read: Callable[[list[Any]], list[float]], rows: list[Any], num_tokens: int) -> dict[str, Any]:
    """CPU seconds of reading, and what came out of it."""
    before = cpu_s()
    logprobs = read(rows)
    seconds = cpu_s() - before
    return {
        "tokens_per_cpu_s": num_tokens / seconds,
        "cpu_s": seconds,
        "peak_rss_mib": peak_rss_mib(),
        "num_tokens": num_tokens,
        "logprob": sum(logprobs),
    }


class Ours:
    """`genai eval`'s own target."""

    def __init__(self, options: argparse.Namespace) -> None:
        from genai.config.eval import TargetConfig
        from genai.jobs.eval_models import ModelTarget
        from genai.models.references import resolve_model

        config = TargetConfig(
            model=MODEL, precision=options.precision, batch_size=options.batch, max_model_len=options.length
        )
        self._target = ModelTarget("ours", config, resolve_model(MODEL), num_threads=1)
        self._options = options

    def run(self) -> dict[str, Any]:
        return asyncio.run(self._run())

    async def _run(self) -> dict[str, Any]:
        rows = material(self._options)
        count = self._target.count_tokens
        async with self._target:
            await self._read(WARM_UP)
            before = cpu_s()
            logprobs = await self._read(rows)
            seconds = cpu_s() - before
        tokens = sum(map(count, texts_of(rows)))
        return measured(lambda _: logprobs, rows, tokens) | {"cpu_s": seconds, "tokens_per_cpu_s": tokens / seconds}

    async def _read(self, rows: list[Any]) -> list[float]:
        from genai.evaluation.records import Continuations, Likelihoods, Question, WholeText

        questions: list[Question] = [
            WholeText(text=row)
            if isinstance(row, str)
            else Continuations(pairs=tuple((row[0], ending) for ending in row[1]))
            for row in rows
        ]
        outcomes = await asyncio.gather(*map(self._target.ask, questions))
        found = []
        for outcome in outcomes:
            assert isinstance(outcome, Likelihoods), outcome
            found += [each.logprob for each in outcome.each]
        return found


class LmEval:
    """lm-evaluation-harness, with transformers' own model."""

    def __init__(self, options: argparse.Namespace) -> None:
        from lm_eval.models.huggingface import HFLM

        from genai.models.references import resolve_model

        self._model = HFLM(
            pretrained=str(resolve_model(MODEL).path),
            dtype={"fp32": "float32", "bf16": "bfloat16"}[options.precision],
            device="cpu",
            batch_size=options.batch,
            max_length=options.length,
        )
        self._options = options

    def run(self) -> dict[str, Any]:
        rows = material(self._options)
        self._read(WARM_UP)
        return measured(self._read, rows, sum(len(self._model.tok_encode(text)) for text in texts_of(rows)))

    def _read(self, rows: list[Any]) -> list[float]:
        if isinstance(rows[0], str):
            return [float(each) for each in self._model.loglikelihood_rolling(self._asked([(row,) for row in rows]))]
        pairs = [(context, ending) for context, endings in rows for ending in endings]
        return [logprob for logprob, _ in self._model.loglikelihood(self._asked(pairs))]

    @staticmethod
    def _asked(arguments: list[tuple[str, ...]]) -> list[Any]:
        from lm_eval.api.instance import Instance

        return [Instance(request_type="loglikelihood", doc={}, arguments=each, idx=0) for each in arguments]


def texts_of(rows: list[Any]) -> list[str]:
    """What is read, each choice with its context: tokens are counted as if nothing was shared."""
    return [
        text for row in rows for text in ([row] if isinstance(row, str) else [row[0] + ending for ending in row[1]])
    ]


if __name__ == "__main__":
    main()
