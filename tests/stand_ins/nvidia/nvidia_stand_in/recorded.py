"""Classes and enums exactly as recorded: what was not recorded is not there, and arguments are checked."""

from __future__ import annotations

import json
import operator
import re
from pathlib import Path

INTERFACES = Path(__file__).parent.parent.parent / "interfaces"


class Enumerated:
    """A member of an enum as pybind11 makes it."""

    def __init__(self, name, value):
        self.name, self.value = name, value

    def __int__(self):
        return self.value

    def __index__(self):
        return self.value

    def __eq__(self, other):
        return type(other) is type(self) and other.value == self.value

    def __hash__(self):
        return hash((type(self).__name__, self.value))

    def __repr__(self):
        return f"<{type(self).__name__}.{self.name}: {self.value}>"


def make_enum(name, members):
    made = type(name.split(".")[-1], (Enumerated,), {})
    made.__members__ = {}
    for member, value in members.items():
        made.__members__[member] = made(member, value)
        setattr(made, member, made.__members__[member])
    return made


def parameters(signature):
    """Names, types and whether there is a default, without ``self``."""
    inside = signature[1 : signature.rindex(")")]
    parts = [p.strip() for p in re.split(r",(?![^\[(<]*[\])>])", inside) if p.strip()]
    found = []
    for part in parts:
        name, _, kind = part.partition(":")
        kind, default, _ = kind.partition("=")
        found.append((name.strip(), kind.strip(), bool(default)))
    return [p for p in found if p[0] != "self"]


class Interface:
    """A recorded version of TensorRT's bindings.

    Parameters
    ----------
    version
        The file's name behind the software's.
    behaviour
        Class -> what its objects do; methods of the same names, and plain attributes for properties.
    software
        Whose bindings they are.
    """

    def __init__(self, version, behaviour, software="tensorrt"):
        self.data = json.loads((INTERFACES / f"{software}_{version}.json").read_text())
        self.behaviour = behaviour
        self.names = {name: make_enum(name, members) for name, members in self.data["enums"].items()}
        for name in self.data["classes"]:
            if name in behaviour:
                self.names[name] = self._class(name)
        for name in [n for n in self.names if "." in n]:
            outer, inner = name.split(".")
            if outer in self.names:
                setattr(self.names[outer], inner, self.names[name])

    def wrap(self, thing):
        """The object that a caller sees."""
        if isinstance(thing, (list, tuple)) and thing and getattr(type(thing[0]), "shown_as", None):
            return [self.wrap(t) for t in thing]
        shown = getattr(type(thing), "shown_as", None)
        if shown is None:
            return thing
        facade = self.names[shown].__new__(self.names[shown])
        object.__setattr__(facade, "_real", thing)
        return facade

    def _class(self, name):
        recorded, real = self.data["classes"][name], self.behaviour[name]
        body = {"__slots__": ("_real", "__weakref__")} if name != "ILogger" else {}
        for method, signatures in recorded["methods"].items():
            if method not in ("__init__", "__len__", "__getitem__"):
                body[method] = self._method(name, method, signatures, real)
        for attribute, writable in recorded["properties"].items():
            body[attribute] = self._property(name, attribute, writable)
        body["__init__"] = self._constructor(name, recorded["methods"].get("__init__", []), real)
        if hasattr(real, "__bytes__"):
            body["__bytes__"] = lambda facade: bytes(facade._real)
        return type(name, (), body)

    def _constructor(self, name, signatures, real):
        def construct(facade, *given, **named):
            if not signatures:
                raise TypeError(f"{name}: No constructor defined!")
            arguments = self._check(name, "__init__", signatures, given, named)
            if name != "ILogger":
                object.__setattr__(facade, "_real", real(self, *arguments))

        return construct

    def _method(self, owner, method, signatures, real):
        def call(facade, *given, **named):
            arguments = self._check(owner, method, signatures, given, named)
            if not hasattr(real, method):
                raise AssertionError(f"The stand-in has no {owner}.{method}.")
            return self.wrap(getattr(facade._real, method)(*arguments))

        return call

    def _property(self, owner, attribute, writable):
        def get(facade):
            return self.wrap(getattr(facade._real, attribute))

        def put(facade, value):
            setattr(facade._real, attribute, value)

        return property(get, put if writable else None)

    def _check(self, owner, method, signatures, given, named):
        """The arguments in their order, those behind the facades; TypeError if no overload takes them."""
        for signature in signatures:
            wanted = parameters(signature)
            if len(given) > len(wanted) or set(named) - {n for n, _, _ in wanted[len(given) :]}:
                continue
            values = {**dict(zip((n for n, _, _ in wanted), given, strict=False)), **named}
            if any(n not in values and not default for n, _, default in wanted):
                continue
            if all(self._fits(values[n], kind) for n, kind, _ in wanted if n in values):
                return [getattr(values[n], "_real", values[n]) for n, _, _ in wanted if n in values]
        raise TypeError(f"{owner}.{method}(): incompatible function arguments {given} {named}; {signatures}")

    def _fits(self, value, kind):
        kind = kind.replace("nvinfer1::", "").replace("nvonnxparser::", "").replace("::", ".")
        if kind in ("int", "typing.SupportsInt"):
            return not isinstance(value, (str, bytes, float)) and (hasattr(value, "__index__"))
        if kind in ("str", "bool"):
            return type(value).__name__ == kind
        if kind in ("buffer", "typing_extensions.Buffer"):
            return isinstance(value, (bytes, bytearray, memoryview)) or hasattr(value, "__bytes__")
        if kind in ("Dims", "tuple", "list"):
            plain = isinstance(value, {"tuple": tuple, "list": list}.get(kind, (tuple, list, Dims)))
            return plain and all(operator.index(d) is not None for d in value)
        known = self.names.get(kind)
        return known is None or isinstance(value, known)


class Dims:
    """Lengths of a tensor."""

    def __init__(self, lengths):
        self._lengths = tuple(int(d) for d in lengths)

    def __len__(self):
        return len(self._lengths)

    def __getitem__(self, index):
        return self._lengths[index]
