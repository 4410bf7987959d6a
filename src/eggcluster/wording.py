"""Owns the sentence "did you mean …?". Runs in whoever starts a cluster."""

from collections.abc import Iterable


def near_miss(word: str, names: Iterable[str]) -> str:
    """`; did you mean "x"?` for the name nearest to `word`, or nothing where none is near."""
    import difflib  # only on the way to an error

    close = difflib.get_close_matches(word, [name for name in names if name != word], n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""


def shown(value: object) -> str:
    """A value as an error message shows it: one line, text in double quotes, a tuple's items in a row."""
    if isinstance(value, tuple) and value:
        return ", ".join(shown(each) for each in value[:5]) + (", ..." if len(value) > 5 else "")
    text = f'"{repr(value)[1:-1]}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:76] + " ..."
