"""Write tests/metrics/trec_eval.json: rankings, grades, and what trec_eval says about them.

    pip install pytrec_eval-terrier==0.5.11 scipy
    python scripts/trec_eval_reference.py

The tests hold `genai.metrics.retrieval` against this file, so that nobody needs trec_eval to run them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytrec_eval

PATH = Path(__file__).resolve().parents[1] / "tests" / "metrics" / "trec_eval.json"
NUM_QUERIES, NUM_DOCUMENTS = 40, 30
CUTS = (1, 5, 10, 20)
MEASURES = ("recall", "P", "map_cut", "ndcg_cut", "success")


def main() -> None:
    """Rankings of all documents with scores that are all different, so that no tie has to be broken."""
    generator = random.Random(7)
    documents = [f"d{number:02}" for number in range(NUM_DOCUMENTS)]
    run, grades = {}, {}
    for number in range(NUM_QUERIES):
        ranked = generator.sample(documents, NUM_DOCUMENTS)
        relevant = generator.sample(documents, generator.choice([1, 1, 2, 5, 15]))
        run[f"q{number}"] = {name: float(NUM_DOCUMENTS - rank) for rank, name in enumerate(ranked)}
        grades[f"q{number}"] = {name: generator.randint(1, 3) for name in relevant}
    wanted = {f"{measure}.{','.join(map(str, CUTS))}" for measure in MEASURES}
    values = pytrec_eval.RelevanceEvaluator(grades, {*wanted, "recip_rank"}).evaluate(run)
    queries = [
        {"ranked": list(run[name]), "grades": grades[name], "values": dict(sorted(values[name].items()))}
        for name in run
    ]
    text = ",\n".join(json.dumps(query) for query in queries)
    PATH.write_text(f"[\n{text}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
