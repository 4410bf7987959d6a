"""Converts plain values to typed ones, as strictly as msgspec. Used if msgspec cannot be loaded.

It supports the types that are sent over a channel: scalars, `list`, `tuple`, `dict`, unions, `Literal`, named tuples,
dataclasses and Structs. Any other type is a bug of this package, and a TypeError.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from eggcluster.packing.decoding import decode_any
from eggcluster.packing.values import Meta, Struct, ValidationError

_Convert = Callable[[Any], Any]


def convert(value: Any, type: Any) -> Any:
    """Return the decoded `value` as a `type`; ValidationError if it is not one."""
    return _converter(type)(value)


def decode(packed: bytes | memoryview, *, type: Any = Any) -> Any:
    """Return the value in `packed` as a `type`; raise what `decode_any` and `convert` raise."""
    return _converter(type)(decode_any(packed))


class Decoder:
    """Decodes values of one type."""

    def __init__(self, type: Any = Any) -> None:
        self._convert = _converter(type)

    def decode(self, packed: bytes | memoryview) -> Any:
        return self._convert(decode_any(packed))


@cache
def _converter(wanted: Any) -> _Convert:
    """Return the function that converts a plain value to a `wanted`."""
    origin, args = get_origin(wanted), get_args(wanted)
    if wanted in _SCALARS:
        return _SCALARS[wanted]
    if origin is Annotated:
        return _bounded(_converter(args[0]), args[1])
    if origin in (Union, UnionType):
        return _union(args)
    if origin is Literal:
        return _literal(args)
    if origin is tuple and args[1:] != (...,):
        return _row(tuple, [_converter(each) for each in args], len(args))
    if origin in (list, tuple):
        return _sequence(origin, _converter(args[0]))
    if origin is dict:
        return _mapping(_converter(args[0]), _converter(args[1]))
    return _record(wanted)


def _mismatch(expected: str, value: Any) -> ValidationError:
    return ValidationError(f"Expected `{expected}`, got `{type(value).__name__}`")


# -- scalars -----------------------------------------------------------------------------------------------


def _scalar(kind: type) -> _Convert:
    def check(value: Any) -> Any:
        if type(value) is not kind:  # a bool is not accepted as an int
            raise _mismatch(kind.__name__, value)
        return value

    return check


def _float(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise _mismatch("float", value)
    return float(value)


_SCALARS: dict[Any, _Convert] = {kind: _scalar(kind) for kind in (bool, int, str, bytes, type(None))}
_SCALARS |= {None: _SCALARS[type(None)], float: _float, Any: lambda value: value}


def _bounded(inner: _Convert, meta: Meta) -> _Convert:
    def check(value: Any) -> Any:
        number = inner(value)
        if not number > meta.gt:
            raise ValidationError(f"Expected `{type(number).__name__}` > {meta.gt}")
        return number

    return check


def _literal(allowed: Sequence[Any]) -> _Convert:
    def check(value: Any) -> Any:
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise ValidationError(f"Invalid enum value {value!r}")
        return value

    return check


def _union(members: Sequence[Any]) -> _Convert:
    """Convert to the first member that fits. A float accepts an int as well, so it comes last."""
    converters = [_converter(each) for each in sorted(members, key=lambda each: each is float)]

    def check(value: Any) -> Any:
        refusals = []
        for converter in converters:
            try:
                return converter(value)
            except ValidationError as error:
                refusals.append(str(error))
        raise ValidationError("; ".join(refusals))

    return check


# -- containers --------------------------------------------------------------------------------------------


def _sequence(kind: Callable[[Iterable[Any]], Any], inner: _Convert) -> _Convert:
    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _mismatch("array", value)
        return kind(map(inner, value))

    return check


def _row(make: Callable[[Iterable[Any]], Any], columns: Sequence[_Convert], least: int) -> _Convert:
    """Convert an array with one type per column; values after the first `least` may be missing."""
    most = len(columns)

    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _mismatch("array", value)
        if not least <= len(value) <= most:
            raise ValidationError(f"Expected `array` of length {least} to {most}, got {len(value)}")
        return make(column(each) for column, each in zip(columns, value, strict=False))

    return check


def _mapping(key: _Convert, inner: _Convert) -> _Convert:
    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _mismatch("object", value)
        return {key(name): inner(each) for name, each in value.items()}

    return check


# -- records -----------------------------------------------------------------------------------------------


def _record(cls: Any) -> _Convert:
    if not hasattr(cls, "_field_defaults") and not hasattr(cls, "__dataclass_fields__"):
        raise TypeError(f"BUG: {cls!r} cannot be sent over a channel")
    hints = get_type_hints(cls, include_extras=True)
    if hasattr(cls, "_field_defaults"):
        return _named_tuple(cls, hints)
    if issubclass(cls, Struct) and cls.packed_as_array:
        return _array_struct(cls, hints)
    return _dataclass(cls, hints)


def _named_tuple(cls: Any, hints: dict[str, Any]) -> _Convert:
    columns = [_converter(hints[name]) for name in cls._fields]
    return _row(lambda values: cls(*values), columns, len(columns) - len(cls._field_defaults))


def _dataclass(cls: Any, hints: dict[str, Any]) -> _Convert:
    columns = {each.name: (_converter(hints[each.name]), each) for each in fields(cls)}

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _mismatch("object", value)
        for name in value:
            if type(name) is not str:
                raise _mismatch("str", name)
        return _new_record(cls, columns, value)

    return check


def _array_struct(cls: Any, hints: dict[str, Any]) -> _Convert:
    columns = {each.name: (_converter(hints[each.name]), each) for each in fields(cls)}
    tag = cls.packed_tag

    def check(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _mismatch("array", value)
        if tuple(value[: len(tag)]) != tag:
            raise ValidationError(f"Expected a `{cls.__name__}`")
        return _new_record(cls, columns, dict(zip(columns, value[len(tag) :], strict=False)))

    return check


def _new_record(cls: Any, columns: dict[str, tuple[_Convert, "Field[Any]"]], given: dict[str, Any]) -> Any:
    """Return a record of these values, without calling its `__init__`, as msgspec does."""
    record = object.__new__(cls)
    for name, (converter, its) in columns.items():
        if name in given:
            value = converter(given[name])
        elif its.default_factory is not MISSING:
            value = its.default_factory()
        elif its.default is not MISSING:
            value = its.default
        else:
            raise ValidationError(f"Object missing required field `{name}`")
        object.__setattr__(record, name, value)  # it may be frozen
    return record
