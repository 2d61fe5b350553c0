"""Plain values as text: how solver and checker talk. Standard library only.

Only the exact built-in types below exist here; an instance of a subclass is refused, so an object
whose `__eq__` always says yes, or a float that overloads subtraction, never reaches a test.
"""

import json
from typing import Any

MAX_DEPTH = 60


class ValueRefused(Exception):
    """A value that does not travel, or text that is not a value."""


def encode(value: Any, depth: int = 0) -> list[Any]:
    """Turn a plain value into nested lists that JSON can hold.

    Raises:
        ValueRefused: another type, a subclass, or nesting deeper than MAX_DEPTH.
    """
    if depth > MAX_DEPTH:
        raise ValueRefused("nested too deeply")
    kind = type(value)
    if value is None:
        return ["none"]
    if kind is bool:
        return ["bool", value]
    if kind is int:
        return ["int", hex(value)]
    if kind is float:
        return ["float", value.hex()]
    if kind is complex:
        return ["complex", value.real.hex(), value.imag.hex()]
    if kind is str:
        return ["str", value.encode("utf-8", "surrogatepass").hex()]
    if kind is bytes:
        return ["bytes", value.hex()]
    if kind in (list, tuple, set, frozenset):
        return [kind.__name__, [encode(item, depth + 1) for item in value]]
    if kind is dict:
        pairs = [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in value.items()]
        return ["dict", pairs]
    raise ValueRefused(f"values of type {kind.__name__} do not travel")


_COLLECTIONS: dict[str, Any] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def decode(data: Any, depth: int = 0) -> Any:
    """Rebuild a value.

    Raises:
        ValueRefused: the text was not made by `encode`.
    """
    if depth > MAX_DEPTH:
        raise ValueRefused("nested too deeply")
    try:
        return _decode(data, depth)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise ValueRefused("not an encoded value") from error


def _decode(data: Any, depth: int) -> Any:
    kind, rest = data[0], data[1:]
    if kind == "none":
        return None
    if kind == "bool":
        if type(rest[0]) is not bool:
            raise ValueError
        return rest[0]
    if kind == "int":
        return int(rest[0], 16)
    if kind == "float":
        return float.fromhex(rest[0])
    if kind == "complex":
        return complex(float.fromhex(rest[0]), float.fromhex(rest[1]))
    if kind == "str":
        return bytes.fromhex(rest[0]).decode("utf-8", "surrogatepass")
    if kind == "bytes":
        return bytes.fromhex(rest[0])
    if kind == "dict":
        return {decode(k, depth + 1): decode(v, depth + 1) for k, v in rest[0]}
    return _COLLECTIONS[kind](decode(item, depth + 1) for item in rest[0])


def to_line(message: dict[str, Any]) -> bytes:
    """One message as one line of ASCII."""
    return json.dumps(message).encode("ascii") + b"\n"
