"""What was asked and what is right, as one hash: of data sets that are made rather than read, such as lm-eval's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict

from genai.evaluation.records import Example


def hash_of_examples(examples: Iterable[Example]) -> str:
    """sha256, in hex, of ids, questions and right answers, in their order; the name of the data set is no part of it.

    Two runs with the same hash were asked word for word the same, solved examples included.
    """
    digest = hashlib.sha256()
    for example in examples:
        content = [example.id, asdict(example.question), example.references, example.gold, dict(example.relevant)]
        digest.update(json.dumps(content, sort_keys=True, default=str).encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()
