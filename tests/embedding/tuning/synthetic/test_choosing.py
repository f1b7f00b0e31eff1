from collections.abc import Callable

from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.choosing import choose_passages


def test_all_that_say_something(corpus: list[Passage], new_passage: Callable[..., Passage]) -> None:
    assert choose_passages([*corpus, new_passage("n", "1.2 - 3"), new_passage("e", "")], None, seed=1) == corpus
    assert choose_passages(corpus, 9, seed=1) == corpus


def test_some_of_them(new_passage: Callable[..., Passage]) -> None:
    many = [new_passage(str(n), f"Passage number {n}.") for n in range(200)]
    chosen = choose_passages(many, 50, seed=1)
    assert len(chosen) == 50
    assert chosen == sorted(chosen, key=many.index)
    assert {each.key for each in choose_passages(many[::-1], 50, seed=1)} == {each.key for each in chosen}
    assert chosen != choose_passages(many, 50, seed=2)
    more = [*many, *(new_passage(f"new {n}", f"Another passage {n}.") for n in range(20))]
    assert len({each.key for each in choose_passages(more, 50, seed=1)} & {each.key for each in chosen}) >= 40
