"""Argument types of kernels as text, and back: `float32[:,::1], const int64[::1], float64`.

As numba writes them, with `const` before arrays that are read only, `(a, b)` for tuples and
`omitted(1.0)` for an argument left at its default.
"""

from __future__ import annotations

import ast
from typing import Any

from numba import types

_DIMENSIONS = {"C": (":", "::1"), "F": ("::1", ":"), "A": (":", ":")}


def signature_text(arguments: tuple[Any, ...]) -> str:
    """The text of a tuple of numba types. Types that no kernel is called with ahead of time get
    numba's own name, which `parse_signature` refuses."""
    return ", ".join(map(_type_text, arguments))


def parse_signature(text: str) -> tuple[Any, ...]:
    """The tuple of numba types. Raises `ValueError` for what is not the text of one."""
    constant = "const "
    readable = text.replace(constant, f"{constant.strip()}.")
    try:
        match ast.parse(f"_({readable})", mode="eval").body:
            case ast.Call(func=ast.Name(), args=arguments, keywords=[]):
                return tuple(map(_type, arguments))
    except (SyntaxError, ValueError, AttributeError) as error:
        raise ValueError(f"{text!r} is not a kernel's signature") from error
    raise ValueError(f"{text!r} is not a kernel's signature")


def _type_text(kind: Any) -> str:
    if isinstance(kind, types.Array) and kind.aligned:
        return f"{'' if kind.mutable else 'const '}{kind.dtype}[{_dimensions(kind)}]"
    if isinstance(kind, types.BaseTuple) and not isinstance(kind, types.BaseNamedTuple):
        parts = ", ".join(map(_type_text, kind))
        return f"({parts},)" if len(kind) == 1 else f"({parts})"
    if isinstance(kind, types.Omitted):
        return f"omitted({kind.value!r})"
    return str(kind)


def _dimensions(array: Any) -> str:
    """`:` for each dimension, `::1` for the one whose neighbours lie side by side."""
    first, last = _DIMENSIONS[array.layout]
    if array.ndim == 1:
        return ":" if array.layout == "A" else "::1"
    if array.layout == "F":
        return ",".join([first, *[last] * (array.ndim - 1)])
    return ",".join([*[first] * (array.ndim - 1), last])


def _type(node: ast.expr) -> Any:
    match node:
        case ast.Subscript(value=ast.Attribute(value=ast.Name("const"), attr=name)):
            return _array(node, name, readonly=True)
        case ast.Subscript(value=ast.Name(name)):
            return _array(node, name, readonly=False)
        case ast.Tuple(parts):
            return types.Tuple([_type(part) for part in parts])
        case ast.Call(func=ast.Name("omitted"), args=[default]):
            return types.Omitted(ast.literal_eval(default))
        case ast.Name("none"):
            return types.none
        case ast.Name(name):
            return _scalar(name)
    raise ValueError(f"{ast.unparse(node)} is no type")


def _scalar(name: str) -> Any:
    found = types.boolean if name == "bool" else getattr(types, name)
    if not isinstance(found, types.Number | types.Boolean):
        raise ValueError(f"{name} is no number")
    return found


def _array(node: ast.Subscript, name: str, *, readonly: bool) -> Any:
    each = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    unit = [isinstance(part, ast.Slice) and part.step is not None for part in each]
    layout = "C" if unit[-1] else "F" if unit[0] else "A"
    return types.Array(_scalar(name), len(each), layout, readonly=readonly)
