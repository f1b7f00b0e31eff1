"""Tiny tokenizers and chat templates in the manner of well-known models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from genai.data.rows import Message, Row

CORPUS = [
    "How long does a building permit take? It takes ten weeks, as a rule.",
    "You are a terse assistant. <think> Let me see. </think> Yes.\n\nNo!\n",
    "system user assistant model tool Assistant: User: Håll dig kort: ja 🙂",
] * 20

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES: dict[str, tuple[str, str]] = {
    # name: (template, end-of-turn token)
    "chatml": (CHATML, "<|im_end|>"),
    "chatml_default_system": (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}" + CHATML,
        "<|im_end|>",
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|eot_id|>",
    ),
    "mistral": (  # no generation prompt; the answer begins with a space
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
        "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
        "</s>",
    ),
    "mistral_late_system": (  # the system prompt moves to the last question
        "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
        "{% set chat = messages[1:] if system else messages %}"
        "{% set last = (chat | selectattr('role', 'equalto', 'user') | list | length) %}{% set ns = namespace(n=0) %}"
        "{{ bos_token }}{% for m in chat %}{% if m['role'] == 'user' %}{% set ns.n = ns.n + 1 %}"
        "[INST] {% if system and ns.n == last %}{{ system }}\n\n{% endif %}{{ m['content'] }} [/INST]"
        "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}",
        "</s>",
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}"
        "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}",
        "<end_of_turn>",
    ),
    "zephyr": (
        "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "</s>",
    ),
    "no_generation_prompt": (  # a header before the answer, but add_generation_prompt is ignored
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}"
        "{% endif %}{{ '\n' }}{% endfor %}",
        "</s>",
    ),
    "prompt_ends_in_space": (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}Assistant: {{ m['content'] }}{{ eos_token }}"
        "{% else %}User: {{ m['content'] }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}Assistant: {% endif %}",
        "</s>",
    ),
    "generation_blocks": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] }}<|im_end|>\n{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "generation_blocks_without_end": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "strips_reasoning": (  # only the last turn keeps what stands before </think>, and gets an empty block without one
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% set c = m['content'] %}"
        "{% if m['role'] == 'assistant' %}{% if not loop.last %}{{ c.split('</think>')[-1].lstrip('\n') }}"
        "{% elif '</think>' in c %}{{ c }}{% else %}<think>\n\n</think>\n\n{{ c }}{% endif %}{% else %}{{ c }}"
        "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_end|>",
    ),
    "opens_reasoning": (  # the generation prompt holds <think>, the answers do not
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>"
        "{{ m['content'].split('</think>')[-1] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}",
        "</s>",
    ),
}
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>"]
SPECIAL += [
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
]
KINDS = ("byte_level", "byte_level_trimmed", "sentencepiece", "words")


@cache
def _backend(kind: str) -> str:
    if kind == "words":
        tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer: Any = trainers.WordLevelTrainer(special_tokens=SPECIAL)
    elif kind == "sentencepiece":
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        byte_tokens = [f"<0x{value:02X}>" for value in range(256)]
        trainer = trainers.BpeTrainer(special_tokens=SPECIAL + byte_tokens, vocab_size=600)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=SPECIAL, vocab_size=500, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    add_bos = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[bos])
    trim = [processors.ByteLevel(trim_offsets=True)] if kind == "byte_level_trimmed" else []
    tokenizer.post_processor = processors.Sequence([*trim, add_bos])
    return str(tokenizer.to_str())


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """make_tokenizer(template, kind): a tokenizer of about 500 tokens; like Llama's it puts <s> before plain text."""

    def make(template: str | None = "chatml", kind: str = "byte_level", **changes: Any) -> PreTrainedTokenizerFast:
        special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_backend(kind)), **(special | changes))
        tokenizer.chat_template = TEMPLATES[template][0] if template in TEMPLATES else template
        return tokenizer

    return make


@pytest.fixture(params=sorted(TEMPLATES))
def template(request: pytest.FixtureRequest) -> str:
    """The name of each template in turn."""
    return str(request.param)


@pytest.fixture
def end_of_turn(template: str) -> str:
    """The token that ends a turn of `template`."""
    return TEMPLATES[template][1]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of tokenizer in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def chat() -> Callable[..., Row]:
    """chat("q", "a", "q", "a", system=..., trained=...): a conversation that begins with the user."""

    def make(*turns: str, system: str | None = None, trained: Callable[[int], bool] = lambda k: True) -> Row:
        messages = [Message(role="system", content=system)] if system else []
        for k, content in enumerate(turns):
            says = k % 2 == 1
            messages.append(
                Message(role="assistant" if says else "user", content=content, trained=says and trained(k // 2))
            )
        return Row(messages=tuple(messages), source="rows.jsonl:1")

    return make
