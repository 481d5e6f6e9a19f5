"""CoreX's CUDA bindings."""
