"""Files in memory that have no name: nobody can race for them, and nothing is left when their last descriptor closes.

Since Linux 6.3 a system may refuse those of which nobody has said whether they will be executed (vm.memfd_noexec,
memfd_create(2)). So it is said, where the kernel knows the words.
"""

from __future__ import annotations

import errno
import os

__all__ = ["memory_file"]

_MFD_NOEXEC_SEAL = 0x8  # linux/memfd.h; Python does not have them
_MFD_EXEC = 0x10


def memory_file(name: str, *, executable: bool = False) -> int:
    """Make one and return its descriptor, which is closed on exec. `name` is for people who look at /proc.

    Raises OSError: EACCES where the system allows none that can be executed.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | (_MFD_EXEC if executable else _MFD_NOEXEC_SEAL))
    except OSError as problem:
        if problem.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)
