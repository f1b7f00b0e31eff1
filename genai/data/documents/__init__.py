"""Files to text: PDF, HTML, Markdown, Word and plain text, with their pages and headings.

`parsing` reads a file in this process; `isolated` does so in a process of its own, which may hang, crash or run out of
memory without harm. What may come from anybody belongs there.
"""

from genai.data.documents.isolated import IsolatedParser, ParseLimits
from genai.data.documents.parsed import ParsedDocument, Section
from genai.data.documents.parsing import DOCUMENT_SUFFIXES, parse

__all__ = ["DOCUMENT_SUFFIXES", "IsolatedParser", "ParseLimits", "ParsedDocument", "Section", "parse"]
