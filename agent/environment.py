"""What a command finds around it: its user's home and a clean environment.

The agent's own environment is never passed on: it belongs to whoever started the agent (a unit file, a shell with
secrets in it), and a command must see the same on every host.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from agent.wire.record import record

__all__ = ["Account", "account", "clean_environment"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@record
class Account:
    """The user that commands run as."""

    name: str
    home: str
    shell: str

    @property
    def directory(self) -> str:
        """Where a command starts: at home, or at the root where there is no home (as sshd does)."""
        return self.home if os.path.isdir(self.home) else "/"


def account(name: str | None = None) -> Account:
    """Return the account `name`, or the agent's own. Raises KeyError for a name that is not known here."""
    if name is not None:
        entry = pwd.getpwnam(name)
        return Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container may run us as a user without a name
        return Account(str(uid), "/", "/bin/sh")
    return Account(entry.pw_name, entry.pw_dir, entry.pw_shell or "/bin/sh")


def clean_environment(
    who: Account, *, host: str, run: str, extra: Mapping[str, str], terminal: str | None = None
) -> dict[str, str]:
    """Return the whole environment of a command. `extra` are the controller's additions, which win; `terminal` is the
    kind of terminal that it has (TERM), if any."""
    return {
        "PATH": _PATH,
        "HOME": who.home,
        "USER": who.name,
        "LOGNAME": who.name,
        "SHELL": who.shell,
        "LANG": os.environ.get("LANG") or "C.UTF-8",
        "FLEET_HOST": host,
        "FLEET_RUN": run,
        **({} if terminal is None else {"TERM": terminal}),
        **extra,
    }
