"""Records of the usual formats as rows, or what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from genai.config.finetune import FinetuningDatasetConfig
from genai.data.columns import Format, missing_columns, rename
from genai.data.messages import Unusable, as_list, parse_messages, parse_tools, role_hint, said, text_of
from genai.data.readers import Record
from genai.data.rows import BadRow, Message, Role, Row

_SHAREGPT_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


def to_row(
    record: Record, kind: Format, cfg: FinetuningDatasetConfig, *, group_columns: Sequence[str] = ()
) -> Row | BadRow:
    """One record as a row.

    Args:
        record: as read.
        kind: its format.
        cfg: column mapping, system prompt and which turns are trained.
        group_columns: columns of the file whose values make the row's group.
    """
    view = rename(record.values, cfg.columns)
    try:
        missing = missing_columns(view, kind)
        if missing:
            raise Unusable(f"has no {' and no '.join(missing)}; it has {', '.join(record.values) or 'nothing'}")
        row = _READERS[kind](view)
        if row.text is None:
            row = replace(row, messages=_train(_with_system(row.messages, cfg.system_prompt), cfg.target_responses))
        return replace(row, source=record.source, group=_group(record.values, group_columns))
    except Unusable as error:
        return BadRow(source=record.source, reason=str(error))


# --- one reader a format ----------------------------------------------------------------------------------------------


def _read_chat(view: Mapping[str, Any]) -> Row:
    return Row(messages=parse_messages(view["messages"]), tools=parse_tools(view.get("tools")))


def _read_prompt_response(view: Mapping[str, Any]) -> Row:
    """Both may also be lists of messages, as TRL has them; then only those of the response are trained."""
    prompt, response = view["prompt"], view["response"] if "response" in view else view["completion"]
    if not isinstance(prompt, list) and not isinstance(response, list):
        return Row(messages=(said("user", prompt, "the prompt"), said("assistant", response, "the response")))
    before = parse_messages(prompt) if isinstance(prompt, list) else (said("user", prompt, "the prompt"),)
    after = parse_messages(response) if isinstance(response, list) else (said("assistant", response, "the response"),)
    given = tuple(replace(message, trained=False) for message in before)
    return Row(messages=(*given, *after), tools=parse_tools(view.get("tools")))


def _read_alpaca(view: Mapping[str, Any]) -> Row:
    instruction = said("user", view["instruction"], "the instruction")
    context = text_of(view.get("input", ""), "the input")
    if context.strip():
        instruction = replace(instruction, content=f"{instruction.content}\n\n{context}")
    return Row(messages=(instruction, said("assistant", view["output"], "the output")))


def _read_sharegpt(view: Mapping[str, Any]) -> Row:
    turns = as_list(view["conversations"], 'conversations must be a list of {"from": ..., "value": ...}')
    messages = []
    for number, turn in enumerate(turns, 1):
        if "from" not in turn or "value" not in turn:
            raise Unusable(f"turn {number} has no 'from' or no 'value'; it has {', '.join(turn) or 'nothing'}")
        role = _SHAREGPT_ROLES.get(str(turn["from"]).lower())
        if role is None:
            raise Unusable(f"turn {number} is from '{turn['from']}'{role_hint(str(turn['from']), _SHAREGPT_ROLES, {})}")
        message = {**turn, "role": role, "content": turn["value"]}
        messages.append({key: value for key, value in message.items() if key not in ("from", "value")})
    if "system" in view and not (messages and messages[0]["role"] == "system"):
        messages.insert(0, {"role": "system", "content": view["system"]})
    return Row(messages=parse_messages(messages), tools=parse_tools(view.get("tools")))


def _read_text(view: Mapping[str, Any]) -> Row:
    text = text_of(view["text"], "the text")
    if not text.strip():
        raise Unusable("the text is empty")
    return Row(text=text)


_READERS: dict[Format, Callable[[Mapping[str, Any]], Row]] = {
    "chat": _read_chat,
    "prompt_response": _read_prompt_response,
    "alpaca": _read_alpaca,
    "sharegpt": _read_sharegpt,
    "text": _read_text,
}


# --- what is trained --------------------------------------------------------------------------------------------------


def _with_system(messages: tuple[Message, ...], prompt: str | None) -> tuple[Message, ...]:
    if prompt is None or messages[0].role == "system":
        return messages
    return (Message(role="system", content=prompt), *messages)


def _train(messages: tuple[Message, ...], target_responses: str) -> tuple[Message, ...]:
    """Apply `target_responses`; a row in which nothing is trained is no row."""
    says = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not says:
        raise Unusable("the assistant says nothing")
    if target_responses == "last":
        messages = tuple(
            message if index == says[-1] or not message.trained else replace(message, trained=False)
            for index, message in enumerate(messages)
        )
    if not any(message.trained for message in messages):
        raise Unusable("no turn is trained: each that could be has weight 0")
    return messages


def _group(values: Mapping[str, Any], columns: Sequence[str]) -> str:
    missing = [name for name in columns if values.get(name) is None]
    if missing:
        raise Unusable(f"has no '{missing[0]}', which data.split.group_by names")
    return json.dumps([values[name] for name in columns], sort_keys=True, default=str) if columns else ""
