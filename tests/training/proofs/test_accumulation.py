import pytest
import torch

from genai.config.training import PeftConfig
from genai.data.tokenized import TokenizedRows
from genai.errors import GateError
from genai.models.adapters import add_adapter
from genai.training.forward import CausalLMLoss
from genai.training.precision import prepare_model
from genai.training.proofs.accumulation import prove_accumulation
from genai.training.step import microbatches

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),  # peft reads it
]


def mean_per_microbatch(model_loss, batch, *, microbatch_size):
    """The fault of transformers #34191."""
    pieces = list(microbatches(batch, microbatch_size, model_loss.device))
    for piece in pieces:
        trained = float((piece["labels"] >= 0).sum())
        (model_loss.loss(piece, denominator=trained) / len(pieces)).backward()
    return 0.0


def last_microbatch_only(model_loss, batch, *, microbatch_size):
    """The fault of gradients that are cleared in between."""
    for piece in microbatches(batch, microbatch_size, model_loss.device):
        before = [None if p.grad is None else p.grad.clone() for p in model_loss.model.parameters()]
        model_loss.loss(piece, denominator=float(batch.num_trained_tokens)).backward()
    if microbatch_size == 1:
        for parameter, gradient in zip(model_loss.model.parameters(), before, strict=True):
            parameter.grad -= gradient
    return 0.0


def test_a_sound_step_in_full_and_with_an_adapter(tiny_model, ten_rows):
    full = CausalLMLoss(tiny_model, precision="amp_bf16", device="cpu")
    result = prove_accumulation(full, ten_rows, pad_token_id=0)
    assert result.ok and result.numbers["relative_difference"] < 1e-5 and result.numbers["gradient_norm"] > 0

    adapted = add_adapter(tiny_model, PeftConfig(r=4, lora_dropout=0.5))
    prepare_model(adapted, "amp_bf16")
    result = prove_accumulation(CausalLMLoss(adapted, precision="amp_bf16", device="cpu"), ten_rows, pad_token_id=0)
    assert result.ok and result.numbers["relative_difference"] < 1e-5


@pytest.mark.parametrize("fault", [mean_per_microbatch, last_microbatch_only])
def test_a_gradient_that_depends_on_the_microbatch(tiny_model, ten_rows, snapshot, fault):
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    before = snapshot(tiny_model)
    with pytest.raises(GateError, match="depends on the microbatch size: 1 and 4 rows") as caught:
        prove_accumulation(model_loss, ten_rows, pad_token_id=0, accumulate=fault)
    assert "device_train_microbatch_size" in caught.value.fix
    assert snapshot(tiny_model) == before


@pytest.mark.parametrize("length", [2, 5])
def test_equal_rows_are_made_unequal(tiny_model, length):
    rows = TokenizedRows.from_lists([list(range(3, 3 + length))] * 4)
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    assert prove_accumulation(model_loss, rows, pad_token_id=0).ok
    with pytest.raises(GateError):
        prove_accumulation(model_loss, rows, pad_token_id=0, accumulate=mean_per_microbatch)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_nothing_to_learn_from(tiny_model, ten_rows, value):
    model_loss = CausalLMLoss(tiny_model, precision="fp32", device="cpu")
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.fill_(value)
    with pytest.raises(GateError, match="nothing would be learnt"):
        prove_accumulation(model_loss, ten_rows, pad_token_id=0)
