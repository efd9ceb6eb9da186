"""Python's search for garbage, seldom enough that starting up does not wait for it.

torch and transformers bring 3,000 modules that stay until the end, as does the graph of a large
study. Searching them again and again, and once more at exit, is a third of a small job's time.
"""

import atexit
import gc

# new objects before a search; searches before one of older objects, and of the oldest
SELDOM = (50_000, 20, 100)


def collect_seldom() -> None:
    """Search for garbage seldom in this process, and not at all when it ends."""
    gc.set_threshold(*SELDOM)
    atexit.register(gc.freeze)
