"""Small tasks for lm-eval, as files of a user's own: one of each kind, on real sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

CHOICES: list[dict[str, Any]] = [
    {"text": "The capital of France is", "choices": ["London", "Paris", "Rome"], "label": 1},
    {"text": "Bricks are joined with", "choices": ["mortar", "butter", "sand paper"], "label": 0},
    {"text": "A roof keeps out the", "choices": ["rain", "rent", "road"], "label": 0},
    {"text": "Water freezes at zero degrees", "choices": ["Fahrenheit", "Kelvin", "Celsius"], "label": 2},
    {"text": "The opposite of hot is", "choices": ["warm", "cold", "wet"], "label": 1},
    {"text": "Seven days make a", "choices": ["week", "month", "minute"], "label": 0},
    {"text": "Oak is a kind of", "choices": ["stone", "tree", "metal"], "label": 1},
    {"text": "A triangle has", "choices": ["two sides", "three sides", "five sides"], "label": 1},
]
SENTENCES = [
    "A screed is a thin layer of sand and cement that is laid over a concrete floor, so that it is level. " * 6,
    "Roof tiles are laid from the eaves upwards, each row over the one below, so that the rain runs off.",
    "The gutter needs a slope; without one the water stands in it, freezes in winter, and bursts the joints.",
]
"""The first is longer than a short window."""
TEXTS = [
    {"text": "A gutter needs a slope; without one the water stands in it, freezes in winter, and bursts the joints."},
    {"text": "Roof tiles are laid from the eaves upwards, each row over the one below, so that the rain runs off."},
    {"text": "A screed is a thin layer of sand and cement on a concrete floor. " * 4},
]
BEGINNINGS = [
    {"text": "The capital of France is", "answer": "Paris"},
    {"text": "1, 2, 3, 4,", "answer": "5, 6, 7, 8, 9, 10"},
    {"text": "A brick is", "answer": "a block"},
]
TASKS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "brier_score"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "going_on": {
        "output_type": "generate_until",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\n", "."], "max_gen_toks": 8, "temperature": 0, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}, {"metric": "bleu"}],
        "filter_list": [
            {"name": "whole", "filter": [{"function": "take_first"}]},
            {
                "name": "first-word",
                "filter": [{"function": "regex", "regex_pattern": r"(\w+)"}, {"function": "take_first"}],
            },
        ],
    },
    "next_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{text}}",
        "doc_to_target": " {{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "perplexity"}],
    },
}
_ROWS = {"choices": CHOICES, "rolling": TEXTS, "going_on": BEGINNINGS, "next_word": BEGINNINGS}


def write_tasks(folder: Path) -> Path:
    """A folder with a file for each of TASKS, and a group `small` of two of them."""
    folder.mkdir()
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _ROWS[name]))
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **source, **task}))
    group = {
        "group": "small",
        "task": ["choices", "next_word"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(group))
    return folder
