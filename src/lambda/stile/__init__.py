"""Stile: an OpenAI-compatible gateway for one team."""

__version__ = "0.1.0"
