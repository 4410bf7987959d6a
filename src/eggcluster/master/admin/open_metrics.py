"""Metrics as text, in the format of OpenMetrics 1.0. Pure; runs in the master."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Kind = Literal["counter", "gauge", "histogram", "info"]
Labels = Mapping[str, str | int]


@dataclass
class Family:
    """All samples of one metric. `name` is without the suffixes that a kind has; `help` ends without a full stop."""

    name: str
    kind: Kind
    help: str
    lines: list[str] = field(default_factory=list)

    def add(self, value: float, **labels: str | int) -> "Family":
        """Add a sample; return the family."""
        suffix = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        self.lines.append(_sample(self.name + suffix, labels, value))
        return self

    def add_histogram(self, bounds: Sequence[float], counts: Sequence[int], total: float) -> "Family":
        """Add a histogram: `counts` has one number more than `bounds`; `total` is the sum of what was observed."""
        below = 0
        for bound, count in zip((*map(_number, bounds), "+Inf"), counts, strict=True):
            below += count
            self.lines.append(_sample(f"{self.name}_bucket", {"le": bound}, below))
        self.lines.append(_sample(f"{self.name}_count", {}, below))
        self.lines.append(_sample(f"{self.name}_sum", {}, total))
        return self


def render(families: Iterable[Family]) -> bytes:
    """Return the text of all families that have samples."""
    lines: list[str] = []
    for family in families:
        if family.lines:
            lines += (f"# TYPE {family.name} {family.kind}", f"# HELP {family.name} {family.help}.", *family.lines)
    return "\n".join((*lines, "# EOF\n")).encode()


def _sample(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {_number(value)}" if inside else f"{name} {_number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if isinstance(value, int) else repr(value)
