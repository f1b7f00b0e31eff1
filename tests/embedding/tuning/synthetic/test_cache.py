import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from genai.config.embed_finetune import GeneratorConfig
from genai.embedding.tuning.synthetic.cache import Answer, Prompt, answers_there, open_cache
from genai.errors import DataError, GenaiError

CONFIG = GeneratorConfig(model="m")
PROMPT = Prompt(text="Text: a\nQuestion:", seed=17, kind="question 0")


def answer(key: str, text: str = "How?") -> Answer:
    return Answer(key=key, generator="g", prompt=PROMPT, text=text)


def test_answers_stay(cache: Path) -> None:
    with open_cache(cache) as answers:
        assert answers.get(["a", "b"]) == {}
        answers.put([answer("a"), answer("b", "Why?\ud800")])
        answers.put([answer("a", "another one")])
    with open_cache(cache) as answers:
        assert answers.get(["b", "a", "c"]) == {"a": "How?", "b": "Why??"}
    assert answers_there(cache, ["a", "c"]) == {"a"}


def test_more_keys_than_sqlite_takes_at_once(cache: Path) -> None:
    with open_cache(cache) as answers:
        answers.put([answer(str(n)) for n in range(1234)])
        assert len(answers.get(map(str, range(2000)))) == 1234


def test_looking_makes_no_file(cache: Path) -> None:
    assert answers_there(cache, ["a"]) == set()
    assert not cache.exists()


def test_the_file_can_be_read_by_anybody(cache: Path) -> None:
    with open_cache(cache) as answers:
        answers.put([answer("a")])
    connection = sqlite3.connect(cache)
    assert connection.execute("SELECT generator, prompt, seed, answer FROM answers").fetchall() == [
        ("g", PROMPT.text, 17, "How?")
    ]
    connection.close()


def test_a_key_is_of_all_that_the_answer_depends_on() -> None:
    keys = {
        PROMPT.key("g", CONFIG),
        PROMPT.key("h", CONFIG),
        replace(PROMPT, text="b").key("g", CONFIG),
        replace(PROMPT, seed=18).key("g", CONFIG),
        *(
            PROMPT.key("g", replace(CONFIG, **change))  # type: ignore[arg-type]
            for change in ({"max_new_tokens": 9}, {"temperature": 0.0}, {"top_p": 0.5})
        ),
    }
    assert len(keys) == 7
    same = replace(CONFIG, batch_size=99, timeout_s=1.0, model="as the name says", usd_per_million_input_tokens=3.0)
    assert replace(PROMPT, kind="other").key("g", same) == PROMPT.key("g", CONFIG)


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to look like one" * 30, b"SQLite format 3\0" * 99]
)
def test_a_damaged_file(cache: Path, content: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)
    with (
        pytest.raises(DataError, match=r"answers\.sqlite: the file of answers is damaged.*\(remove it"),
        open_cache(cache),
    ):
        pass


def test_another_database(cache: Path) -> None:
    cache.parent.mkdir()
    connection = sqlite3.connect(cache)
    connection.execute("CREATE TABLE answers (question TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(DataError, match="or another file"), open_cache(cache):
        pass


def test_a_folder_in_its_place(cache: Path) -> None:
    cache.mkdir(parents=True)
    with pytest.raises(GenaiError, match="cannot be opened"), open_cache(cache):
        pass
