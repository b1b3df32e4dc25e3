"""SIGKILL at random moments of a push over an existing file: the old file or the new one, whole, each time.

    FLEET_KILLS=500 pytest tests/agent/tree/test_kills.py

Without it 50. What is left of temporary names is swept by the next start, as the journal has them.
"""

from __future__ import annotations

import hashlib
import os
import random
import select
import signal
import warnings
from pathlib import Path

from agent.journal import Journal
from agent.tree.committer import Hooks
from agent.tree.options import ReceiverOptions
from agent.tree.paths import Folder
from agent.wire import file_messages as f
from agent.wire import messages as m

KILLS = int(os.environ.get("FLEET_KILLS", "50"))
RANDOM = random.Random(11)
TOKEN = "0123456789abcdef"


class Noting(Hooks):
    """Notes as the agent does."""

    def __init__(self, journal: Journal, token: str) -> None:
        self._record = journal.begin(token)

    def using(self, folder: Folder, name: str) -> None:
        self._record.note(folder.path)


def push_and_die(transfer: type, source: Path, base: Path, directory: Path, token: str, delay: float) -> bool:
    """Push in a process of its own, and kill that after `delay` seconds. Returns whether it was still at work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # pytest-xdist has a thread; the child uses nothing of it
        pid = os.fork()
    if pid == 0:
        try:
            hooks = Noting(Journal.open(str(directory)), token)
            transfer([source], base, options=ReceiverOptions(backup="~"), hooks=hooks, token=token).run()
        finally:
            os._exit(0)
    handle = os.pidfd_open(pid)
    at_work = not select.select([handle], [], [], delay)[0]
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(handle)
    return at_work


def test_old_or_new_and_whole(transfer: type, source: Path, base: Path, tmp_path: Path) -> None:
    target = base / "file"
    content = RANDOM.randbytes(3_000_000)
    target.write_bytes(content)
    killed = leftovers = replaced = 0
    for number in range(KILLS):
        old = hashlib.sha256(target.read_bytes()).digest()
        new = bytes([number % 256]) * 8 + content[8:]
        (source / "file").write_bytes(new)
        killed += push_and_die(
            transfer, source / "file", base, tmp_path, f"{TOKEN}{number:x}", RANDOM.uniform(0.001, 0.08)
        )
        now = hashlib.sha256(target.read_bytes()).digest()
        assert now in (old, hashlib.sha256(new).digest())
        replaced += now != old
        leftovers += len(list(base.glob(".*.fleet-*")))
        journal = Journal.open(str(tmp_path))
        journal.sweep(now=0.0)
        journal.close()
        assert {path.name for path in base.iterdir()} <= {"file", "file~"}
    assert killed, "none was killed in the middle"
    assert leftovers, "none was killed while it wrote"
    transfer([source / "file"], base).run()
    assert {path.name for path in base.iterdir()} <= {"file", "file~"}


def test_a_transfer_goes_on_after_a_kill(transfer: type, source: Path, base: Path, tmp_path: Path) -> None:
    """Killed before its third file is complete: also the two that came whole are there for the next one. An agent's
    next start sweeps them; of a pull they are on the operator's machine."""
    for name in ("a", "b", "c"):
        (source / name).write_bytes(RANDOM.randbytes(1_000_000))
    sources = [source / name for name in ("a", "b", "c")]

    def die(message: m.Message) -> m.Message:
        if isinstance(message, f.Close) and message.sha256 == hashlib.sha256((source / "c").read_bytes()).hexdigest():
            os.kill(os.getpid(), signal.SIGKILL)
        return message

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            transfer(sources, base, tamper=die, token=TOKEN).run()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert sorted(path.name for path in base.iterdir()) == [".a.fleet-part", ".b.fleet-part", ".c.fleet-part"]
    outcomes = transfer(sources, base).run()
    assert {outcome.note for outcome in outcomes.values()} == {"continued at byte 1000000"}
    assert sorted(path.name for path in base.iterdir()) == ["a", "b", "c"]
    assert all((base / name).read_bytes() == (source / name).read_bytes() for name in ("a", "b", "c"))
