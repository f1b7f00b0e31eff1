"""Queries made from a corpus: written by a language model or taken from the text, and kept when they find their
passage.
"""

from genai.embedding.tuning.synthetic.drafts import Dropped, Made, MadeCounts
from genai.embedding.tuning.synthetic.estimating import Estimate, check_cost, estimate
from genai.embedding.tuning.synthetic.making import make_queries

__all__ = ["Dropped", "Estimate", "Made", "MadeCounts", "check_cost", "estimate", "make_queries"]
