"""Rules: values in, decision out. Nothing here reads a clock, the environment, a file or a socket."""
