"""Foreign text in a line of the access log, and the time of a request. Pure; used in the app workers.

A log line is one line, whatever a client sends: it holds no control character, no quote that ends its field, and no
character that changes the order in which a terminal shows the others.
"""

from datetime import datetime, tzinfo

from eggcluster.wording import one_line

# The CLF names months in English, and strftime in the language of the locale.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def escaped(value: bytes) -> str:
    """Return bytes from outside as text for a quoted field of a log line.

    UTF-8 is shown as such. Quotes and backslashes get a backslash. Whatever `str.isprintable` does not call printable
    (control characters, bidi marks, line separators, unassigned characters) is shown by its number, and so is a byte
    that is not UTF-8: `\\x1b`, `\\u202e`, `\\U000e0001`.
    """
    return escaped_text(value.decode("utf-8", "surrogateescape"))


def escaped_text(text: str) -> str:
    """Return text from outside as `escaped` does; a lone surrogate is shown by its number."""
    if '"' in text or "\\" in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return one_line(text)


class Timestamps:
    """Writes Unix times in one time zone; a text is computed once a second.

    `zone` None is the zone of the machine, asked for each second: its offset may change. Threads may share an object.
    """

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._clf: tuple[int, str] = (-1, "")  # one assignment replaces both, so no thread sees half
        self._iso: tuple[int, str, str] = (-1, "", "")

    def clf(self, time: float) -> str:
        """Return a time as in the Common Log Format: `[28/Nov/2026:07:29:57 +0000]`."""
        second = int(time)
        known, text = self._clf
        if known != second:
            at = self._at(second)
            text = f"[{at:%d}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S %z}]"
            self._clf = second, text
        return text

    def iso(self, time: float) -> str:
        """Return a time as in RFC 3339, with milliseconds: `2026-11-28T07:29:57.250+00:00`."""
        second = int(time)
        known, text, offset = self._iso
        if known != second:
            whole = self._at(second).isoformat()
            text, offset = whole[:19], whole[19:]
            self._iso = second, text, offset
        return f"{text}.{int((time - second) * 1000):03d}{offset}"

    def _at(self, second: int) -> datetime:
        if self._zone is None:
            return datetime.fromtimestamp(second).astimezone()
        return datetime.fromtimestamp(second, self._zone)
