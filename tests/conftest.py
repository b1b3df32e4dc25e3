"""What holds for all tests: they must not depend on how they were started."""

from __future__ import annotations

import signal

# `nohup` and a shell's `&` leave some signals ignored, and what is ignored stays so in every child. Tests send these.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
