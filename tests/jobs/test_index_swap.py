from __future__ import annotations

import pytest

from genai.errors import ConfigError
from genai.jobs.index_swap import new_embedding


def test_a_new_encoder_has_nothing_of_the_old_one() -> None:
    made = new_embedding("hf:org/name", ['embedding.query_prompt="query: "', "embedding.dimension=64"])
    assert (made.model, made.query_prompt, made.dimension) == ("hf:org/name", "query: ", 64)
    assert (made.backend, made.document_prompt) == ("auto", None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("embedding.dimenson=64", "did you mean 'dimension'?"),
        ("embedding.dimension=-1", "must be a whole number above 0"),
        ("search.k=3", "this is no setting of the encoder"),
        ("embedding.api_key", "an override is KEY=VALUE"),
    ],
)
def test_a_wrong_setting_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        new_embedding("m", [override])
    assert message in str(caught.value)
