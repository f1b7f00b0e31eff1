"""Lengths of time in training: `3ep` epochs, `500ba` batches (optimizer steps), `2e9tok` tokens, `1000sp` samples.

The notation is Composer's, so that `max_duration`, `t_warmup`, `eval_interval` and `save_interval` read as in
llm-foundry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

Unit = Literal["ep", "ba", "tok", "sp", "dur"]
UNITS: tuple[Unit, ...] = ("ep", "ba", "tok", "sp", "dur")
EXAMPLE = "write a number and a unit: 3ep (epochs), 500ba (batches), 2e9tok (tokens), 1000sp (samples)"
LONGEST = 1e18
"""Durations end here, so that sums of them stay whole 64-bit numbers."""

_PATTERN = re.compile(r"(?P<value>\d+(?:_\d+)*(?:\.\d+)?(?:[eE]\+?\d+)?|\.\d+)\s*(?P<unit>ep|ba|tok|sp|dur)", re.ASCII)


@dataclass(frozen=True)
class Duration:
    """A length of training. `dur` is a share of `max_duration`, between 0 and 1; all other units are whole numbers."""

    value: float
    unit: Unit

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}" if self.unit == "dur" else f"{int(self.value)}{self.unit}"

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Read `3ep`, `500ba`, `2e9tok`, `1000sp` or `0.1dur`.

        Raises:
            ValueError: `text` is no duration; the message holds an example.
        """
        match = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"{text!r} is not a duration: {EXAMPLE}")
        value = float(match["value"].replace("_", ""))
        unit = cast(Unit, match["unit"])
        if unit == "dur":
            if value > 1:
                raise ValueError(f"{text!r} is not a duration: a share of max_duration lies between 0dur and 1dur")
        elif value >= LONGEST:
            raise ValueError(f"{text!r} is not a duration: more than any run can last")
        elif value != int(value):
            raise ValueError(f"{text!r} is not a duration: '{unit}' takes a whole number")
        return cls(value, unit)
