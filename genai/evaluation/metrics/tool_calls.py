"""Whether a model called the right functions with the right arguments."""

from __future__ import annotations

from genai.evaluation.metrics.base import AnswerMetric
from genai.evaluation.records import Answer, Chat, Example, Score, Unscored
from genai.metrics.tool_calls import wrong_with_calls


class ToolCalls(AnswerMetric):
    """1 where the calls are those expected, as `genai.metrics.tool_calls` compares them. A row that expects none wants
    an answer without calls; a row without tools is left unscored.

    Args:
        in_order: the calls must come in the order in which they are expected.
        ignore_case: capital letters make no difference in texts among the arguments.
    """

    name = "tool_calls"
    what = "share of answers whose calls are those expected: functions, and arguments by value"
    kinds = ("generation",)

    def __init__(self, *, in_order: bool = False, ignore_case: bool = False) -> None:
        self._in_order = in_order
        self._ignore_case = ignore_case

    def of_answer(self, example: Example, answer: Answer) -> Score | Unscored:
        """1, or 0 with what is wrong."""
        tools = example.question.tools if isinstance(example.question, Chat) else ()
        if not tools and not example.expected_tools:
            return Unscored(reason="the row has no tools")
        try:
            note = wrong_with_calls(
                answer.tool_calls,
                example.expected_tools,
                tools,
                in_order=self._in_order,
                ignore_case=self._ignore_case,
            )
        except ValueError as error:
            return Unscored(reason=f"an expected call cannot be read: {error}")
        return Score(parts=(float(not note),), value=float(not note), note=note)
