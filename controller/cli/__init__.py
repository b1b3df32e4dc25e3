"""The command line `fleet`. Each module either holds some commands or reads the words for them.

Commands read options, call the rest of `controller` and write what comes back. Whatever takes time to import is
imported inside the command that needs it: `fleet --help` must not wait for TLS.
"""

from __future__ import annotations

import sys

__all__ = ["run_and_leave"]

_EXIT_INTERRUPTED = 130  # as in `controller.results`, which may not have been loaded yet

TYPE_CHECKING = False  # see `controller`

if TYPE_CHECKING:
    from typing import NoReturn


def run_and_leave() -> NoReturn:
    """Be the process `fleet`: run its command line and leave."""
    import os

    try:
        code = _run()
    except KeyboardInterrupt:  # before `main`, which answers all others, was there to answer it, or after it
        code = _EXIT_INTERRUPTED
    # Taking hundreds of modules apart takes longer than `true` on a host, and the kernel does it for nothing.
    os._exit(code)


def _run() -> int:
    import gc

    # Starting up makes some ten thousand objects that all stay. To look through them again and again for rubbish would
    # take a tenth of the time.
    gc.set_threshold(50_000, 20, 50)
    from agent.lazily import put_off

    put_off("inspect")
    from controller.cli.main import main

    code = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError):  # closed, or its reader has gone: `main` has said what there is to say
            pass
    return code
