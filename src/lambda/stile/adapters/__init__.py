"""One outside system per file, each behind a port."""
