"""The table of docs/options.md, made from the table of options. Runs in a test, which compares them."""

from eggcluster.options.option import Option, default_text
from eggcluster.options.table import OPTIONS


def options_markdown() -> str:
    """Return the table of `docs/options.md`; a test checks that the page has it."""
    lines = [
        "| command line | environment | file key | default | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    for option in OPTIONS:
        cells = (_flags_cell(option), _codes(option.env), _codes((option.field,) if option.in_file else ()))
        lines.append(f"| {' | '.join((*cells, default_text(option), option.help))} |".replace("|  |", "| |"))
    return "\n".join(line.replace("  |", " |") for line in lines) + "\n"


def _flags_cell(option: Option) -> str:
    if not option.flags:
        return f"`{option.metavar}`" if option.metavar else ""
    flags = [part for flag in option.flags for part in flag.split("/")]
    value = "" if option.is_switch else f" {option.metavar}"
    return _codes((*flags[:-1], flags[-1] + value))


def _codes(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
