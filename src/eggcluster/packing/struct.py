"""Structs with msgspec's face: dataclasses that may travel as arrays. Used where msgspec cannot be loaded."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple


class Meta(NamedTuple):
    """What else must be true of a number, beside its type."""

    gt: float


class Struct:
    """A record; `array_like` ones travel as arrays of their fields, behind the name of the class where `tag` is set.

    `frozen` only makes it hashable: to enforce it would make each one four times as expensive. `gc` means nothing.
    """

    packed_as_array: ClassVar[bool] = False
    packed_tag: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(
        cls, *, array_like: bool = False, tag: bool = False, frozen: bool = False, gc: bool = True, **more: Any
    ) -> None:
        super().__init_subclass__(**more)
        cls.packed_as_array = array_like
        cls.packed_tag = (cls.__name__,) if tag else ()
        for name in cls.__annotations__:
            default = getattr(cls, name, None)
            if isinstance(default, (list, dict)):  # each record has its own, as msgspec's do
                setattr(cls, name, field(default_factory=type(default)))
        dataclass(unsafe_hash=frozen)(cls)
