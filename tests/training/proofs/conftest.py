"""What the proofs' tests share."""

from collections.abc import Callable
from typing import Any

import pytest

from genai.data.tokenized import TokenizedRows


@pytest.fixture
def chat_rows(tiny_tokenizer: Any) -> Callable[..., TokenizedRows]:
    """Tokenises (question, answer) pairs by the ChatML template, the answer and its <|im_end|> trained."""

    def make(pairs: list[tuple[str, str]], **changes: Any) -> TokenizedRows:
        token_ids, trained = [], []
        for question, answer in pairs:
            prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
            head = tiny_tokenizer(prompt, add_special_tokens=False)["input_ids"]
            said = tiny_tokenizer(f"{answer}<|im_end|>", add_special_tokens=False)["input_ids"]
            token_ids.append(head + said)
            trained.append([False] * len(head) + [True] * len(said))
        made = TokenizedRows.from_lists(token_ids, trained)
        return TokenizedRows(**{**{name: getattr(made, name) for name in made.__dataclass_fields__}, **changes})

    return make


@pytest.fixture
def ten_rows(chat_rows: Callable[..., TokenizedRows]) -> TokenizedRows:
    """Ten conversations of unequal lengths."""
    return chat_rows([(f"What is {index}?", "A number." * (index % 4 + 1)) for index in range(10)])


@pytest.fixture
def snapshot() -> Callable[[Any], dict[str, Any]]:
    """Everything about a model that a proof might disturb, as bytes and plain values that can be compared."""
    import torch

    def take(model: Any) -> dict[str, Any]:
        def bits(tensor: Any) -> Any:
            return (
                None if tensor is None else (tensor.dtype, tensor.detach().clone().view(torch.uint8).numpy().tobytes())
            )

        return {
            "weights": {name: bits(p.data) for name, p in model.named_parameters(remove_duplicate=False)},
            "buffers": {name: bits(b) for name, b in model.named_buffers()},
            "gradients": {name: bits(p.grad) for name, p in model.named_parameters()},
            "identities": [id(p) for p in model.parameters()],
            "modes": [module.training for module in model.modules()],
            "trainable": [p.requires_grad for p in model.parameters()],
            "random": torch.get_rng_state().numpy().tobytes(),
        }

    return take
