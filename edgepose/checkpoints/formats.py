"""Which format a file is of, told from its content."""

from __future__ import annotations

from ..errors import CheckpointError
from . import mindspore_ckpt, mxnet_params, numpy_arrays, safetensors_file, torch_tar, zip_index
from .base import Checkpoint
from .mapped_file import MappedFile
from .torch_legacy import read_legacy
from .torch_zip import folder_of, read_zip

KNOWN = (
    "edgepose reads MXNet .params (with its -symbol.json), MindSpore .ckpt, PyTorch .pth and .pt, .safetensors, .onnx."
)
_PICKLE_PROTOCOLS = range(2, 6)
#: Files that are taken for checkpoints: position and bytes -> what they are, and what to do.
_OTHERS = (
    (4, b"TFL3", "a TensorFlow Lite model", "Run it as it is: --model FILE --spec SPEC.json."),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", KNOWN),
    (0, b"\x1f\x8b", "compressed with gzip", "Unpack it first."),
    (0, b"7z\xbc\xaf", "a 7z archive", "Unpack it first."),
    (0, b"version https://git-lfs", "only the placeholder of a Git LFS file", "Fetch the file itself: git lfs pull."),
    (0, b"<", "a web page or XML, not weights", "A download may have given an error page; download it again."),
)


def read_by_content(file: MappedFile) -> Checkpoint:
    """Read a file with the reader of its format.

    Raises
    ------
    CheckpointError
        If the format is not known, or the file is damaged.
    DependencyError
        If a library that reads the format is not installed.
    """
    # First, because its first bytes are a size, which may look like any magic number; a brace after it is certain.
    if safetensors_file.looks_like_safetensors(file):
        return safetensors_file.read_safetensors(file)
    if file.has(mxnet_params.MAGIC):
        return mxnet_params.read_params(file)
    if any(file.has(signature) for signature in zip_index.SIGNATURES):
        return _read_archive(file)
    if file.has(numpy_arrays.MAGIC):
        return numpy_arrays.read_npy(file)
    if file.size > 1 and file.data[0] == 0x80 and file.data[1] in _PICKLE_PROTOCOLS:
        return read_legacy(file)
    if file.has(torch_tar.MAGIC, torch_tar.MAGIC_AT):
        return torch_tar.read_tar(file)
    if encryption := mindspore_ckpt.ENCRYPTIONS.get(bytes(file.data[:4])):
        raise file.error(
            f"is an encrypted MindSpore file ({encryption}).",
            hint="Decrypt it with its key: mindspore.load_checkpoint(FILE, dec_key=KEY), then save_checkpoint.",
        )
    for position, magic, kind, hint in _OTHERS:
        if file.has(magic, position):
            raise file.error(f"is {kind}.", hint=hint)
    return _read_messages(file)


def _read_archive(file: MappedFile) -> Checkpoint:
    archive = zip_index.ZipIndex(file)
    folder = folder_of(archive)
    if folder is not None:
        return read_zip(file, archive, folder)
    if archive.members and all(name.endswith(".npy") for name in archive.members):
        return numpy_arrays.read_npz(file, archive)
    names = ", ".join(f"{name!r:.80}" for name in list(archive.members)[:5]) or "nothing"
    raise file.error(
        f"is a zip archive of {names}: neither a PyTorch checkpoint nor NumPy arrays.",
        hint="If a checkpoint is in it, unpack it first.",
    )


def _read_messages(file: MappedFile) -> Checkpoint:
    """Formats of protocol buffers, which have no magic number."""
    from . import onnx_file

    if mindspore_ckpt.looks_like_ckpt(file):
        return mindspore_ckpt.read_ckpt(file)
    if mindspore_ckpt.looks_like_mindir(file):
        raise file.error("is a MindIR model, not a checkpoint.", hint="Give the .ckpt that it was exported from.")
    if onnx_file.looks_like_onnx(file):
        return onnx_file.read_onnx(file)
    start = bytes(file.data[:16])
    raise CheckpointError(f"'{file.name}' is of no known format; it starts with {start!r}.", hint=KNOWN)
