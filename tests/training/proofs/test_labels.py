import dataclasses

import numpy as np
import pytest

from genai.config.finetune import LabelsProofConfig
from genai.data.tokenized import TokenizedRows
from genai.errors import GateError
from genai.training.proofs import labels
from genai.training.proofs.labels import prove_labels

PAIRS = [("Is it raining?", "No."), ("What does a bolt cost?", "About 2 €."), ("Any more?\n", "Not today.\nSorry.")]
CFG = LabelsProofConfig()


def with_flags(rows, change):
    """The rows with other trained flags: `change` gets token ids and flags of each example and returns new flags."""
    examples = [rows.example(index) for index in range(len(rows))]
    flags = [change(ids.copy(), trained.copy()) for ids, trained in examples]
    return dataclasses.replace(rows, trained=np.concatenate(flags))


def refutation(rows, tokenizer, cfg=CFG, **kwargs):
    with pytest.raises(GateError) as caught:
        prove_labels(rows, tokenizer, cfg, **kwargs)
    assert all(problem.fix for problem in caught.value.problems)
    return [problem.message for problem in caught.value.problems]


def test_sound_rows_pass_and_are_counted(chat_rows, tiny_tokenizer):
    rows = chat_rows(PAIRS)
    result = prove_labels(rows, tiny_tokenizer, CFG)
    trained = sum(len(answer.encode()) + 1 for _, answer in PAIRS)
    assert result.name == "labels" and result.ok
    assert result.numbers["trained_tokens"] == trained
    assert result.numbers["trained_share"] == pytest.approx(trained / rows.num_tokens)
    assert result.numbers["rows_that_train_a_stop_token_share"] == 1.0
    assert "in 3 answers of 3 rows" in result.details[0]
    assert len(result.details) == 1


def test_a_row_that_trains_nothing(chat_rows, tiny_tokenizer):
    rows = chat_rows(PAIRS)
    rows.trained[rows.offsets[1] : rows.offsets[2]] = False
    (message,) = refutation(rows, tiny_tokenizer, name_row=lambda index: f"faq.jsonl:{index + 1}")
    assert message == "1 of 3 rows train nothing: faq.jsonl:2"


def test_an_end_of_turn_that_is_never_trained(chat_rows, tiny_tokenizer):
    end = tiny_tokenizer.eos_token_id
    rows = with_flags(chat_rows(PAIRS), lambda ids, trained: trained & (ids != end))
    (message,) = refutation(rows, tiny_tokenizer)
    assert "('<|im_end|>') is ever trained" in message and "answers end in '.'" in message


def test_an_end_of_turn_that_the_generation_config_does_not_know(chat_rows, tiny_tokenizer):
    pairs = [(question, answer + "<|pad|>") for question, answer in PAIRS]
    rows = with_flags(chat_rows(pairs), lambda ids, trained: trained & (ids != tiny_tokenizer.eos_token_id))
    assert "is ever trained" in refutation(rows, tiny_tokenizer)[0]
    assert prove_labels(rows, tiny_tokenizer, CFG, stop_token_ids=[tiny_tokenizer.pad_token_id]).ok


def test_single_answers_without_an_end_are_told(chat_rows, tiny_tokenizer):
    rows = chat_rows(PAIRS)
    rows.trained[rows.offsets[2] - 1] = False
    assert "1 rows train no token that ends generation: 1" in prove_labels(rows, tiny_tokenizer, CFG).details


def test_a_doubled_begin_of_sequence(chat_rows, tiny_tokenizer):
    rows = chat_rows(PAIRS)
    ids = [rows.example(index)[0].tolist() for index in range(3)]
    flags = [rows.example(index)[1].tolist() for index in range(3)]
    ids[2] = [tiny_tokenizer.bos_token_id, *ids[2]]
    flags[2] = [False, *flags[2]]
    (message,) = refutation(TokenizedRows.from_lists(ids, flags), tiny_tokenizer)
    assert message == "1 of 3 rows begin with '<|im_start|>' twice: 2"


def test_a_doubled_newline_before_the_answers(chat_rows, tiny_tokenizer):
    rows = chat_rows([(question, "\n" + answer) for question, answer in PAIRS])
    (message,) = refutation(rows, tiny_tokenizer)
    assert message.startswith("3 of 3 answers begin with a newline after the one")


def test_a_newline_merged_with_the_one_of_the_template(tiny_tokenizer):
    """As tokenizers with a token for two newlines do it: the prompt's last token is the answer's first one."""
    merged = tiny_tokenizer(PAIRS[0][0])["input_ids"] + [len(tiny_tokenizer)]
    tokenizer = _WithTokenForTwoNewlines(tiny_tokenizer)
    ids = [*merged, *tiny_tokenizer("No.<|im_end|>")["input_ids"]]
    for first in (len(merged) - 1, len(merged)):  # the merged token trained, or not
        rows = TokenizedRows.from_lists([ids], [[index >= first for index in range(len(ids))]])
        assert "begin with a newline after the one" in refutation(rows, tokenizer)[0]


class _WithTokenForTwoNewlines:
    """The tiny tokenizer with one more token."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def decode(self, ids, **kwargs):
        pieces = ["\n\n" if token == len(self._inner) else self._inner.decode([token], **kwargs) for token in ids]
        return "".join(pieces)


def test_single_answers_that_begin_with_a_newline_are_told(chat_rows, tiny_tokenizer):
    pairs = [(f"Question {index}", "\nodd" if index == 7 else "fine") for index in range(200)]
    result = prove_labels(chat_rows(pairs), tiny_tokenizer, CFG)
    assert result.details[1] == "answers that begin with a second newline: 7"


def test_plain_text_may_begin_with_newlines(tiny_tokenizer):
    ids = tiny_tokenizer("\n\nOnce upon a time<|im_end|>")["input_ids"]
    assert prove_labels(TokenizedRows.from_lists([ids] * 3), tiny_tokenizer, CFG).ok


@pytest.mark.parametrize(("limit", "fails"), [(0.3, True), (0.34, False)])
def test_answers_cut_off(chat_rows, tiny_tokenizer, limit, fails):
    rows = chat_rows(PAIRS, answer_cut=np.array([False, True, False]))
    cfg = LabelsProofConfig(max_cut_answers=limit)
    if fails:
        assert "33.3% of the answers are cut off" in refutation(rows, tiny_tokenizer, cfg)[0]
    else:
        assert prove_labels(rows, tiny_tokenizer, cfg).numbers["cut_answers_share"] == pytest.approx(1 / 3)


def test_every_fault_is_named_at_once(chat_rows, tiny_tokenizer):
    rows = chat_rows([(q, "\n" + a) for q, a in PAIRS], answer_cut=np.array([False, True, False]))
    rows.trained[rows.offsets[2] :] = False
    assert len(refutation(rows, tiny_tokenizer)) == 3


def test_chunks_give_what_the_whole_gives(chat_rows, tiny_tokenizer, monkeypatch):
    rows = chat_rows([(f"Q{index}", ("\n" if index % 90 == 5 else "") + "A" * index) for index in range(1, 200)])
    monkeypatch.setattr(labels, "MAX_DOUBLED_NEWLINES", 1.0)
    whole = prove_labels(rows, tiny_tokenizer, CFG)
    for size in (7, 64):
        monkeypatch.setattr(labels, "_CHUNK_TOKENS", size)
        chunked = prove_labels(rows, tiny_tokenizer, CFG)
        assert chunked.details == whole.details and chunked.numbers == whole.numbers
    assert whole.details[1].endswith("second newline: 4, 94, 184")
