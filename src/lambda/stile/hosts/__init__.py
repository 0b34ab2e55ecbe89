"""Hosts run any ASGI app and know nothing of the gateway."""
