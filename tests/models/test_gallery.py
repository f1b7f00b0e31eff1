import re

import pytest

from genai.errors import UsageError
from genai.models.gallery import GALLERY, find_entry

# hidden, layers, heads, kv heads, head size, intermediate, vocabulary, tied, norms on queries and keys
SHAPES = {
    "smollm2-135m-instruct": (576, 30, 9, 3, 64, 1536, 49152, True, False),
    "smollm2-360m-instruct": (960, 32, 15, 5, 64, 2560, 49152, True, False),
    "smollm2-1.7b-instruct": (2048, 24, 32, 32, 64, 8192, 49152, True, False),
    "qwen3-0.6b": (1024, 28, 16, 8, 128, 3072, 151936, True, True),
    "qwen3-1.7b": (2048, 28, 16, 8, 128, 6144, 151936, True, True),
    "qwen3-4b": (2560, 36, 32, 8, 128, 9728, 151936, True, True),
    "qwen3-8b": (4096, 36, 32, 8, 128, 12288, 151936, False, True),
    "llama-3.2-1b-instruct": (2048, 16, 32, 8, 64, 8192, 128256, True, False),
    "llama-3.2-3b-instruct": (3072, 28, 24, 8, 128, 8192, 128256, True, False),
    "llama-3.1-8b-instruct": (4096, 32, 32, 8, 128, 14336, 128256, False, False),
    "mistral-7b-instruct-v0.3": (4096, 32, 32, 8, 128, 14336, 32768, False, False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_follow_from_the_architecture(name: str) -> None:
    hidden, layers, heads, kv_heads, head_dim, intermediate, vocabulary, tied, qk_norm = SHAPES[name]
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim + (2 * head_dim if qk_norm else 0)
    block = attention + 3 * hidden * intermediate + 2 * hidden
    embeddings = vocabulary * hidden * (1 if tied else 2)
    assert GALLERY[name].parameters == embeddings + layers * block + hidden


@pytest.mark.parametrize("entry", GALLERY.values(), ids=lambda entry: entry.name)
def test_every_entry_is_complete(entry: object) -> None:
    entry = find_entry(entry.name)  # type: ignore[attr-defined]
    assert re.fullmatch(r"[a-z0-9.-]+", entry.name)
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.hub.repo_id)
    assert 64 <= entry.context_length <= 131_072
    assert entry.licence
    for member, sha256 in entry.package.members.items() if entry.package else ():
        assert member.startswith(entry.package.root)  # type: ignore[union-attr]
        assert re.fullmatch(r"[0-9a-f]{64}", sha256)


def test_models_of_meta_and_google_are_gated() -> None:
    assert {entry.hub.repo_id.partition("/")[0] for entry in GALLERY.values() if entry.hub.gated} == {
        "meta-llama",
        "google",
    }


def test_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="no model 'smolm2-135m' in the gallery") as caught:
        find_entry("smolm2-135m")
    assert caught.value.fix == "did you mean 'gallery:smollm2-135m-instruct'?"


def test_name_like_no_other_points_at_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        find_entry("xyzzy")
    assert caught.value.fix == "see: genai models ls"
