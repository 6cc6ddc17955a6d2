"""The types of arguments of public functions, where a caller may have no type checker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

from dmsign_fast.errors import ParameterError

__all__ = [
    "BYTES",
    "FUNCTION",
    "MAPPING",
    "NUMBER",
    "PATH",
    "PATHS",
    "SECONDS",
    "TEXT",
    "TEXTS",
    "Kind",
    "check_type",
    "instance",
    "several",
    "takes",
]

_Taking = TypeVar("_Taking", bound=Callable[..., Any])


class Kind:
    """Which values fit, and ``give``, what a caller should give instead of others."""

    def __init__(self, give: str, fits: Callable[[object], bool]) -> None:
        self.give, self.fits = give, fits

    @property
    def or_none(self) -> Kind:
        """The same, or None."""
        return Kind(f"{self.give}, or None", lambda value: value is None or self.fits(value))


def instance(kinds: type | tuple[type, ...], give: str) -> Kind:
    """The instances of a type, or of one of several types."""
    return Kind(give, lambda value: isinstance(value, kinds))


def several(kind: Kind, give: str) -> Kind:
    """Tuples and lists of what fits a kind."""
    return Kind(give, lambda value: isinstance(value, tuple | list) and all(map(kind.fits, value)))


def _maps_text(value: object) -> bool:
    return isinstance(value, Mapping) and TEXTS.fits((*value, *value.values()))


PATH = instance(Path, "a pathlib.Path")
PATHS = several(PATH, "a tuple of paths")
TEXT = instance(str, "text, a str")
TEXTS = several(TEXT, "a tuple of text")
MAPPING = Kind("a mapping of text to text, such as a dict", _maps_text)
BYTES = instance((bytes, bytearray, memoryview), "bytes")
NUMBER = instance(SupportsIndex, "a whole number")
SECONDS = instance((int, float), "a number of seconds")
FUNCTION = Kind("a function", callable)


def check_type(what: str, value: object, kinds: type | tuple[type, ...], give: str) -> None:
    """Refuse a value of another type.

    Raises:
        ParameterError: ``value`` is of none of the ``kinds``; ``give`` says what to give instead.
    """
    if not isinstance(value, kinds):
        raise ParameterError(f"{what} is of type {type(value).__name__}: give {give}")


def takes(**kinds: Kind) -> Callable[[_Taking], _Taking]:
    """Let a function or a class refuse arguments of other kinds, with a ParameterError."""

    def decorate(function: _Taking) -> _Taking:
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)  # type: ignore[misc]
            return function
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        name = function.__qualname__.removesuffix(".__init__")

        @wraps(function)
        def checked(*arguments: Any, **options: Any) -> Any:
            for argument, value in (*zip(names, arguments, strict=False), *options.items()):
                kind = kinds.get(argument)
                if kind and not kind.fits(value):
                    what = f"{argument} of {name} is of type {type(value).__name__}"
                    raise ParameterError(f"{what}: give {kind.give}")
            return function(*arguments, **options)

        return checked  # type: ignore[return-value]

    return decorate
