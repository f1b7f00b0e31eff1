"""Text of unknown origin, made safe to show: it can neither steer a terminal nor hide what it says."""

from __future__ import annotations

import re

# Source of the grammar: ECMA-48, 5.4 (CSI) and 5.6 (control strings DCS, SOS, OSC, PM, APC, ended by ST or BEL).
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d\x9e\x9f]).*?(?:\x1b\\|\x9c|\x07|\Z)"
    r"|\x1b[ -/]*[0-~]?",
    re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Directional formatting, invisible operators, line separators and tag characters: they change how a text reads unseen.
_INVISIBLE = re.compile(r"[\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def strip_controls(text: str) -> str:
    """`text` without escape sequences and control characters other than tab and newline; what hides is made visible.

    Characters that turn the direction of writing, and other invisible ones, become `<U+202E>`; half a surrogate pair
    becomes U+FFFD, so that the result can always be encoded.
    """
    text = _ESCAPE_SEQUENCE.sub("", text.replace("\r\n", "\n"))
    text = _INVISIBLE.sub(lambda match: f"<U+{ord(match[0]):04X}>", _CONTROL.sub("", text))
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
