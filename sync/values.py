"""Values: what one cell of a synced table can hold, exactly as SQLite holds it.

A value is NULL, a 64-bit signed integer, a double (never NaN: SQLite stores NULL instead), a text or a blob, told apart
by type: `1` is not `1.0`, NULL is not `''`, text is not blob. A text is a `str` when it is *clean*; a TEXT value that
is not (an old till writing windows-1251, a NUL inside) keeps its bytes in a `RawText`, so that sync carries it
unchanged instead of guessing or failing.

Used by columns.py (the wire), the policies (who wins) and everything that compares values.
"""

from typing import TypeAlias

import msgspec

INT_MIN = -(2**63)
INT_MAX = 2**63 - 1


class RawText(msgspec.Struct, frozen=True):
    """The exact bytes of a TEXT value that is not clean: a NUL inside, or not UTF-8. Build it with `text_value`."""

    raw: bytes


Value: TypeAlias = int | float | str | bytes | RawText | None


def is_clean(text: str) -> bool:
    """Tell whether the text may travel as it is: no NUL inside, no lone surrogate (so it has UTF-8 bytes)."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_value(raw: bytes) -> str | RawText:
    """Return the value of a TEXT cell from its bytes, any bytes: a `str` if they are clean UTF-8, else a `RawText`."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return RawText(raw)
    return RawText(raw) if "\0" in text else text


def value_order(value: Value) -> tuple[int, int | float | bytes]:
    """Return a sort key with SQLite's order: NULL < numbers < text (by UTF-8 bytes) < blob.

    Numbers compare by their exact size whatever their type, so `1` and `1.0`, and `0.0` and `-0.0`, have equal keys, as
    in SQLite. A `RawText` sorts by its bytes among the texts. Raises TypeError for what is not a Value (bool too).
    """
    kind = type(value)
    if value is None:
        return (0, b"")
    if isinstance(value, int | float) and kind is not bool:
        return (1, value)
    if isinstance(value, str):
        return (2, value.encode(errors="surrogatepass"))
    if isinstance(value, RawText):
        return (2, value.raw)
    if isinstance(value, bytes):
        return (3, value)
    raise TypeError(f"not a value: {kind.__name__}")
