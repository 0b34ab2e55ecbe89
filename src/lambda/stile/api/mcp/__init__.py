"""The Model Context Protocol: the gateway as a server of tools, resources and prompts."""
