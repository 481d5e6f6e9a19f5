"""What a pickle may name, and the inert records that stand for it.

PyTorch checkpoints are pickles, and a pickle names functions and classes that loading would import and call.  Nothing
is imported or called here: each name on the lists below stands for a record that holds data and can do nothing.  Any
other name refuses the whole file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import UnsafeCheckpointError
from .elements import ITEM_SIZES, MAX_DIMENSIONS
from .mapped_file import MappedFile

#: A key and its value in a dict.
_BYTES_PER_ITEM = 208


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """An object whose content is of no interest: no weight, and not even looked at."""

    name: str


@dataclass(frozen=True, slots=True)
class ElementType:
    """A dtype, or the storage class that goes with it.

    Attributes
    ----------
    name
        Its name in PyTorch.
    element
        The element type; None if it has no exact array type. ``uint8`` for untyped bytes.
    size
        Bytes of one element.
    """

    name: str
    element: str | None
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of numbers that tensors are views of.

    Attributes
    ----------
    key
        Under which name the file keeps its bytes.
    type
        What its elements are.
    count
        Number of elements.
    offset
        Where in the bytes of ``key`` it starts, in elements.
    """

    key: str
    type: ElementType
    count: int
    offset: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A strided view of a storage; offset and strides in elements of ``type``."""

    storage: Storage
    type: ElementType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Callee:
    """A function or class that a pickle may name, and what its call stands for."""

    name: str
    build: Callable[[MappedFile, tuple[Any, ...]], object]


def _opaque(name: str) -> Callee:
    return Callee(name, lambda _file, _arguments: Opaque(name))


def _numbers(value: object) -> tuple[int, ...] | None:
    """A short run of integers; None for anything else."""
    if not isinstance(value, tuple | list) or len(value) > MAX_DIMENSIONS:
        return None
    return tuple(value) if all(type(number) is int for number in value) else None


def _tensor(file: MappedFile, arguments: tuple[Any, ...]) -> Tensor:
    """``(storage, offset, shape, strides, ...)``; the third rebuild function adds the dtype as seventh argument."""
    if len(arguments) >= 4 and isinstance(arguments[0], Storage) and type(arguments[1]) is int:
        shape, strides = _numbers(arguments[2]), _numbers(arguments[3])
        if shape is not None and strides is not None and len(shape) == len(strides):
            return Tensor(arguments[0], arguments[0].type, arguments[1], shape, strides)
    raise file.error("is damaged: a tensor is described in a way that PyTorch does not.")


def _typed_tensor(file: MappedFile, arguments: tuple[Any, ...]) -> Tensor:
    tensor = _tensor(file, arguments)
    if len(arguments) < 7 or not isinstance(arguments[6], ElementType):
        raise file.error("is damaged: a tensor is described in a way that PyTorch does not.")
    return Tensor(tensor.storage, arguments[6], tensor.offset, tensor.shape, tensor.strides)


def _wrapped(file: MappedFile, arguments: tuple[Any, ...]) -> object:
    """A parameter, or a tensor copied to a device: the tensor in it."""
    return arguments[0] if arguments and isinstance(arguments[0], Tensor) else Opaque("torch.Tensor")


def _subclassed(file: MappedFile, arguments: tuple[Any, ...]) -> object:
    """``(function, class, arguments of the function, state)``."""
    if len(arguments) < 3 or not isinstance(arguments[0], Callee) or not isinstance(arguments[2], tuple):
        raise file.error("is damaged: a tensor is described in a way that PyTorch does not.")
    if arguments[0].build is _subclassed:  # a chain of these could be of any depth
        return Opaque("torch.Tensor")
    return arguments[0].build(file, arguments[2])


def _size(file: MappedFile, arguments: tuple[Any, ...]) -> object:
    return (_numbers(arguments[0]) if arguments else None) or ()


def _mapping(file: MappedFile, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """An OrderedDict and its kin; Python 2 gave the items as pairs."""
    table: dict[Any, Any] = {}
    pairs = arguments[0] if arguments and isinstance(arguments[0], list) else ()
    file.memory.take(_BYTES_PER_ITEM * len(pairs), "the pickle")  # the same list may be asked for again and again
    for pair in pairs:
        if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str):
            table[pair[0]] = pair[1]
    return table


def _encoded(file: MappedFile, arguments: tuple[Any, ...]) -> object:
    """How protocol 2 spells bytes: text in latin-1."""
    if len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] in ("latin1", "latin-1"):
        file.memory.take(len(arguments[0]), "a string of bytes")
        return arguments[0].encode("latin-1", "replace")
    return Opaque("bytes")


def _member(file: MappedFile, arguments: tuple[Any, ...]) -> object:
    """``getattr`` of a class on the list, which mmengine's history of losses needs; of anything else it is refused."""
    if len(arguments) == 2 and isinstance(arguments[0], Callee) and arguments[0].name in _DATA_CLASSES:
        return Opaque(arguments[0].name)
    raise unsafe(file, "builtins.getattr")


def unsafe(file: MappedFile, name: str) -> UnsafeCheckpointError:
    """The error that the file asks for ``name``."""
    return UnsafeCheckpointError(
        f"'{file.name}' was not loaded: it asks for {name[:200]!r}, and loading it would run that.",
        hint="Save only the weights where the model was trained: torch.save(model.state_dict(), 'weights.pth').",
    )


#: Storage class -> element type and bytes of one element. Quantized storages have scales that no array can carry.
_STORAGES = {
    "DoubleStorage": ("float64", 8), "FloatStorage": ("float32", 4), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1), "BoolStorage": ("bool", 1),
    "ComplexDoubleStorage": ("complex128", 16), "ComplexFloatStorage": ("complex64", 8),
    "QInt8Storage": (None, 1), "QUInt8Storage": (None, 1), "QInt32Storage": (None, 4), "QUInt4x2Storage": (None, 1),
    "QUInt2x4Storage": (None, 1), "UntypedStorage": ("uint8", 1), "_UntypedStorage": ("uint8", 1),
}  # fmt: skip
_DTYPE_ALIASES = {
    "float": "float32", "double": "float64", "half": "float16", "long": "int64", "int": "int32", "short": "int16",
    "cfloat": "complex64", "cdouble": "complex128",
}  # fmt: skip
#: Dtypes that have no exact array type -> bytes of one element.
_OTHER_DTYPES = {
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "qint8": 1,
    "quint8": 1, "qint32": 4, "quint4x2": 1, "quint2x4": 1, "complex32": 4,
}  # fmt: skip
_TENSOR_CLASSES = [
    f"{module}.{kind}Tensor"
    for module in ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse")
    for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
]
#: Plain data that training scripts put beside the weights, by frameworks whose checkpoints are in use.
_DATA_CLASSES = {
    "builtins.bool", "builtins.bytearray", "builtins.bytes", "builtins.complex", "builtins.dict", "builtins.float",
    "builtins.frozenset", "builtins.int", "builtins.list", "builtins.object", "builtins.range", "builtins.set",
    "builtins.slice", "builtins.str", "builtins.tuple",
    "argparse.Namespace", "collections.deque", "copyreg._reconstructor", "types.SimpleNamespace", "typing.Any",
    "datetime.date", "datetime.datetime", "datetime.timedelta", "datetime.timezone",
    "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.WindowsPath",
    "pathlib._local.PosixPath", "pathlib._local.WindowsPath",
    "addict.addict.Dict", "easydict.EasyDict", "yacs.config.CfgNode", "mmcv.utils.config.ConfigDict",
    "mmengine.config.config.ConfigDict", "mmengine.logging.history_buffer.HistoryBuffer",
    "lightning_fabric.utilities.data.AttributeDict", "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "numpy.ndarray", "numpy.dtype",
    *(f"numpy.{core}.{name}" for core in ("core", "_core")
      for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Int32", "Int64", "Float32", "Float64", "Str")),
    "torch.Tensor", "torch.Generator", "torch.device", "torch.storage.TypedStorage",
    "torch.nn.parameter.Buffer", "torch.serialization._get_layout", "torch.per_tensor_affine",
    "torch.per_tensor_symmetric", "torch.per_channel_affine", "torch.per_channel_symmetric",
    "torch.per_channel_affine_float_qparams",
    *(f"torch._utils._rebuild_{kind}" for kind in ("sparse_tensor", "sparse_csr_tensor", "nested_tensor", "qtensor",
      "meta_tensor_no_storage", "wrapper_subclass", "device_tensor_from_numpy", "xla_tensor")),
    *_TENSOR_CLASSES,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[[MappedFile, tuple[Any, ...]], object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch.nn.parameter.Parameter": _wrapped,
    "torch._utils._rebuild_parameter": _wrapped,
    "torch._utils._rebuild_parameter_with_state": _wrapped,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _wrapped,
    "torch._tensor._rebuild_from_type": _subclassed,
    "torch._tensor._rebuild_from_type_v2": _subclassed,
    "torch.tensor._rebuild_from_type": _subclassed,
    "torch.Size": _size,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    "_codecs.encode": _encoded,
    "builtins.getattr": _member,
}
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def _known() -> dict[str, object]:
    """Every name that a pickle may have."""
    known: dict[str, object] = {name: _opaque(name) for name in _DATA_CLASSES}
    known |= {name: Callee(name, build) for name, build in _FUNCTIONS.items()}
    for name, (element, size) in _STORAGES.items():
        known |= {f"{module}.{name}": ElementType(name, element, size) for module in ("torch", "torch.cuda")}
        known[f"torch.storage.{name}"] = ElementType(name, element, size)
    known |= {f"torch.{name}": ElementType(name, name, size) for name, size in ITEM_SIZES.items()}
    known |= {f"torch.{alias}": known[f"torch.{name}"] for alias, name in _DTYPE_ALIASES.items()}
    known |= {f"torch.{name}": ElementType(name, None, size) for name, size in _OTHER_DTYPES.items()}
    return known


_KNOWN = _known()


def resolve(file: MappedFile, module: str, name: str) -> object:
    """The record that stands for a name.

    Raises
    ------
    UnsafeCheckpointError
        If the name is not on the lists.
    """
    full = f"{_OLD_MODULES.get(module, module)}.{name}"
    if full not in _KNOWN:
        raise unsafe(file, f"{module}.{name}")
    return _KNOWN[full]
