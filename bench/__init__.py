"""The benchmark: the gateway against a bare relay and, if asked for, LiteLLM's proxy. `python -m bench --help`."""
