"""Texts into chunks: slices that hold at most so many tokens and end where a reader would pause."""

from genai.data.chunking.cutting import CHUNKERS, cut
from genai.data.chunking.pieces import Piece
from genai.data.chunking.tokens import Tokens

__all__ = ["CHUNKERS", "Piece", "Tokens", "cut"]
