from __future__ import annotations

import json
from pathlib import Path

from genai.config.eval import DatasetConfig
from genai.data.retrieval.labelled import read_held_out
from genai.data.retrieval.records import HeldOutQuery, Passage, RetrievalData
from genai.evaluation.datasets import load_dataset
from genai.jobs.embed_finetune_data import write_split


def test_held_out_queries_that_were_made_are_marked_for_an_evaluation(tmp_path: Path) -> None:
    made = HeldOutQuery(query="made", relevant={"a": 1.0}, provenance={"method": "title_body"})
    asked = HeldOutQuery(query="asked by people", relevant={"a": 2.0})
    data = RetrievalData(
        passages=(Passage(key="a", text="A.", document="a"),), train=(), validation=(), test=(made, asked)
    )
    write_split(tmp_path, data)
    path = tmp_path / "test.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"query": "made", "relevant": {"a": 1.0}, "synthetic": True},
        {"query": "asked by people", "relevant": {"a": 2.0}},
    ]
    assert [query.query for query in read_held_out(str(path))] == ["made", "asked by people"]
    dataset = load_dataset(DatasetConfig(name="held", path=str(path), kind="retrieval"), seed=17)
    assert [example.synthetic for example in dataset.examples] == [True, False]
    assert dataset.synthetic
