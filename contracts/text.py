"""Text that users are shown of other users: names, titles and pictures.

Control characters and bidirectional controls change how the text around them is shown: a name with U+202E reverses the
rest of its line. So they are removed from names and titles, and a picture with one is not shown. Message bodies keep
them: a body is what its sender typed.
Sources: Unicode Standard Annex 9 (property Bidi_Control) and Unicode Technical Report 36, section 2.
"""

import re

#: Characters that end a line or advance to another column; a space replaces them.
_BREAKS = re.compile("[\t\n\v\f\r\x85\u2028\u2029]")
#: The controls C0 and C1, and the bidirectional controls.
CONTROLS = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_CONTROLS = re.compile(f"[{CONTROLS}]")


def encodable(text: str) -> str:
    """The text with U+FFFD in place of each half of a surrogate pair, which cannot be encoded as UTF-8."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shown_text(text: str) -> str:
    """The text without controls and without whitespace at its ends; it can be encoded."""
    return _CONTROLS.sub("", _BREAKS.sub(" ", encodable(text))).strip()
