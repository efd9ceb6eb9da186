"""The C library's allocator, told to keep what is freed.

glibc gives large blocks back to the kernel, which has to find and zero new pages for the next ones:
a fifth of the time that a small model takes on a CPU, and much of what one measurement of it
differs from the next.
"""

import ctypes

# mallopt's parameters (malloc.h) and their values in bytes
KEEP = {
    -3: 1 << 30,  # M_MMAP_THRESHOLD: smaller blocks come from the heap
    -1: (1 << 31) - 1,  # M_TRIM_THRESHOLD: free memory that is kept at the heap's end
    -2: 1 << 26,  # M_TOP_PAD: by how much more than needed the heap grows
}


def keep_freed_memory() -> bool:
    """Let this process keep freed memory from now on; False if its C library is not glibc."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows
        return False
    taken = [mallopt(parameter, value) for parameter, value in KEEP.items()]
    return all(taken)
