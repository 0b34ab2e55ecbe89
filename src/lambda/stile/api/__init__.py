"""HTTP dialects: the only room that knows paths, methods and headers."""
