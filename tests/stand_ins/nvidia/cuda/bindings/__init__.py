"""NVIDIA's CUDA bindings."""
