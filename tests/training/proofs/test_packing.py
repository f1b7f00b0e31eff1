import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaModel

from genai.config.training import PeftConfig
from genai.data.tokenized import TokenizedRows
from genai.errors import GateError
from genai.models.adapters import add_adapter
from genai.training.forward import CausalLMLoss
from genai.training.precision import prepare_model
from genai.training.proofs.packing import TOLERANCE, prove_packing

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # peft reads it
]


class AllOnesMask:
    """The fault of TRL #1230: positions restart, and an attention mask of ones makes transformers overlook them."""

    def arguments(self, tokens):
        return {
            "input_ids": tokens.input_ids_BS,
            "position_ids": tokens.position_ids_BS,
            "attention_mask": torch.ones_like(tokens.input_ids_BS),
        }


class CountsOn:
    """A fault that leaks nothing but moves positions: they run on across documents."""

    def __init__(self, sound):
        self._sound = sound

    def arguments(self, tokens):
        arguments = self._sound.arguments(tokens)
        # Rotary embeddings see only distances, so positions are stretched and not only shifted.
        positions = torch.arange(tokens.input_ids_BS.shape[1]) ** 2 % 97
        return {
            **arguments,
            "position_ids": positions.expand_as(tokens.input_ids_BS) if tokens.packed else arguments["position_ids"],
        }


class Forgetful(LlamaModel):
    """A decoder that ignores masks and positions, as models with code of their own may."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **kwargs):
        return super().forward(input_ids=input_ids, **kwargs)


def test_a_sound_model_in_full_and_with_an_adapter(tiny_model, ten_rows):
    full = CausalLMLoss(tiny_model, precision="amp_bf16", device="cpu")
    result = prove_packing(full, ten_rows, pad_token_id=0)
    assert result.ok and "all 2 layers" in result.details[0]
    assert result.numbers["packed_difference"] < 1e-5 and result.numbers["neighbour_difference"] < 1e-5

    adapted = add_adapter(tiny_model, PeftConfig(r=4))
    prepare_model(adapted, "amp_bf16")
    result = prove_packing(CausalLMLoss(adapted, precision="amp_bf16", device="cpu"), ten_rows, pad_token_id=0)
    assert result.ok and result.numbers["packed_difference"] < 1e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_all_ones_mask_leaks(tiny_model, ten_rows, attention):
    tiny_model.set_attn_implementation(attention)
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    assert prove_packing(model_loss, ten_rows, pad_token_id=0).ok
    model_loss._packing = AllOnesMask()
    with pytest.raises(GateError) as caught:
        prove_packing(model_loss, ten_rows, pad_token_id=0)
    leak, difference = caught.value.problems
    assert leak.message.startswith("a packed document sees its neighbour: changing that one moves its logits by ")
    assert float(leak.message.rpartition(" ")[2]) > 100 * TOLERANCE
    assert difference.message.startswith("packed documents do not give the logits they give alone")
    assert "packing_ratio" in caught.value.fix


def test_wrong_positions_are_found_without_a_leak(tiny_model, ten_rows):
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    model_loss._packing = CountsOn(model_loss._packing)
    with pytest.raises(GateError) as caught:
        prove_packing(model_loss, ten_rows, pad_token_id=0)
    (problem,) = caught.value.problems
    assert problem.message.startswith("packed documents do not give the logits they give alone")


def test_a_model_that_ignores_positions(tiny_model, ten_rows):
    model = LlamaForCausalLM(tiny_model.config)
    model.model = Forgetful(tiny_model.config)
    with pytest.raises(GateError, match="does not keep the documents of a packed row apart"):
        prove_packing(CausalLMLoss(model, precision="fp32", device="cpu"), ten_rows, pad_token_id=0)


def test_weights_that_are_not_finite(tiny_model, ten_rows):
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    tiny_model.model.norm.weight.data[3] = torch.nan
    with pytest.raises(GateError, match="nan"):
        prove_packing(model_loss, ten_rows, pad_token_id=0)


@pytest.mark.parametrize("rows", [[[5, 5]], [[5, 6, 7]], [[5] * 9, [6] * 600]])
def test_few_and_short_and_long_rows(tiny_model, rows):
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    assert prove_packing(model_loss, TokenizedRows.from_lists(rows), pad_token_id=0).ok
    model_loss._packing = AllOnesMask()
    with pytest.raises(GateError, match="sees its neighbour"):
        prove_packing(model_loss, TokenizedRows.from_lists(rows), pad_token_id=0)
