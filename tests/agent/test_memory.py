"""Giving memory back: less is held, and all that was let go still works."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agent import memory

PROGRAM = """\
import json, re
from agent import memory
import agent.server, ssl
def resident(kind):
    return int(re.search(rf"^{kind}:\\s+(\\d+)", open("/proc/self/status").read(), re.M)[1])
memory.use_one_heap()
text = resident("RssFile")
memory.give_back()
after = resident("RssFile")
context, certificate = agent.server.server_context()   # OpenSSL's text is read again
print(json.dumps([text, after, len(certificate)]))
"""


def test_text_is_let_go_and_comes_back_when_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, after, certificate = json.loads(done.stdout)
    assert after < before - 1000  # a megabyte at least: what is in use at that moment comes back at once
    assert certificate > 200


def test_only_text_of_files_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody may have written to would be lost: relocated data, the heap, private mappings."""
    maps = tmp_path / "maps"
    maps.write_text(
        "1000-3000 r-xp 00000000 fe:00 1 /usr/lib/libone.so\n"
        "3000-4000 r--p 00000000 fe:00 1 /usr/lib/libone.so\n"
        "4000-5000 rw-p 00000000 fe:00 1 /usr/lib/libone.so\n"
        "5000-6000 rwxp 00000000 fe:00 1 /usr/lib/libone.so\n"
        "6000-7000 r-xp 00000000 00:00 0 \n"
        "7000-8000 r-xp 00000000 00:00 0 [vdso]\n"
        "a000-b000 r-xp 00000000 fe:00 2 /usr/lib/a name with blanks.so (deleted)\n"
    )
    let_go: list[tuple[int, int, int]] = []

    class Libc:
        @staticmethod
        def madvise(start, length, advice) -> None:
            let_go.append((start.value, length.value, advice))

    monkeypatch.setattr(memory, "_LIBC", Libc)
    memory.use_one_heap()
    memory.give_back(str(maps))
    assert let_go == [(0x1000, 0x2000, 4), (0xA000, 0x1000, 4)]


def test_without_a_map_nothing_happens(tmp_path: Path) -> None:
    memory.give_back(str(tmp_path / "none"))


def test_it_does_not_disturb_threads_at_work() -> None:
    stop = threading.Event()
    counted: list[int] = []

    def work() -> None:
        while not stop.is_set():
            counted.append(len(json.dumps(list(range(100)))))

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        memory.give_back()
    stop.set()
    thread.join()
    assert set(counted) == {390}
