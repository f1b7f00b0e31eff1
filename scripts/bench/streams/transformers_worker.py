"""transformers as a peer: one process that keeps the model and does what it is told, one JSON object a line."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any


def main(folder: str) -> None:
    import torch

    torch.set_num_threads(1)
    model, batching = load(folder), None
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "generate":
            told = generate(model, order["prompts"], order["num_new"])
        else:
            batching = batching or Batching(load(folder))  # it changes the attention of the model it is given
            told = batching.generate(order["prompts"], order["num_new"])
        print(json.dumps(told), flush=True)


def load(folder: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(Path(folder), dtype=torch.bfloat16, attn_implementation="sdpa").eval()


def generate(model: Any, prompts: list[list[int]], num_new: int) -> dict[str, float]:
    """One after the other; TTFT is that of a prompt that waits for nobody."""
    import torch
    from transformers.generation.streamers import BaseStreamer

    class FirstToken(BaseStreamer):
        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: Any) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None:
            pass

    firsts = []
    started, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for ids in prompts:
            streamer, began = FirstToken(), time.perf_counter()
            output = model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=num_new,
                min_new_tokens=num_new,
                do_sample=False,
                pad_token_id=0,
                streamer=streamer,
            )
            assert output.shape[1] == len(ids) + num_new
            firsts.append(streamer.times[1] - began)  # the first call gives the prompt
    return told(started, cpu, len(prompts) * num_new, firsts)


class Batching:
    """What `generate_batch` is made of, kept between measurements: its start is not counted.

    Its cache has room for 64 answers of 256 tokens. By itself it would take nine tenths of the machine's memory, and
    minutes to touch it.
    """

    def __init__(self, model: Any) -> None:
        from transformers import GenerationConfig
        from transformers.generation import ContinuousBatchingConfig

        config = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0, max_new_tokens=64)
        batching = ContinuousBatchingConfig(num_blocks=512, max_batch_tokens=512, page_size=32)
        self._manager = model.init_continuous_batching(config, batching)
        self._manager.start()

    def generate(self, prompts: list[list[int]], num_new: int) -> dict[str, float]:
        """All at once."""
        started, cpu = time.perf_counter(), time.process_time()
        wanted = set(self._manager.add_requests(prompts, max_new_tokens=num_new, record_timestamps=True))
        firsts = []
        while wanted:
            result = self._manager.get_result(timeout=60)
            assert result is not None, "it gave no result within a minute"
            if result.is_finished():
                assert len(result.generated_tokens) == num_new
                wanted.discard(result.request_id)
                firsts.append(result.timestamps[0] - result.created_time)
        return told(started, cpu, len(prompts) * num_new, firsts)


def told(started: float, cpu: float, num_tokens: int, firsts: list[float]) -> dict[str, float]:
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return {
        "tokens_per_s": num_tokens / wall_s,
        "tokens_per_cpu_s": num_tokens / cpu_s,
        "ttft_ms": statistics.median(firsts) * 1000,
    }


if __name__ == "__main__":
    main(sys.argv[1])
