from pathlib import Path
from typing import Any

import pytest
import torch

from genai.config.finetune import HFCausalLMConfig
from genai.config.training import PeftConfig
from genai.models.adapters import add_adapter, save_adapter
from genai.models.chat import Chat, ChatOptions, open_chat
from genai.models.generate import answer
from genai.models.loading import load_model
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration
OPTIONS = ChatOptions(max_new_tokens=8)


@pytest.fixture
def chat(tiny: Path) -> Chat:
    return open_chat(str(tiny), system="Be brief.", options=OPTIONS, device="cpu")


def test_remembers_and_forgets(chat: Chat) -> None:
    first = "".join(chat.say("hi"))
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": chat.turns[1]["content"]},
        {"role": "user", "content": "and now"},
    ]
    expected = answer(chat.model, chat.tokenizer, history, max_new_tokens=8)
    "".join(chat.say("and now"))
    assert chat.turns[3]["content"] == expected
    chat.reset()
    assert chat.turns == []
    assert "".join(chat.say("hi")) == first


def test_an_interrupted_answer_is_kept_as_far_as_it_came(chat: Chat) -> None:
    stream = chat.say("hi")
    piece = next(stream)
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert [turn["role"] for turn in chat.turns] == ["user", "assistant"]
    assert chat.turns[1]["content"].startswith(piece) or piece == ""


def test_nothing_steers_the_terminal(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = chat.tokenizer("red \x1b[31m bell \x07 end")["input_ids"]
    spoken = iter([*ids, 2])

    def say_it(input_ids: torch.Tensor, **_: Any) -> Any:
        from types import SimpleNamespace

        logits = torch.zeros(1, 1, 400)
        logits[0, 0, next(spoken)] = 1
        return SimpleNamespace(logits=logits, past_key_values=None)

    monkeypatch.setattr(chat.model, "forward", say_it)
    chat.options = ChatOptions(max_new_tokens=50)
    shown = "".join(chat.say("hi"))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.startswith("red ")
    assert shown.endswith(" end")


def test_with_an_adapter(tiny: Path, tmp_path: Path) -> None:
    base = resolve_model(str(tiny))
    config = HFCausalLMConfig(pretrained_model_name_or_path=str(tiny))
    model = add_adapter(load_model(config, base, dtype=torch.float32), PeftConfig(r=2))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    save_adapter(model, tmp_path / "adapter", base=base)
    plain = open_chat(str(tiny), options=OPTIONS, device="cpu")
    tuned = open_chat(str(tiny), adapter=str(tmp_path / "adapter"), options=OPTIONS, device="cpu")
    assert "".join(plain.say("hi")) != "".join(tuned.say("hi"))
