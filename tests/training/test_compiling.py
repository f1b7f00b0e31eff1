"""Compilation by block: it happens, it is optional, and it can be repeated bit by bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from genai.training import compiling
from genai.training.compiling import compile_blocks, decoder_blocks, eagerly, has_cpp_compiler

needs_compiler = pytest.mark.skipif(not has_cpp_compiler(), reason="no C++ compiler")

PROGRAM = """
import hashlib, sys, torch
torch.set_num_threads(2)
from transformers import LlamaConfig, LlamaForCausalLM
from genai.config.training import AdamWConfig
from genai.training.compiling import compile_blocks
from genai.training.forward import CausalLMLoss
from genai.training.optimizers import build_optimizer
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=128, hidden_size=256, intermediate_size=512, num_hidden_layers=2,
                                     num_attention_heads=8, num_key_value_heads=4)).train()
model_loss = CausalLMLoss(model, precision='amp_bf16', device='cpu')
eager = sys.argv[1] == 'eager'
if not eager:
    assert compile_blocks(model, device='cpu', deterministic=True)
optimizer = build_optimizer(AdamWConfig(lr=1e-3), model)
for step in range(4):
    ids = torch.randint(0, 128, (2, 128))
    labels = ids.clone()
    labels[:, 0] = -100
    positions = torch.arange(128).repeat(2, 1)
    if step % 2:
        positions[0, 50:] -= 50
        labels[0, 50] = -100
    loss = model_loss.loss({'input_ids': ids, 'labels': labels, 'position_ids': positions}, 250.0)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
print(round(float(loss.detach()), 3))
print(hashlib.sha256(b''.join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
print([name for name, _ in model.named_parameters()][0])
"""


def train(how: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.slow
@needs_compiler
def test_compiled_training_repeats_bit_by_bit_and_agrees_with_eager() -> None:
    first, second, eager = train("compiled"), train("compiled"), train("eager")
    assert first == second
    assert float(first[0]) == pytest.approx(float(eager[0]), abs=0.02)
    assert first[2] == "model.embed_tokens.weight"


@pytest.mark.integration
def test_blocks_are_the_decoders(tiny_model: Any) -> None:
    assert decoder_blocks(tiny_model) == list(tiny_model.model.layers)
    assert decoder_blocks(torch.nn.Linear(1, 1)) == []


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch, log_lines: list[str]) -> None:
    monkeypatch.setattr(compiling, "has_cpp_compiler", lambda: False)
    model = torch.nn.ModuleList([torch.nn.Linear(1, 1)])
    assert compile_blocks(model, device="cpu") is False
    assert log_lines == ["WARNING: compile: no C++ compiler was found (g++ or clang++); going on without compilation"]
    assert model[0]._compiled_call_impl is None


def test_a_compiler_is_looked_for_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert has_cpp_compiler() is False


def test_eagerly_nothing_is_compiled_and_afterwards_it_is() -> None:
    compiled: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled.append(graph)
        return graph.forward

    class Block(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden.square() + 1

    block = Block()
    block.compile(backend=backend)
    with eagerly():
        block(torch.ones(1, 2))
    assert compiled == []
    block(torch.ones(1, 2))
    assert len(compiled) == 1
