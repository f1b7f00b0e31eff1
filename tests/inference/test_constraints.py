"""Grammars: what is refused and in which words, what answers look like, and that nothing takes the process down."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from fifty_schemas import SCHEMAS
from tiny_tokenizers import byte_level, word_piece
from tokenizers import Tokenizer

from genai.inference.constraints import GrammarCompiler
from genai.inference.interfaces import Answering, Constraint, RefusedError, Sampled
from genai.inference.sampling import Row, Sampler, unpack_masks
from genai.models.generation import GenerationRequest, Grammar, GrammarKind, SamplingParams
from genai.models.references import resolve_model

PADDED = 37
"""Ids that the model has and its tokenizer does not."""
TIMEOUT_S = 60.0


class Kind:
    """A tokenizer and a compiler for it."""

    def __init__(self, file: Path, ends: tuple[int, ...]) -> None:
        self.tokenizer = Tokenizer.from_file(str(file))
        self.vocab_size = self.tokenizer.get_vocab_size() + PADDED
        self.ends = ends
        self.compiler = GrammarCompiler(file, vocab_size=self.vocab_size, stop_token_ids=ends)

    def compile(self, kind: GrammarKind, text: object = "", *, timeout_s: float = TIMEOUT_S) -> Constraint:
        told = text if isinstance(text, str) else json.dumps(text)
        return self.compiler.compile(Grammar(kind=kind, text=told), timeout_s=timeout_s)

    def allowed(self, constraint: Constraint) -> set[int]:
        mask = torch.full((-(-self.vocab_size // 32),), -1, dtype=torch.int32)
        constraint.fill_mask(mask)
        return set((unpack_masks(mask[None])[0] == 0).nonzero()[:, 0].tolist())

    def takes(self, constraint: Constraint, text: str) -> bool:
        """Whether the answer may be this text."""
        for token in self.tokenizer.encode(text, add_special_tokens=False).ids:
            if token not in self.allowed(constraint):
                return False
            constraint.accept(token)
        return constraint.is_over or self.ends[0] in self.allowed(constraint)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kind]:
    kind = Kind(byte_level(tmp_path_factory.mktemp("tiny")), ends=(0, 1))
    yield kind
    kind.compiler.close()


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Kind]:
    kind = Kind(resolve_model("gallery:smollm2-135m-instruct").path / "tokenizer.json", ends=(2,))
    yield kind
    kind.compiler.close()


def refused(kind: Kind, grammar: GrammarKind, text: object, *, timeout_s: float = TIMEOUT_S) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        kind.compile(grammar, text, timeout_s=timeout_s)
    assert caught.value.param == "response_format"
    assert len(caught.value.message) < 800
    assert "\n" not in caught.value.message
    return caught.value


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text", "right", "wrong"),
    [
        (
            "json_object",
            "",
            ['{"a": [1, {"b": null}]}', "{}", '{\n    "a":1\n}'],
            ["[]", "{", "1", '{"a":1} ', '{"a":\\u0061}'],
        ),
        ("json_schema", {"type": "integer"}, ["12", "-3"], ["1.5", "", '"1"']),
        ("regex", r"[ab]+\d", ["ab1", "b7"], ["1", "ab", "ab12"]),
        (
            "choice",
            ["yes", "no", "not at all", 'a"b\\\n\x01', "é漢👋", ""],
            ["yes", "no", "not at all", 'a"b\\\n\x01', "é漢👋", ""],
            ["ye", "nono", "é漢"],
        ),
        ("lark", 'start: "a" b*\nb: /[0-9]/ "x"', ["a", "a1x2x"], ["a1", "b"]),
    ],
)
def test_what_each_kind_allows(tiny: Kind, kind: GrammarKind, text: object, right: list[str], wrong: list[str]) -> None:
    assert [answer for answer in right if not tiny.takes(tiny.compile(kind, text), answer)] == []
    assert [answer for answer in wrong if tiny.takes(tiny.compile(kind, text), answer)] == []


def test_a_complete_answer_is_over(tiny: Kind) -> None:
    constraint = tiny.compile("json_schema", {"const": {"a": 1}})
    for token in tiny.tokenizer.encode('{"a": 1}').ids:
        assert not constraint.is_over
        assert not tiny.allowed(constraint) & set(tiny.ends)
        constraint.accept(token)
    assert constraint.is_over
    assert tiny.allowed(constraint) == set(tiny.ends)
    for end in tiny.ends:
        constraint = tiny.compile("regex", "a*")
        assert not constraint.is_over
        assert set(tiny.ends) < tiny.allowed(constraint)
        constraint.accept(end)
        assert constraint.is_over


def test_special_tokens_and_ids_without_a_token_are_never_allowed(tiny: Kind) -> None:
    constraint = tiny.compile("regex", "(?s:.*)")
    allowed = tiny.allowed(constraint)
    assert allowed & {0, 1} == set(tiny.ends)
    assert max(allowed) < tiny.tokenizer.get_vocab_size()
    assert len(allowed) > 200


def test_a_model_with_fewer_ids_than_its_tokenizer(tmp_path: Path) -> None:
    file = byte_level(tmp_path)
    size = Tokenizer.from_file(str(file)).get_vocab_size() - 70
    compiler = GrammarCompiler(file, vocab_size=size, stop_token_ids=[0])
    mask = torch.zeros(-(-size // 32), dtype=torch.int32)
    compiler.compile(Grammar(kind="regex", text="[ab]+"), timeout_s=TIMEOUT_S).fill_mask(mask)
    assert bool(mask.any())
    compiler.close()


def test_each_answer_has_a_state_of_its_own(tiny: Kind) -> None:
    first, second = (tiny.compile("choice", ["ab", "cd"]) for _ in range(2))
    before = tiny.allowed(second)
    first.accept(tiny.tokenizer.encode("a").ids[0])
    assert tiny.allowed(second) == before != tiny.allowed(first)


def test_a_token_that_was_not_allowed_is_a_fault(tiny: Kind) -> None:
    constraint = tiny.compile("choice", ["ab"])
    with pytest.raises(RefusedError):
        constraint.accept(tiny.tokenizer.encode("z").ids[0])


def test_a_key_cannot_come_twice_under_another_spelling(tiny: Kind) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert tiny.takes(tiny.compile("json_schema", schema), '{"a": 1, "b": "x"}')
    assert not tiny.takes(tiny.compile("json_schema", schema), '{"a": 1, "\\u0061": "x"}')


def test_a_model_cannot_write_spaces_for_ever(tiny: Kind) -> None:
    assert tiny.takes(tiny.compile("json_object"), "{\n" + " " * 31 + "}")
    assert not tiny.takes(tiny.compile("json_object"), "{" + " " * 33 + "}")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, ["'uniqueItems'", "at #)", "supported are type, "]),
        (
            {"type": "object", "properties": {"a/b": {"type": "array", "items": {"not": {}}}}},
            ["'not'", "#/properties/a~1b/items)"],
        ),
        ({"$defs": {"x": {"if": {}, "then": {}}}, "$ref": "#/$defs/x"}, ["'if'", "'then'", "#/$defs/x)"]),
        ({"type": "array", "items": [{"type": "integer"}], "additionalItems": False}, ["'additionalItems'"]),
        (
            {"anyOf": [{"type": "integer"}, {"type": "string", "format": "colour"}]},
            ["Unknown format: colour", "#/anyOf/1)"],
        ),
        (
            {"properties": {"a": {"type": "string", "pattern": "(b"}}},
            ["'pattern' is no", "unclosed group", "#/properties/a)"],
        ),
        ({"properties": {"a": {"type": "string", "pattern": "(?=b)c"}}}, ["look-around", "#/properties/a)"]),
        ({"type": "objekt"}, ["Invalid type: objekt"]),
        ({"type": "integer", "minimum": 5, "maximum": 3}, ["minimum (5) is greater than maximum (3)"]),
        ({"$ref": "https://example.com/schema.json"}, ["$ref may only lead to its $defs"]),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, ["$ref may only lead to its $defs", "#/properties/a)"]),
        ({"$ref": "#/$defs/missing"}, ["'/$defs/missing' does not exist"]),
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, ["'uniqueItems'"]),
        ({"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, ["oneOf is supported only where", "anyOf"]),
        ("true", ["no JSON object"]),
        ("[]", ["no JSON object"]),
        ('{"type": "stri', ["EOF while parsing a string"]),
        ('{"items": ' * 5000 + "{}" + "}" * 5000, ["recursion limit"]),
    ],
)
def test_a_bad_schema_is_refused_with_keyword_and_place(tiny: Kind, schema: object, words: list[str]) -> None:
    error = refused(tiny, "json_schema", schema)
    assert error.fault == "invalid"
    assert [word for word in words if word not in error.message] == [], error.message
    assert tiny.takes(tiny.compile("json_object"), "{}"), "others go on"


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("regex", "(a", ["regular expression", "unclosed group"]),
        ("regex", r"(a)\1", ["backreferences are not supported"]),
        ("regex", "[z-a]", ["invalid character class range"]),
        ("regex", "(" * 50_000 + "a" + ")" * 50_000, ["regular expression"]),
        ("choice", "[]", ["list of one text or more"]),
        ("choice", "[1]", ["list of one text or more"]),
        ("choice", "yes", ["choice"]),
        ("lark", "", ["Empty grammar"]),
        ("lark", "start: missing", ['unknown name: "missing"']),
        ("lark", 'start: "a', ["Lark grammar", "lexer error"]),
    ],
)
def test_other_bad_grammars(tiny: Kind, kind: GrammarKind, text: str, words: list[str]) -> None:
    error = refused(tiny, kind, text)
    assert [word for word in words if word not in error.message] == [], error.message


EXPLOSIONS: dict[str, tuple[GrammarKind, object]] = {
    "for ever": ("json_schema", {"type": "integer", "multipleOf": 123456789}),
    "a chain that takes the whole stack": (
        "lark",
        "start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(5000)) + 'a5000: "x"',
    ),
    "a chain of references": (
        "json_schema",
        {
            "$defs": {**{f"a{i}": {"items": {"$ref": f"#/$defs/a{i + 1}"}} for i in range(5000)}, "a5000": {}},
            "$ref": "#/$defs/a0",
        },
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", EXPLOSIONS)
def test_a_grammar_that_explodes_is_refused_in_time_and_harms_nobody(tiny: Kind, name: str) -> None:
    tiny.compile("json_object")  # a process is there
    start = time.monotonic()
    error = refused(tiny, *EXPLOSIONS[name], timeout_s=0.5)
    assert time.monotonic() - start < 10
    assert "too complex" in error.message
    assert error.fault == "invalid"
    assert tiny.takes(tiny.compile("regex", f"after {name}"), f"after {name}")


@pytest.mark.integration
def test_explosions_do_not_pile_up(tiny: Kind) -> None:
    """No more than two are tried at once; the others wait, and are told when that takes too long."""
    faults: list[str] = []

    def ask(number: int) -> None:
        faults.append(
            refused(tiny, "json_schema", {"type": "integer", "multipleOf": 123456789 + number}, timeout_s=1.0).fault
        )

    start = time.monotonic()
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 30
    assert set(faults) <= {"invalid", "overloaded"}
    assert faults.count("overloaded") >= 2
    assert len(tiny.compiler._trials._idle) <= 2


@pytest.mark.integration
def test_what_was_too_complex_is_tried_again(tiny: Kind) -> None:
    schema = {"enum": [f"value {number}" for number in range(20_000)]}
    assert "too complex" in refused(tiny, "json_schema", schema, timeout_s=0.002).message
    tiny.compile("json_schema", schema)


def test_many_who_want_the_same_grammar_share_one_compilation(tiny: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Grammar] = []
    check = tiny.compiler._trials.check
    monkeypatch.setattr(
        tiny.compiler._trials, "check", lambda grammar, **more: (tried.append(grammar), check(grammar, **more))
    )
    threads = [threading.Thread(target=lambda: tiny.compile("regex", "shared[0-9]{3}")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tried) == 1
    refused(tiny, "regex", "shared[")
    refused(tiny, "regex", "shared[")
    assert len(tried) == 2, "a fault of the grammar is known from then on"


def test_compiled_grammars_are_kept_up_to_a_number(tiny: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genai.inference.constraints._MAX_KEPT", 3)
    for number in range(5):
        tiny.compile("choice", [f"kept {number}"])
    assert len(tiny.compiler._kept) == 3
    assert ("choice", '["kept 4"]') in tiny.compiler._kept


def test_a_process_that_was_killed_is_replaced(tiny: Kind) -> None:
    tiny.compile("regex", "before")
    for trying in tiny.compiler._trials._idle:
        trying._process.kill()
        trying._process.wait()
    assert tiny.takes(tiny.compile("regex", "behind"), "behind")


def test_closing_ends_the_processes(tmp_path: Path) -> None:
    kind = Kind(byte_level(tmp_path), ends=(0,))
    kind.compile("json_object")
    processes = [trying._process for trying in kind.compiler._trials._idle]
    assert [process.poll() for process in processes] == [None]
    kind.compiler.close()
    assert [process.returncode for process in processes] == [-9]
    kind.compile("regex", "closed, and still asked")
    assert kind.compiler._trials._idle == []


def test_a_tokenizer_that_llguidance_does_not_know_is_refused(tmp_path: Path) -> None:
    compiler = GrammarCompiler(word_piece(tmp_path), vocab_size=10, stop_token_ids=[1])
    with pytest.raises(RefusedError, match="this model's tokenizer cannot be used with a grammar"):
        compiler.compile(Grammar(kind="json_object"), timeout_s=TIMEOUT_S)
    compiler.close()


# --- fifty schemas ----------------------------------------------------------------------------------------------------


def a_row(kind: Kind, schema: object, *, prompt: list[int], **params: Any) -> Row:
    request = GenerationRequest(id="r", model="m", prompt_ids=prompt, sampling=SamplingParams(**params))
    return Row(Answering(request=request, arrival=0.0, constraint=kind.compile("json_schema", schema)))


def answers_of_luck(
    kind: Kind, schemas: list[object], *, max_tokens: int, seed: int
) -> tuple[list[str | None], float, int]:
    """Answers to random logits under schemas, None where cut off; seconds that masks took, and tokens."""
    generator = torch.Generator().manual_seed(seed)
    bias_V = torch.zeros(kind.vocab_size)
    bias_V[[kind.tokenizer.token_to_id(token) for token in '"}],01']] = math.log(kind.vocab_size)  # so that texts end
    sampler = Sampler(kind.vocab_size, stop_token_ids=kind.ends)
    rows = [
        a_row(kind, schema, prompt=[1], max_tokens=max_tokens, seed=seed * 100 + number)
        for number, schema in enumerate(schemas)
    ]
    answers: list[str | None] = [None] * len(rows)
    mask = torch.zeros(-(-kind.vocab_size // 32), dtype=torch.int32)
    spent_s, num_tokens, going = 0.0, 0, list(range(len(rows)))
    for _ in range(max_tokens):
        logits_RV = (bias_V + 2 * torch.randn(kind.vocab_size, generator=generator)).expand(len(going), -1)
        chosen = sampler.choose(logits_RV, [rows[number] for number in going])
        for number, sampled in zip(list(going), chosen, strict=True):
            assert isinstance(sampled, Sampled), (schemas[number], sampled)
            sequence = rows[number].sequence
            assert sequence.constraint is not None
            start = time.thread_time()
            sequence.constraint.fill_mask(mask)
            sequence.constraint.accept(sampled.token_id)
            spent_s += time.thread_time() - start
            num_tokens += 1
            if sampled.token_id not in kind.ends:
                sequence.output_ids.append(sampled.token_id)
            if sequence.constraint.is_over:
                answers[number] = kind.tokenizer.decode(sequence.output_ids)
                going.remove(number)
        if not going:
            break
    return answers, spent_s, num_tokens


def check_answers(schemas: list[object], answers: list[str | None]) -> int:
    """See that all complete answers parse and validate; how many were cut off."""
    for schema, answer in zip(schemas, answers, strict=True):
        if answer is not None:
            answer = re.sub(
                r'^"0000-', '"0004-', answer
            )  # Python's dates begin with the year 1, those of RFC 3339 do not
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(answer))  # type: ignore[arg-type]
    return sum(answer is None for answer in answers)


@pytest.mark.parametrize("seed", range(2))
def test_lucky_answers_under_fifty_schemas_validate(tiny: Kind, seed: int) -> None:
    schemas: list[object] = list(SCHEMAS.values())
    answers, _, _ = answers_of_luck(tiny, schemas, max_tokens=150, seed=seed)
    assert check_answers(schemas, answers) < 15


@pytest.mark.integration
def test_lucky_answers_with_the_tokens_of_smollm2(smollm2: Kind) -> None:
    schemas: list[object] = list(SCHEMAS.values())
    cut_off, spent_s, num_tokens = 0, 0.0, 0
    for seed in range(3):
        answers, seconds, tokens = answers_of_luck(smollm2, schemas, max_tokens=100, seed=seed)
        cut_off += check_answers(schemas, answers)
        spent_s, num_tokens = spent_s + seconds, num_tokens + tokens
    cost_us = spent_s / num_tokens * 1e6
    print(f"{num_tokens} tokens, {cost_us:.0f} us each for mask and step, {cut_off} of 150 answers cut off")
    assert cut_off < 45
    assert cost_us < 1000


@pytest.mark.slow
def test_answers_of_smollm2_under_fifty_schemas(smollm2: Kind) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        resolve_model("gallery:smollm2-135m-instruct").path, dtype=torch.float32
    )
    prompt = smollm2.tokenizer.encode(
        "<|im_start|>user\nGive me a value as JSON.<|im_end|>\n<|im_start|>assistant\n"
    ).ids
    schemas: list[object] = list(SCHEMAS.values())
    sampler = Sampler(model.config.vocab_size, stop_token_ids=smollm2.ends)
    rows = [
        a_row(smollm2, schema, prompt=prompt, max_tokens=80, seed=seed, temperature=0.7)
        for seed, schema in enumerate(schemas)
    ]
    with torch.inference_mode():
        output = model(torch.tensor([prompt] * len(rows)), use_cache=True, logits_to_keep=1)
        for _ in range(80):
            tokens = []
            for row, sampled in zip(rows, sampler.choose(output.logits[:, -1].float(), rows), strict=True):
                constraint = row.sequence.constraint
                assert constraint is not None
                token = sampled.token_id if isinstance(sampled, Sampled) else smollm2.ends[0]
                if not constraint.is_over:
                    assert isinstance(sampled, Sampled), sampled
                    constraint.accept(token)
                    row.sequence.output_ids.append(token)
                tokens.append([token])
            output = model(torch.tensor(tokens), past_key_values=output.past_key_values, use_cache=True)
    answers = [
        smollm2.tokenizer.decode(row.sequence.output_ids) if row.sequence.constraint.is_over else None  # type: ignore[union-attr]
        for row in rows
    ]
    cut_off = check_answers(schemas, answers)
    print(f"{cut_off} of {len(answers)} answers cut off")
    assert cut_off < 25
