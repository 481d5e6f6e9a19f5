"""CoreX's port of NVIDIA's old bindings: the old names, and of the functions only those that its vendor lists."""

from __future__ import annotations

from nvidia_stand_in import cudart as theirs

_LISTED = (
    "cudaSetDevice cudaMalloc cudaMallocHost cudaMallocAsync cudaMemcpy cudaMemcpyAsync cudaFree cudaFreeHost"
    " cudaStreamCreateWithFlags cudaStreamSynchronize cudaStreamDestroy cudaEventCreateWithFlags cudaEventRecord"
    " cudaEventSynchronize cudaEventElapsedTime cudaEventDestroy cudaGetDeviceCount cudaGetDeviceProperties"
    " cudaGetLastError cudaGetErrorName cudaError_t cudaMemcpyKind"
)


def bindings():
    """Names of the module."""
    found = theirs.bindings("12.9")
    return {name: found[name] for name in _LISTED.split() if name in found}
