"""What an agent with nothing to do gives back to the system.

An agent idles for most of its life, on machines that have better uses for their memory. glibc keeps what threads that
have ended used, and the pages of programs and libraries that only the start needed stay mapped. Where the system is not
glibc on Linux, nothing happens.
"""

from __future__ import annotations

import ctypes
import gc

__all__ = ["give_back", "use_one_heap"]

_M_ARENA_MAX = -8  # mallopt(3)
_MADV_DONTNEED = 4  # madvise(2): the next access takes the page from the page cache again

_LIBC = ctypes.CDLL(None)


def use_one_heap() -> None:
    """Have all threads allocate from one heap; to be called before there are any.

    glibc gives each thread one of up to eight heaps a core, and none of them ever shrinks: after 2,000 connections the
    agent held 45 MB instead of 27. The interpreter's lock leaves little for several heaps to speed up.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_ARENA_MAX, 1)


def give_back(maps: str = "/proc/self/maps") -> None:
    """Return free memory of the heap, and let go of pages of program text until they are used again.

    The second part frees nothing that another process could not have had (the pages are the page cache's); it keeps
    what this process holds on to at what it uses. `maps` is its memory map, proc_pid_maps(5).
    """
    gc.collect()
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(ctypes.c_size_t(0))
    try:
        with open(maps) as file:
            lines = file.readlines()
    except OSError:  # no /proc, or no descriptor left: another time
        return
    for line in lines:
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        # Text of files alone: nobody has written to it, so what is let go can be read again.
        if rights == "r-xp" and path and path[0].startswith("/"):
            start, end = (int(address, 16) for address in span.split("-"))
            _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_DONTNEED)
