"""The garbage collector, told what a server is: much that stays, little that dies in cycles."""

import gc

GC_THRESHOLD = 20_000  # allocations of tracked objects; CPython's default is 700


def settle() -> None:
    """Take what the start has made out of the collector's rounds, and let these come less often.

    Calls make hardly any cycles; with the defaults the collector took a tenth of each one's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)
