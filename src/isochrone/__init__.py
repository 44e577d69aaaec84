"""Isochrone: an open distributed AI compute network. See ARCHITECTURE.md for the house."""

__version__ = "0.4.0"
