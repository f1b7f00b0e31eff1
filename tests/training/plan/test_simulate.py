"""The simulated step against a real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from genai.config.training import AdamWConfig, DecoupledLionWConfig
from genai.training.plan.memory import imagine_model
from genai.training.plan.simulate import PHASES, Shape, Trace, simulate_step

pytestmark = pytest.mark.integration

CPU = torch.device("cpu")


def simulate(model: Any, shape: Shape, **changes: Any) -> Trace:
    return simulate_step(
        model, shape, **{"precision": "amp_bf16", "optimizer": AdamWConfig(), "device": CPU, **changes}
    )


def alive(trace: Trace, *, after: str) -> set[int]:
    present: set[int] = set()
    for phase in PHASES[: PHASES.index(after) + 1]:
        for event in trace.events[phase]:
            if event < 0:
                present.remove(~event)
            else:
                present.add(event)
    return present


def total(trace: Trace, kind: str, *, after: str) -> int:
    return sum(trace.sizes[number] for number in alive(trace, after=after) if trace.kinds[number] == kind)


def saved_for_backward(model: Any, shape: Shape) -> int:
    """Bytes that autograd holds on to in a real forward pass, weights left out."""
    from genai.training.forward import CausalLMLoss

    model_loss = CausalLMLoss(model, precision="amp_bf16", device=CPU)
    model.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[torch.Tensor, int]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    ids = torch.randint(3, 500, (shape.microbatch, shape.seq_len))
    positions = torch.arange(shape.seq_len).expand_as(ids)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model_loss.loss({"input_ids": ids, "labels": ids, "position_ids": positions}, 1.0)
    return sum(size for _, size in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("peft", [None, {"r": 4}], ids=["full", "lora"])
def test_a_real_forward_pass_keeps_what_the_simulated_one_keeps(
    peft: dict[str, Any] | None, checkpointing: bool, make_meta: Callable[..., Any], make_config: Callable[..., Any]
) -> None:
    from transformers import AutoModelForCausalLM

    from genai.models.adapters import add_adapter
    from genai.training.activation_checkpointing import checkpoint_activations
    from genai.training.precision import prepare_model

    meta, config, shape = make_meta(), make_config(peft, activation_checkpointing=checkpointing), Shape(2, 192)
    trace = simulate(imagine_model(meta, config), shape)
    model: Any = AutoModelForCausalLM.from_config(meta.config, attn_implementation="sdpa")
    if config.model.peft_config is not None:
        model = add_adapter(model, config.model.peft_config)
    if checkpointing:
        checkpoint_activations(model)
    prepare_model(model, "amp_bf16")
    simulated = sum(trace.sizes[number] for number in alive(trace, after="forward"))
    # Checkpointing holds some tensors (rotary tables, random states) where autograd does not see them.
    assert simulated == pytest.approx(saved_for_backward(model, shape), rel=0.1 if checkpointing else 0.03)


def test_gradients_and_optimizer_state_are_those_of_the_trained_weights(make_meta: Callable[..., Any]) -> None:
    meta = make_meta()
    count = sum(parameter.numel() for parameter in meta.parameters())
    trace = simulate(meta, Shape(1, 64))
    assert trace.weight_bytes >= 4 * count
    assert total(trace, "gradients", after="optimizer step") == 4 * count
    assert total(trace, "optimizer", after="optimizer step") == pytest.approx(8 * count, rel=0.01)
    one_moment = simulate(meta, Shape(1, 64), optimizer=DecoupledLionWConfig())
    assert total(one_moment, "optimizer", after="optimizer step") == 4 * count


def test_nothing_else_outlives_the_step(make_meta: Callable[..., Any]) -> None:
    trace = simulate(make_meta(), Shape(1, 64))
    assert {trace.kinds[n] for n in alive(trace, after="backward")} == {"gradients"}
    assert {trace.kinds[n] for n in alive(trace, after="optimizer step")} <= {"gradients", "optimizer", "temporaries"}
    assert total(trace, "temporaries", after="optimizer step") < 1024


def test_float32_needs_no_copies_of_weights(make_meta: Callable[..., Any]) -> None:
    assert "weight copies" in simulate(make_meta(), Shape(1, 64)).kinds
    assert "weight copies" not in simulate(make_meta(), Shape(1, 64), precision="fp32").kinds


def test_a_tied_embedding_has_one_gradient(make_meta: Callable[..., Any]) -> None:
    """Its two parts, from the head and from the look-up, are added in place."""
    meta = make_meta(tie_word_embeddings=True, vocab_size=50_000, num_hidden_layers=1)
    trace = simulate(meta, Shape(1, 8))
    table = 50_000 * 64 * 4
    assert sum(size == table for size in trace.sizes) <= 2 + 2  # head's and look-up's gradient; two moments


def test_the_model_is_left_as_it_was(make_meta: Callable[..., Any]) -> None:
    meta = make_meta()
    simulate(meta, Shape(1, 64))
    assert all(parameter.device.type == "meta" and parameter.grad is None for parameter in meta.parameters())
    assert meta.config._attn_implementation == "eager"


def test_a_mixture_of_experts_is_simulated(make_meta: Callable[..., Any]) -> None:
    from transformers import MixtralConfig

    trace = simulate(make_meta(MixtralConfig, num_local_experts=4, num_hidden_layers=1), Shape(1, 64))
    assert total(trace, "gradients", after="optimizer step") > 0
