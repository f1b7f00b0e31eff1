"""Prompts: chat templates rendered and texts turned into tokens, without transformers.

What comes out is what `apply_chat_template(..., sanitize_control_tokens=True)` of transformers gives: a special token
that a message spells out (`<|im_end|>`) is encoded as the plain text it is, so that no message can end its own turn and
speak for somebody else. Only the template writes special tokens.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import AddedToken, Tokenizer

from genai.models.generation import ModelCard
from genai.serving.errors import ApiError

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_BEGIN, _END = "\U000f0000", "\U000f0001"
"""Stand around a special token that somebody wrote, between rendering and encoding; of a private use area, the same as
in transformers."""
_REFUSALS = (
    *(jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError),
)
"""What a template raises on purpose or by accident, when messages are not as it wants them."""
_TOLD_CHARACTERS = 500
_KEPT_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt", *_NAMED_TOKENS})


class Prompters:
    """The prompters of all text models, each read from its folder once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, str], Prompter]] = {}
        self._lock = threading.Lock()

    def get(self, card: ModelCard) -> Prompter | None:
        """The prompter of a model, if it has been read."""
        known = self._known.get(card.name)
        return known[1] if known is not None and known[0] == (card.version, card.folder) else None

    def of(self, card: ModelCard) -> Prompter:
        """The prompter of a model; reads its folder (some 100 ms) where that was not done yet. Any thread.

        Raises:
            ApiError: 503, its tokenizer cannot be read.
        """
        with self._lock:
            prompter = self.get(card)
            if prompter is None:
                prompter = _opened(card)
                self._known[card.name] = ((card.version, card.folder), prompter)
            return prompter

    def keep(self, names: Collection[str]) -> None:
        """Forget all models but these (a reload)."""
        with self._lock:
            self._known = {name: known for name, known in self._known.items() if name in names}


def _opened(card: ModelCard) -> Prompter:
    try:
        return Prompter(Path(card.folder), chat_template=card.chat_template)
    except (OSError, ValueError, jinja2.TemplateError) as error:
        raise ApiError(
            f"the tokenizer or chat template of '{card.name}' cannot be read: {error}", status=503, code="engine_error"
        ) from error
    except Exception as error:  # tokenizers raises nothing more precise
        if type(error) is not Exception:
            raise
        raise ApiError(f"tokenizer.json of '{card.name}' cannot be read: {error}", status=503) from error


class Prompter:
    """A model's tokenizer and chat template.

    Args:
        folder: with tokenizer.json, and as far as there are tokenizer_config.json and chat_template.jinja.
        chat_template: Jinja text in place of the folder's.

    Raises:
        OSError: there is no tokenizer.json.
        jinja2.TemplateError: the template is not Jinja.
    """

    def __init__(self, folder: Path, *, chat_template: str | None = None) -> None:
        self._folder = folder
        config = _read_json(folder / "tokenizer_config.json")
        self.named_tokens = _named_tokens(config, _read_json(folder / "special_tokens_map.json"))
        """bos_token, eos_token, ... -> its text; what templates know them by."""
        self._tokenizer = self._load()
        self.chat_template = chat_template or _template_of(folder, config)
        """Jinja text; None: the model was not made for chats."""
        self._template = _environment().from_string(self.chat_template) if self.chat_template else None
        specials = sorted(_specials(self._tokenizer), key=len, reverse=True)
        self._firsts = {text[0] for text in specials}
        self._special = re.compile("|".join(map(re.escape, specials)) or "(?!)")
        self._marks = re.compile(f"{_BEGIN}({self._special.pattern}){_END}|[{_BEGIN}{_END}]")
        self._as_text = self._encoded_as_text(specials)
        self.longest_token = _longest_token(self._tokenizer)
        """So many characters a token stands for at most; None where texts are changed before they are cut."""

    # --- texts --------------------------------------------------------------------------------------------------------

    def text(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Tokens of a text; special tokens in it are read as such.

        Args:
            text: without half surrogate pairs.
            add_special_tokens: put the tokenizer's own beginning (and end) around it.
        """
        return _ids(self._tokenizer, text, add_special_tokens)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of tokens."""
        text: str = self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)
        return text

    def token(self, token_id: int) -> str:
        """A token as the vocabulary has it; "" for one that the tokenizer does not know."""
        return self._tokenizer.id_to_token(token_id) or ""

    # --- chats --------------------------------------------------------------------------------------------------------

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation, without a look at what the messages hold; see `chat` for their tokens.

        Args:
            messages: `role`, `content` and what else the template knows of.
            add_generation_prompt: end with what opens the assistant's turn.
            variables: further names the template knows.

        Raises:
            ApiError: 400, there is no template, or it refuses.
        """
        if self._template is None:
            raise ApiError(
                "this model has no chat template; use /v1/completions, or set the endpoint's chat_template",
                param="messages",
            )
        taken = _KEPT_NAMES.intersection(variables or ())
        if taken:
            raise ApiError(f"chat_template_kwargs cannot set '{min(taken)}'", param="chat_template_kwargs")
        try:
            return self._template.render(
                messages=messages,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.named_tokens,
                **(variables or {}),
            )
        except _REFUSALS as error:
            told = str(error).replace(_BEGIN, "").replace(_END, "")[:_TOLD_CHARACTERS]
            raise ApiError(f"the model's chat template refuses these messages: {told}", param="messages") from None

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        add_special_tokens: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Tokens of a conversation; special tokens in the messages are read as plain text.

        Args:
            messages: see `render`.
            add_generation_prompt: end with what opens the assistant's turn.
            add_special_tokens: put the tokenizer's own beginning before it; templates have it in them.
            variables: further names the template knows.

        Raises:
            ApiError: 400, there is no template, or it refuses.
        """
        try:
            marked, known = self._marked([dict(message) for message in messages]), self._marked(dict(variables or ()))
        except RecursionError:
            raise ApiError("chat_template_kwargs is nested too deeply", param="chat_template_kwargs") from None
        text = self.render(marked, add_generation_prompt=add_generation_prompt, variables=known)
        if _BEGIN not in text and _END not in text:
            return self.text(text, add_special_tokens=add_special_tokens)
        before = self._tokens_before if add_special_tokens else []
        return [*before, *self._encoded_pieces(text)]

    def _marked(self, value: Any) -> Any:
        """The same with marks around the special tokens that somebody wrote, and without marks that somebody wrote."""
        if isinstance(value, str):
            plain = value if value.isascii() else value.replace(_BEGIN, "").replace(_END, "")
            # a look for their first characters costs a tenth of a search
            if any(first in plain for first in self._firsts):
                return self._special.sub(f"{_BEGIN}\\g<0>{_END}", plain)
            return plain
        if isinstance(value, dict):
            return {key: self._marked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._marked(item) for item in value]
        return value

    def _encoded_pieces(self, text: str) -> Iterator[int]:
        """Odd pieces are special tokens that somebody wrote (or None for a mark that lost its other half)."""
        for place, piece in enumerate(self._marks.split(text)):
            if not piece:
                continue
            if place % 2:
                yield from self._as_text[piece]
            else:
                yield from self._encoded_inside(piece) if place else _ids(self._tokenizer, piece, False)

    def _encoded_inside(self, piece: str) -> list[int]:
        """Tokens of a piece from within a text: after a line's end, so that a tokenizer which puts a space before every
        text does not do so here.
        """
        before, ids = _ids(self._tokenizer, "\n", False), _ids(self._tokenizer, "\n" + piece, False)
        return ids[len(before) :] if ids[: len(before)] == before else _ids(self._tokenizer, piece, False)

    def _encoded_as_text(self, specials: Sequence[str]) -> dict[str, list[int]]:
        """Tokens of each special token's text, as if it were none; made once, as the setting is the tokenizer's."""
        self._tokenizer.encode_special_tokens = True
        try:
            return {text: self._encoded_inside(text) for text in specials}
        finally:
            self._tokenizer.encode_special_tokens = False

    @property
    def _tokens_before(self) -> list[int]:
        """What the tokenizer puts before every text."""
        alone, whole = _ids(self._tokenizer, "a", False), _ids(self._tokenizer, "a", True)
        return whole[: whole.index(alone[0])]

    # --- reading ------------------------------------------------------------------------------------------------------

    def _load(self) -> Tokenizer:
        file = self._folder / "tokenizer.json"
        if not file.is_file():
            raise FileNotFoundError(f"there is no {file}")
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        known = _specials(tokenizer)
        missing = [text for text in self.named_tokens.values() if text not in known]
        tokenizer.add_special_tokens(
            [
                AddedToken(text, special=True, normalized=False)
                for text in missing
                if tokenizer.token_to_id(text) is not None
            ]
        )
        return tokenizer


def _ids(tokenizer: Tokenizer, text: str, add_special_tokens: bool) -> list[int]:
    # `encode` keeps Python's lock, and finds out where each token lies, which nobody asks
    ids: list[int] = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
    return ids


def _longest_token(tokenizer: Tokenizer) -> int | None:
    return max(map(len, tokenizer.get_vocab())) if tokenizer.normalizer is None else None


def _specials(tokenizer: Tokenizer) -> list[str]:
    return [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    value = json.loads(file.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _named_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _NAMED_TOKENS:
        for source in sources:
            value = source.get(name)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                found.setdefault(name, text)
    return found


def _template_of(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) and template else None


# --- Jinja, set up as transformers does -------------------------------------------------------------------------------


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`, with which templates mark for training what the assistant says; it changes nothing here."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The body alone, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [jinja2.nodes.Scope(body).set_lineno(line)]


class _Namespace(jinja2.utils.Namespace):
    """`namespace(...)`, whose attributes cannot be Python's own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        for name in dict(*args, **kwargs):
            _check_name(name)
        super().__init__(*args, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold '{name}'")


class _Dict:
    """`dict(...)` in a template, without the class's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace
    )
    return environment


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)
