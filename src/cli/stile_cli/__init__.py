"""`stile`: the command line of a Stile gateway. It speaks REST with the gateway and with nobody else."""

__version__ = "0.1.0"
