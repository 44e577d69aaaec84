"""Frames of the channel, as a pure machine: bytes in, frames out (no I/O)."""

from __future__ import annotations
