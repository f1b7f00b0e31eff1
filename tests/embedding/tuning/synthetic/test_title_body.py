from collections.abc import Callable

import pytest

from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.title_body import title_body


def test_each_title_once(new_passage: Callable[..., Passage]) -> None:
    passages = [
        new_passage("1", "Sixty millimetres.", title=" Thickness of\nscreed "),
        new_passage("2", "More of it.", title="thickness of screed"),
        new_passage("3", "Untitled."),
        new_passage("4", "Nothing.", title="  "),
        new_passage("5", "Number.", title="4.2"),
        new_passage("6", "Seven.", title="Opening hours"),
    ]
    drafts = list(title_body(passages))
    assert [(draft.query, draft.passage.key) for draft in drafts] == [
        ("Thickness of screed", "1"),
        ("Opening hours", "6"),
    ]
    assert drafts[0].pair().provenance == {"method": "title_body"}


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("# Opening hours\n\nFrom seven.", "From seven."),
        ("Opening  hours: from seven.", "from seven."),
        ("Opening hours\n=====\nFrom seven.", "From seven."),
        ("Opening hoursly news.", None),
        ("The opening hours.", None),
        ("Opening hours", None),
    ],
)
def test_a_text_is_trained_on_without_its_title(
    text: str, rest: str | None, new_passage: Callable[..., Passage]
) -> None:
    (draft,) = title_body([new_passage("1", text, title="Opening hours")])
    assert draft.positive_text == rest
