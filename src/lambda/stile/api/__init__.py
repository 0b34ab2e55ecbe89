"""HTTP dialects: the only room that knows the web framework."""
