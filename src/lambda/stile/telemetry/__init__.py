"""What is seen of the gateway: one line for each call, with its metrics, and what never gets into one."""
