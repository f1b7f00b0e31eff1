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
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(Path(folder), dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        work = {"generate": generate, "generate_batch": generate_batch}[order["do"]]
        print(json.dumps(work(model, order["prompts"], order["num_new"])), flush=True)


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


def generate_batch(model: Any, prompts: list[list[int]], num_new: int) -> dict[str, float]:
    """All at once, by its own continuous batching."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        max_new_tokens=num_new, min_new_tokens=num_new, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    started, cpu = time.perf_counter(), time.process_time()
    results = model.generate_batch(prompts, generation_config=config, record_timestamps=True, progress_bar=False)
    wall_started = started
    assert len(results) == len(prompts)
    assert all(len(result.generated_tokens) == num_new for result in results.values())
    firsts = [result.timestamps[0] - result.created_time for result in results.values()]
    return told(wall_started, cpu, len(prompts) * num_new, firsts)


def told(started: float, cpu: float, num_tokens: int, firsts: list[float]) -> dict[str, float]:
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    return {
        "tokens_per_s": num_tokens / wall_s,
        "tokens_per_cpu_s": num_tokens / cpu_s,
        "ttft_ms": statistics.median(firsts) * 1000,
    }


if __name__ == "__main__":
    main(sys.argv[1])
