"""Who dies when memory runs out: what the agent runs, and not the agent.

A machine that is out of memory is one that its admin needs to reach. What took the memory is hardly ever the agent,
but the kernel goes by points. sshd lowers its own in the same way, and gives its sessions theirs back.
"""

from __future__ import annotations

__all__ = ["protect", "restore"]

_FILE = "/proc/self/oom_score_adj"  # proc_pid_oom_score_adj(5)
# A process of -1000 is never chosen; one of -900 is when nine tenths of the memory are its own, and then rightly.
_LAST = -900


def protect(path: str = _FILE) -> str | None:
    """Let others be chosen before this process and what it forks. Returns the value for `restore`, None when nothing
    was changed: only root may, and some containers' root may not."""
    try:
        with open(path) as file:
            before = file.read().strip()
        if int(before) <= _LAST:
            return None  # whoever started us has gone further
        with open(path, "w") as file:
            file.write(str(_LAST))
    except OSError:
        return None
    return before


def restore(before: str | None, path: str = _FILE) -> None:
    """Take back what `protect` did, in a process that inherited it."""
    if before is None:
        return
    try:
        with open(path, "w") as file:
            file.write(before)
    except OSError:  # /proc is gone or read-only since: then the command is spared too, and nothing is broken by that
        pass
