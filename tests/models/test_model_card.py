import yaml

from genai.models.model_card import ModelCard


def front_matter(card: str) -> dict[str, object]:
    _, text, _ = card.split("---\n", 2)
    return dict(yaml.safe_load(text))


def test_says_what_is_known() -> None:
    card = ModelCard(
        name="faq-lora",
        base_model="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        method="LoRA, r 16",
        data={"faq.jsonl": "sha256:abc"},
        metrics={"eval/loss": 2.8612345678},
        notes="Trained on FAQ.",
    ).render()
    assert front_matter(card) == {
        "license": "apache-2.0",
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["genai"],
    }
    assert "# faq-lora" in card
    assert "| faq.jsonl | sha256:abc |" in card
    assert "| eval/loss | 2.86123 |" in card
    assert "Trained on FAQ." in card
    assert "AutoModelForCausalLM" in card


def test_leaves_out_what_is_not_known() -> None:
    card = ModelCard(name="x").render()
    assert "license" not in front_matter(card)
    assert "## Data" not in card
    assert "## Results" not in card


def test_nothing_escapes_its_place() -> None:
    card = ModelCard(
        name="<script>alert(1)</script>\n# evil",
        base_model='x"\nlicense: mit',
        data={"a|b\n": "<img>"},
    ).render()
    assert front_matter(card)["base_model"] == 'x"\nlicense: mit'
    assert "license" not in front_matter(card)
    assert "<script>" not in card
    assert "<img>" not in card
    assert "a\\|b" in card
