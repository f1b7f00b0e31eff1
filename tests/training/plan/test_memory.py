"""Predicted peaks, part by part."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import FinetuneConfig, FinetuningDatasetConfig, FinetuningLoaderConfig, QuantizationConfig
from genai.config.training import DecoupledLionWConfig
from genai.training.plan.memory import MemoryPlan, UnpredictableError, predict

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


@pytest.fixture
def plan(make_meta: Callable[..., Any], make_config: Callable[..., FinetuneConfig]) -> Callable[..., MemoryPlan]:
    """Predicts a job on a small Llama; `meta` replaces the model."""

    def make(
        peft: dict[str, Any] | None = None, *, rows: int = 2, seq: int = 64, meta: Any = None, **job: Any
    ) -> MemoryPlan:
        model = make_meta() if meta is None else meta
        config = make_config(peft, **{"global_train_batch_size": rows, **job})
        return predict(model, config, microbatch_size=rows, seq_len=seq, device=torch.device("cpu"))

    return make


def numel(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_full_training_holds_weights_and_two_moments(
    plan: Callable[..., MemoryPlan], make_meta: Callable[..., Any]
) -> None:
    parts, count = plan().parts, numel(make_meta())
    assert parts["weights"] == pytest.approx(4 * count, rel=0.001)
    assert parts["optimizer"] == pytest.approx(8 * count, rel=0.01)
    assert "frozen weights" not in parts


def test_the_peak_of_a_short_row_lies_at_the_gradients(
    plan: Callable[..., MemoryPlan], make_meta: Callable[..., Any]
) -> None:
    found = plan(rows=1, seq=8)
    assert found.moment in ("backward", "optimizer step")
    assert found.parts["gradients"] == pytest.approx(4 * numel(make_meta()), rel=0.2)


def test_an_adapter_freezes_the_base_in_two_bytes_a_weight(
    plan: Callable[..., MemoryPlan], make_meta: Callable[..., Any]
) -> None:
    parts, count = plan({"r": 4}, rows=8).parts, numel(make_meta())
    assert parts["frozen weights"] == 2 * count
    assert parts["weights"] < 0.5 * count
    assert plan({"r": 4}, rows=8, precision="fp32").parts["frozen weights"] == 4 * count


def test_lion_keeps_one_moment(plan: Callable[..., MemoryPlan]) -> None:
    one, two = plan(optimizer=DecoupledLionWConfig()).parts["optimizer"], plan().parts["optimizer"]
    assert one == pytest.approx(two / 2, rel=0.01)


def test_activations_grow_with_rows_and_less_with_checkpointing(plan: Callable[..., MemoryPlan]) -> None:
    four, eight = (plan(rows=rows).parts["activations"] for rows in (4, 8))
    assert eight == pytest.approx(2 * four, rel=0.02)
    assert plan(rows=8, activation_checkpointing=True).total_bytes < plan(rows=8).total_bytes


def test_later_microbatches_meet_the_gradients_of_the_first(plan: Callable[..., MemoryPlan]) -> None:
    alone, accumulating = plan(rows=8), plan(rows=8, global_train_batch_size=16)
    assert alone.moment == accumulating.moment == "forward"
    assert accumulating.parts["gradients"] > 3 * alone.parts["gradients"]


def test_packed_rows_take_what_plain_rows_of_the_same_length_take(plan: Callable[..., MemoryPlan]) -> None:
    packed = FinetuningLoaderConfig(dataset=FinetuningDatasetConfig(path="x", packing_ratio="auto"))
    assert plan(train_loader=packed).total_bytes == plan().total_bytes


@pytest.mark.parametrize(("dtype", "expected"), [(torch.float32, 4 + 2), (torch.bfloat16, 2 + 4)])
def test_loading_a_frozen_base_is_the_peak_of_a_small_job(
    dtype: torch.dtype, expected: int, plan: Callable[..., MemoryPlan], make_meta: Callable[..., Any]
) -> None:
    """The file stays mapped while its weights are copied: float32 ones to bfloat16, others to float32."""
    meta = make_meta(vocab_size=40_000)
    meta.config.dtype = dtype
    found = plan({"r": 1, "target_modules": ["q_proj"]}, rows=1, seq=8, meta=meta)
    assert found.moment == "loading"
    assert found.parts["model file"] + found.parts["loaded weights"] == expected * numel(meta)
    assert plan({"r": 1}, rows=1, seq=8, meta=meta, model={"pretrained": False}).parts.get("model file") is None


def test_a_quantised_base_takes_its_bits(plan: Callable[..., MemoryPlan]) -> None:
    plain = plan({"r": 4}, rows=8).parts["frozen weights"]
    eight, four = (
        plan({"r": 4}, rows=8, model={"quantization": QuantizationConfig(bits=bits)}).parts["frozen weights"]  # type: ignore[arg-type]
        for bits in (8, 4)
    )
    assert plain > eight > four
    assert (plain - eight) * 3 == (plain - four) * 2


def test_an_adapter_that_is_gone_on_with_has_its_own_rank(plan: Callable[..., MemoryPlan], tmp_path: Path) -> None:
    settings = {"r": 32, "target_modules": ["q_proj"], "peft_type": "LORA", "base_model_name_or_path": "elsewhere"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    continued = plan(rows=8, model={"adapter": str(tmp_path)}).parts["weights"]
    assert continued == plan({"r": 32, "target_modules": ["q_proj"]}, rows=8).parts["weights"]


def test_a_model_that_needs_values_is_said_to_be_unpredictable(
    plan: Callable[..., MemoryPlan], make_meta: Callable[..., Any]
) -> None:
    meta = make_meta()
    norm = type(meta.model.norm)

    class Peeking(norm):  # type: ignore[misc, valid-type]
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden * float(hidden.detach().float().numpy().max())

    meta.model.norm.__class__ = Peeking
    with pytest.raises(UnpredictableError, match=r"the memory of LlamaForCausalLM cannot be predicted: \S"):
        plan(meta=meta)


@pytest.mark.slow
def test_measured_peaks_lie_within_a_quarter_of_the_prediction() -> None:
    script = ROOT / "scripts" / "bench" / "memory_plan.py"
    done = subprocess.run([sys.executable, script, "--quick", "--json"], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert {result["method"] for result in results} == {"full", "lora"}
    for result in results:
        assert result["measured_bytes"] == pytest.approx(result["predicted_bytes"], rel=0.25), result
