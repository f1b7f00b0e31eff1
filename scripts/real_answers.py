"""Write tests/evaluation/metrics/real_answers.json: what a small model answers, as tests of metrics need it.

    genai models pull gallery:smollm2-135m-instruct
    python scripts/real_answers.py FOLDER_OF_THE_MODEL

Answers of people are tidy; those of models have Markdown, repetitions and words that nobody asked for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "tests" / "evaluation" / "metrics" / "real_answers.json"
MAX_TOKENS = 48
QUESTIONS = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Which planet is nearest to the sun?", "Mercury is the planet nearest to the sun."),
    ("Who wrote the play Hamlet?", "William Shakespeare wrote Hamlet."),
    ("What do bees make?", "Bees make honey and wax."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("Name three primary colours.", "Red, blue and yellow are primary colours."),
    ("What is water made of?", "Water is made of hydrogen and oxygen (H2O)."),
    ("Why is the sky blue? Answer in one sentence.", "Air scatters blue light more than red light."),
    ("What is 12 times 12?", "12 times 12 is 144."),
    ("Translate to French: Good morning, my friend.", "Bonjour, mon ami."),
    ("Translate to German: The house is small.", "Das Haus ist klein."),
    ("Write the numbers from one to five as words.", "one, two, three, four, five"),
    ("What is the boiling point of water in degrees Celsius?", "Water boils at 100 °C."),
    ("Give the opposite of 'hot'.", "cold"),
    ("In which year did the Second World War end?", "It ended in 1945."),
    ('Write a JSON object with the keys "name" and "age" for Ada, who is 36.', '{"name": "Ada", "age": 36}'),
    ("What gas do plants take in?", "Plants take in carbon dioxide."),
    ("Name the largest ocean.", "The Pacific Ocean is the largest."),
    ("Summarise: The cat sat on the mat all day because it was raining.", "A cat stayed in because of rain."),
    ("What is the chemical symbol of gold?", "Au"),
)
REVIEWS = (
    ("The food was wonderful and the waiter kind.", "positive"),
    ("I will never come back to this place.", "negative"),
    ("A film that moved me to tears of joy.", "positive"),
    ("It broke after two days.", "negative"),
    ("Best purchase of the year!", "positive"),
    ("Dull, long, and badly acted.", "negative"),
    ("The parcel arrived on Tuesday.", "neutral"),
    ("The room has two windows.", "neutral"),
    ("Terrible service, cold soup.", "negative"),
    ("My children love it.", "positive"),
    ("The train leaves at nine.", "neutral"),
    ("What a waste of money.", "negative"),
)
_REVIEW = "Is this review positive, negative or neutral? Answer with one word.\n\nReview: {text}"


def main() -> None:
    """Answers that always take the likeliest token, so that everybody gets the same."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()

    def answer(prompt: str) -> str:
        turns = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        ids = model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        text: str = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return text

    answers = [{"answer": answer(question), "reference": reference} for question, reference in QUESTIONS]
    labels = [{"answer": answer(_REVIEW.format(text=text)), "label": label} for text, label in REVIEWS]
    text = json.dumps({"answers": answers, "labels": labels}, indent=1, ensure_ascii=False)
    PATH.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
