"""Adapters made by peft, beside one another on one model, against peft's own forward pass."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from step_reading import answering, greedy, make_step, next_part

from genai.errors import DataError, GenaiError, UsageError
from genai.inference.adapter_files import LoraLayer
from genai.inference.adapters import AdapterBank, LoadedAdapter, load_adapter
from genai.inference.probing import prove_effect
from genai.inference.runners.transformers import TransformersRunner, survey
from genai.models.references import ResolvedModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out is set to:UserWarning"),
]
VOCABULARY = 97
PROMPTS = [[5, 9, 13, 2, 44, 90, 7], [1, 2, 3], [60, 3, 3, 8, 21, 22, 23, 24, 25], [11, 12], [4, 5, 6, 7, 8]]


def tiny_model(family: str = "llama") -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    if family == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3)
        ).eval()
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def base(tmp_path: Path) -> ResolvedModel:
    tiny_model().save_pretrained(tmp_path / "base")
    return ResolvedModel(reference="folder/base", kind="folder", path=tmp_path / "base")


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """`save(name, r=4, ...)`: an adapter of peft with random matrices, as peft saves it."""

    def made(name: str, *, model: Any = None, seed: int = 1, size: float = 0.3, **values: Any) -> Path:
        from peft import LoraConfig, get_peft_model

        arguments = {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 8} | values
        adapted = get_peft_model(model or tiny_model(), LoraConfig(**arguments))
        torch.manual_seed(seed)
        for key, parameter in adapted.named_parameters():
            if "lora_" in key:
                torch.nn.init.normal_(parameter, std=size)
        adapted.save_pretrained(tmp_path / name, safe_serialization=True)
        return tmp_path / name

    return made


def opened(model: Any, *, max_rank: int = 16) -> tuple[TransformersRunner, AdapterBank]:
    found = survey(model, name="tiny")
    bank = AdapterBank(found.linear_shapes, max_adapters=4, max_rank=max_rank, dtype=torch.float32)
    return TransformersRunner(model, found, max_positions=128, adapters=bank), bank


def loaded(path: Path, base: ResolvedModel, bank: AdapterBank) -> LoadedAdapter:
    return load_adapter(path, base=base, modules=bank.modules, max_rank=bank.max_rank)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all_linear": {"target_modules": "all-linear", "r": 8, "lora_alpha": 4},
    "rank_stabilised": {"use_rslora": True, "r": 3, "target_modules": ["o_proj", "down_proj", "up_proj"]},
    "patterns": {
        "target_modules": ["q_proj", "k_proj", "gate_proj"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 7, "gate_proj": 2},
        "alpha_pattern": {"k_proj": 3, "layers.0.mlp.gate_proj": 5},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_peft(kind: str, save: Save, base: ResolvedModel) -> None:
    from peft import PeftModel

    path = save(kind, **KINDS[kind])
    expected_PV = PeftModel.from_pretrained(tiny_model(), path)(torch.tensor([PROMPTS[2]])).logits[0]
    runner, bank = opened(tiny_model())
    bank.add(1, loaded(path, base, bank))
    runner.allocate(8, 4)
    sequence = answering(PROMPTS[2], [3, 6, 1], slot=1)
    logits_PV = runner.forward(make_step([all_logits(sequence)], 4))
    torch.testing.assert_close(logits_PV, expected_PV, atol=1e-4, rtol=1e-4)


def all_logits(sequence: Any) -> Any:
    import dataclasses

    return dataclasses.replace(next_part(sequence, 64, 4), wants_all_logits=True)


def test_a_mix_of_adapters_is_what_peft_makes_of_each_row(save: Save, base: ResolvedModel) -> None:
    from peft import PeftModel

    paths = {kind: save(kind, seed=at, **values) for at, (kind, values) in enumerate(KINDS.items(), start=1)}
    names = ["plain", "__base__", "all_linear", "patterns", "plain"]
    adapted: Any = PeftModel.from_pretrained(tiny_model(), paths["plain"], adapter_name="plain")
    for kind in ("all_linear", "patterns", "rank_stabilised"):
        adapted.load_adapter(paths[kind], adapter_name=kind)
    theirs = {}
    for at, (prompt, name) in enumerate(zip(PROMPTS, names, strict=True)):
        # Two rows of one text, so that peft's own mixed path is the reference.
        with torch.inference_mode():
            both = adapted(torch.tensor([prompt, prompt]), adapter_names=[name, "rank_stabilised"]).logits
        theirs[at] = both[0, -1]

    runner, bank = opened(tiny_model())
    slots = {kind: slot for slot, kind in enumerate(KINDS, start=1)}
    for kind, slot in slots.items():
        bank.add(slot, loaded(paths[kind], base, bank))
    first: dict[int, torch.Tensor] = {}
    tokens = greedy(
        runner,
        PROMPTS,
        6,
        slots=[slots.get(name, 0) for name in names],
        on_logits=lambda part, logits_V: first.setdefault(int(part.sequence.id), logits_V),
    )
    for at, expected_V in theirs.items():
        torch.testing.assert_close(first[at], expected_V, atol=1e-4, rtol=1e-4)
    for prompt, name, ours in zip(PROMPTS, names, tokens, strict=True):
        assert ours == greedily(adapted, name, prompt, 6)


def greedily(adapted: Any, name: str, prompt: list[int], num_new: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(num_new):
        with torch.inference_mode():
            logits = adapted(torch.tensor([tokens, tokens]), adapter_names=[name, "plain"]).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("num_adapters", [2, 5])
def test_bfloat16_rows_are_near_those_in_float32(num_adapters: int) -> None:
    torch.manual_seed(0)
    shapes = {"a": (24, 40), "b": (40, 24), "c": (24, 24)}
    adapters = [random_adapter(shapes, rank) for rank in range(3, 3 + num_adapters)]
    # What goes on: two rows of the first adapter, one of each other, one of none; then a chunk of the last.
    slots = [0, 1, 1, *range(2, num_adapters + 1)]
    sequences = [answering([1], [1], slot=slot) for slot in slots] + [answering([1] * 20, [1] * 5, slot=num_adapters)]
    step = make_step([next_part(sequence, 64, 4) for sequence in sequences], 4)
    for name, (inputs, outputs) in shapes.items():
        x_TI, y_TO = torch.randn(step.num_tokens, inputs), torch.randn(step.num_tokens, outputs)
        expected_TO = y_TO.clone()
        rows = [part.sequence.adapter_slot for part in step.parts for _ in part.token_ids]
        for at, slot in enumerate(rows):
            if slot and name in adapters[slot - 1].layers:
                lora = adapters[slot - 1].layers[name]
                expected_TO[at] += lora.scale * (lora.b_OR @ (lora.a_RI @ x_TI[at]))
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
            bank = AdapterBank(shapes, max_adapters=9, max_rank=16, dtype=dtype)
            for slot, adapter in enumerate(adapters, start=1):
                bank.add(slot, adapter)
            bank.begin(step)
            ours_TO = y_TO.to(dtype, copy=True)
            bank.apply(name, x_TI.to(dtype), ours_TO)
            error = (ours_TO.float() - expected_TO).norm(dim=1) / expected_TO.norm(dim=1)
            assert error.max() < tolerance


def random_adapter(shapes: dict[str, tuple[int, int]], rank: int) -> LoadedAdapter:
    layers = {
        name: LoraLayer(a_RI=torch.randn(rank, inputs), b_OR=torch.randn(outputs, rank), scale=0.7)
        for name, (inputs, outputs) in shapes.items()
        if not (name == "c" and rank == 4)
    }
    return LoadedAdapter(path=Path("nowhere"), layers=layers, rank=rank)


def test_conv1d_layers_of_gpt2(save: Save, tmp_path: Path) -> None:
    from peft import PeftModel

    tiny_model("gpt2").save_pretrained(tmp_path / "gpt2")
    base = ResolvedModel(reference="gpt2", kind="folder", path=tmp_path / "gpt2")
    path = save("a", model=tiny_model("gpt2"), target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    expected_PV = PeftModel.from_pretrained(tiny_model("gpt2"), path)(torch.tensor([PROMPTS[2]])).logits[0]
    runner, bank = opened(tiny_model("gpt2"))
    bank.add(5, loaded(path, base, bank))
    runner.allocate(8, 4)
    logits_PV = runner.forward(make_step([all_logits(answering(PROMPTS[2], [3, 6, 1], slot=5))], 4))
    torch.testing.assert_close(logits_PV, expected_PV, atol=1e-4, rtol=1e-4)


def test_adapters_come_and_go(save: Save, base: ResolvedModel) -> None:
    runner, bank = opened(tiny_model())
    plain = greedy(runner, PROMPTS, 5)
    assert bank.is_empty
    assert not bank.active
    bank.add(1, loaded(save("one"), base, bank))
    bank.add(2, loaded(save("two", seed=2), base, bank))
    assert bank.num_bytes == 2 * 2 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4) * 4
    with pytest.raises(ValueError, match="the slot 2 is not free"):
        bank.add(2, loaded(save("one"), base, bank))
    assert greedy(runner, PROMPTS, 5) == plain
    assert not bank.active
    mixed = greedy(runner, PROMPTS, 5, slots=[1, 0, 2, 0, 1])
    assert bank.active
    assert [mixed[1], mixed[3]] == [plain[1], plain[3]]
    assert mixed[0] != plain[0]
    bank.remove(1)
    assert greedy(runner, PROMPTS, 5, slots=[0, 0, 2, 0, 0])[2] == mixed[2]
    bank.remove(2)
    assert bank.is_empty
    with pytest.raises(UsageError, match="no adapter in slot 2"):
        greedy(runner, PROMPTS, 5, slots=[0, 0, 2, 0, 0])


def test_an_effect_is_proven_without_disturbing_the_cache(save: Save, base: ResolvedModel) -> None:
    runner, bank = opened(tiny_model())
    bank.add(1, loaded(save("one"), base, bank))
    bank.add(2, loaded(save("tiny", size=1e-9), base, bank))
    before = greedy(runner, PROMPTS[:1], 3)
    runner.allocate(4, 4)
    sequence = answering([*PROMPTS[0], *before[0]], [1, 2, 3])
    runner.forward(make_step([next_part(sequence, len(PROMPTS[0]), 4)], 4))
    sequence.num_computed = len(PROMPTS[0])
    prove_effect(runner, slot=1, block_size=4)
    with pytest.raises(DataError, match="has no effect"):
        prove_effect(runner, slot=2, block_size=4)
    prove_effect(runner, slot=1, block_size=1)
    logits_RV = runner.forward(make_step([all_logits(sequence)], 4))
    assert logits_RV.argmax(-1).tolist()[:2] == before[0][1:]


def test_numbers_that_are_not_finite_stay_nowhere(save: Save, base: ResolvedModel) -> None:
    runner, bank = opened(tiny_model())
    bank.add(1, loaded(save("huge", size=1e30), base, bank))
    runner.allocate(4, 4)
    with pytest.raises(DataError, match="not finite"):
        prove_effect(runner, slot=1, block_size=4)
    sequence = answering([5], [0])
    assert runner.forward(make_step([all_logits(sequence)], 4)).isfinite().all()


# --- what is refused --------------------------------------------------------------------------------------------------


def edit(path: Path, **changes: Any) -> Path:
    """Change keys of adapter_config.json."""
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return path


def retensor(path: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    file = path / "adapter_model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias: all"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_what_is_more_than_a_pair_of_matrices_is_to_be_merged(
    changes: dict[str, Any], said: str, save: Save, base: ResolvedModel
) -> None:
    _, bank = opened(tiny_model())
    with pytest.raises(UsageError, match=said) as caught:
        loaded(edit(save("a"), **changes), base, bank)
    assert "merge it first" in str(caught.value.fix)


def test_another_kind_of_adapter(save: Save, base: ResolvedModel) -> None:
    _, bank = opened(tiny_model())
    with pytest.raises(UsageError, match="of the kind IA3"):
        loaded(edit(save("a"), peft_type="IA3"), base, bank)


def first_to(value: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        next(iter(state.values()))[0, 0] = value
        return state

    return change


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda state: {name.replace(old, new): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (first_to(math.nan), DataError, "not finite"),
        (lambda state: dict(list(state.items())[1:]), DataError, "but not the other matrix"),
        (renamed("self_attn", "attention"), DataError, "4 layers of the adapter are not in folder/base"),
        (renamed("layers.1.self_attn.q_proj", "lm_head"), UsageError, "lm_head"),
        (renamed("layers.1.self_attn.q_proj.lora_A.weight", "magnitude"), UsageError, "no matrix of a LoRA"),
        (
            lambda state: {name: tensor for name, tensor in state.items() if "q_proj" in name},
            DataError,
            "'v_proj' but holds nothing for it",
        ),
        (
            lambda state: {name: tensor[:3] if "A" in name else tensor[:, :3] for name, tensor in state.items()},
            DataError,
            "has rank 3",
        ),
        (
            lambda state: {name: tensor * 0 if "lora_B" in name else tensor for name, tensor in state.items()},
            DataError,
            "B matrices are zero",
        ),
        (
            lambda state: {
                name: torch.cat([tensor, tensor], 1) if "lora_A" in name else tensor for name, tensor in state.items()
            },
            DataError,
            "for another model: .* goes from 64 to 32 numbers there, and from 32 to 32",
        ),
    ],
)
def test_tensors_that_do_not_fit(
    change: Any, error: type[GenaiError], said: str, save: Save, base: ResolvedModel
) -> None:
    _, bank = opened(tiny_model())
    with pytest.raises(error, match=said):
        loaded(retensor(save("a"), change), base, bank)


def test_too_large_a_rank(save: Save, base: ResolvedModel) -> None:
    _, bank = opened(tiny_model(), max_rank=4)
    with pytest.raises(UsageError, match="rank 5, and max_lora_rank is 4") as caught:
        loaded(save("a", r=5), base, bank)
    assert caught.value.fix == "set engine.max_lora_rank: 5"


def test_files_that_are_not_there_or_damaged(save: Save, base: ResolvedModel, tmp_path: Path) -> None:
    _, bank = opened(tiny_model())
    with pytest.raises(DataError, match=r"adapter_config\.json is missing"):
        loaded(tmp_path / "nowhere", base, bank)
    path = save("a")
    weights = path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="the adapter is damaged"):
        loaded(path, base, bank)
    weights.rename(path / "adapter_model.bin")
    with pytest.raises(DataError, match="is missing") as caught:
        loaded(path, base, bank)
    assert "pickle" in str(caught.value.fix)
    (path / "adapter_config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        loaded(path, base, bank)


def test_an_adapter_of_ours_knows_its_base(save: Save, base: ResolvedModel) -> None:
    _, bank = opened(tiny_model())
    path = save("a")
    record = {"reference": "gallery:other", "weights": base.weights_fingerprint}
    (path / "genai-base.json").write_text(json.dumps(record))
    assert loaded(path, base, bank).rank == 4
    (path / "genai-base.json").write_text(json.dumps(record | {"weights": "sha256:0"}))
    with pytest.raises(DataError, match=r"trained on other weights \(gallery:other\) than folder/base"):
        loaded(path, base, bank)
