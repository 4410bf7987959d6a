"""One option: where it can be given, and what documents say of it. Runs in the process that starts a cluster."""

from dataclasses import dataclass

from eggcluster.options.cluster_options import default_of
from eggcluster.options.option_type import OptionType, switch

SWITCH = switch()


@dataclass(frozen=True)
class Option:
    """One row of the table. `flags` are as click takes them; `default` is text for documents, if the field's own value
    does not say enough."""

    field: str
    kind: OptionType
    help: str
    metavar: str = ""
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    default: str = ""
    in_file: bool = True
    is_path: bool = False
    is_many: bool = False
    is_secret: bool = False

    @property
    def flag(self) -> str:
        """The option's name in an error line, if it came from the command line."""
        long = [flag for flag in self.flags if flag.startswith("--")]
        return long[0].partition("/")[0] if long else self.metavar

    @property
    def is_turned_off(self) -> bool:
        """Whether the flag can only turn the option off."""
        return self.is_switch and self.flag.startswith("--no-") and not self.field.startswith("no_")

    @property
    def is_switch(self) -> bool:
        """Whether the flag takes no value."""
        return self.kind is SWITCH


def row(field: str, kind: OptionType, help: str, metavar: str = "", **rest: object) -> Option:
    """Return a row of the table; its flag is the field's name, unless `flags` are given in `rest`."""
    flags = rest.pop("flags", (f"--{field.replace('_', '-')}",))
    return Option(field, kind, help, metavar, flags=flags, **rest)  # type: ignore[arg-type]


def default_text(option: Option) -> str:
    """Return the default as documents show it."""
    if option.default:
        return option.default
    default = default_of(option.field)
    if isinstance(default, bool):
        return "on" if default else "off"
    return "" if default in (None, (), "") else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
