"""Fitting a picture to a model: what of it the network sees, and the way back to the picture's pixels."""

from __future__ import annotations

from .base import Fitted, fit
from .normalise import to_tensor

__all__ = ["Fitted", "fit", "to_tensor"]
