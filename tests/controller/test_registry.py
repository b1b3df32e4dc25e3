"""The registry: what it holds, what is refused, and that two at once lose nothing."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import controller
from controller import registry
from controller.registry import Identity, Registry, RegistryError, load, replace_file, update

WEB1 = Identity(b"\x11" * 16, 1)
DB = Identity(b"\x22" * 16, 4_294_967_295)
FULL = Registry({"web1": WEB1, "älter": DB}, {"web": DB})
TEXT = """\
{
  "fleet": "registry/1",
  "hosts": {
    "web1": {
      "epoch": 1,
      "host_id": "11111111111111111111111111111111"
    },
    "älter": {
      "epoch": 4294967295,
      "host_id": "22222222222222222222222222222222"
    }
  },
  "pools": {
    "web": {
      "epoch": 4294967295,
      "host_id": "22222222222222222222222222222222"
    }
  }
}
"""


def refusal(path: Path) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    return caught.value


def entry(**values: object) -> str:
    """Return a registry whose one host has these values."""
    document = {"fleet": "registry/1", "hosts": {"web1": {"host_id": "11" * 16, "epoch": 1} | values}, "pools": {}}
    return json.dumps(document)


def test_lookup() -> None:
    assert FULL.lookup("web1") == WEB1
    assert FULL.lookup("web2") is None
    assert FULL.lookup("web2", "web") == DB
    assert FULL.lookup("web1", "web") == DB
    assert FULL.lookup("web1", "db") is None


def test_no_file_is_nobody_enrolled(tmp_path: Path) -> None:
    assert load(str(tmp_path / "enrolled.json")) == Registry()


def test_the_text_is_exactly_this(tmp_path: Path) -> None:
    path = tmp_path / "enrolled.json"
    assert update(str(path), lambda before: FULL) == FULL
    assert path.read_text() == TEXT
    assert load(str(path)) == FULL
    assert sorted(os.listdir(tmp_path)) == [".enrolled.json.lock", "enrolled.json"]


def test_an_update_sees_what_is_there_and_keeps_the_mode(tmp_path: Path) -> None:
    path = tmp_path / "enrolled.json"
    update(str(path), lambda before: before.adding(hosts={"web1": WEB1}))
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o664)
    after = update(str(path), lambda before: before.adding(hosts={"web2": DB}, pools={"web": DB}))
    assert after == Registry({"web1": WEB1, "web2": DB}, {"web": DB}) == load(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o664


def test_an_update_without_a_change_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "enrolled.json"
    update(str(path), lambda before: FULL)
    inode = path.stat().st_ino
    update(str(path), lambda before: FULL)
    assert path.stat().st_ino == inode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "git").mkdir()
    link = tmp_path / "enrolled.json"
    link.symlink_to("git/enrolled.json")
    update(str(link), lambda before: FULL)
    assert link.is_symlink()
    assert load(str(tmp_path / "git/enrolled.json")) == FULL


def test_a_change_that_raises_changes_nothing_and_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "enrolled.json"
    update(str(path), lambda before: FULL)

    def change(before: Registry) -> Registry:
        raise LookupError("no")

    with pytest.raises(LookupError):
        update(str(path), change)
    assert path.read_text() == TEXT
    assert update(str(path), lambda before: before) == FULL


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: Expecting value"),
        (TEXT.encode()[:-30], "not JSON: "),
        (b"<<<<<<< HEAD\n" + TEXT.encode(), "not JSON: Expecting value"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "JSON nested too deep"),
        (b"[]", "not a JSON object"),
        (b"{}", "not a fleet registry: it does not say registry/1"),
        (TEXT.replace("registry/1", "registry/2"), "not a fleet registry: it does not say registry/1"),
        (TEXT.replace('"pools"', '"hosts"'), "duplicate key"),
        (TEXT.replace("älter", "web1"), "duplicate key"),
        (TEXT.replace('"pools"', '"groups"'), "unknown key 'groups': written by a later fleet?"),
        ('{"fleet": "registry/1", "hosts": {}}', "'pools' is not an object"),
        ('{"fleet": "registry/1", "hosts": [], "pools": {}}', "'hosts' is not an object"),
        (
            '{"fleet": "registry/1", "hosts": {"web1": 1}, "pools": {}}',
            "hosts: 'web1' is not an object of host_id and epoch",
        ),
        (entry(name="x"), "hosts: 'web1' is not an object of host_id and epoch"),
        (entry(host_id="11"), "hosts: 'web1': host_id is not 32 lower-case hexadecimal digits"),
        (entry(host_id="AA" * 16), "hosts: 'web1': host_id is not 32 lower-case hexadecimal digits"),
        (entry(host_id=11), "hosts: 'web1': host_id is not 32 lower-case hexadecimal digits"),
        (entry(epoch="1"), "hosts: 'web1': epoch is not in 1..4294967295"),
        (entry(epoch=True), "hosts: 'web1': epoch is not in 1..4294967295"),
        (entry(epoch=1.0), "hosts: 'web1': epoch is not in 1..4294967295"),
        (entry(epoch=0), "hosts: 'web1': epoch is not in 1..4294967295"),
        (entry(epoch=2**32), "hosts: 'web1': epoch is not in 1..4294967295"),
        (entry(epoch=float("nan")), "NaN is not a number"),
        (entry().replace("web1", "../web1"), "hosts: '../web1' has a '/'"),
        (entry().replace("web1", "\\u001b[2J"), "hosts: '\\x1b[2J' has a character that cannot be printed"),
    ],
)
def test_what_is_no_registry_is_refused_and_left(tmp_path: Path, content: bytes | str, reason: str) -> None:
    path = tmp_path / "enrolled.json"
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(data)
    error = refusal(path)
    assert error.reason.startswith(reason)
    assert error.hint is not None
    assert error.hint.startswith("restore it from a backup or from git")
    with pytest.raises(RegistryError):
        update(str(path), lambda before: FULL)
    assert path.read_bytes() == data


def test_odd_files_are_refused_without_waiting(tmp_path: Path) -> None:
    fifo, loop, long = tmp_path / "fifo", tmp_path / "loop", tmp_path / "long"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    assert refusal(fifo).reason == "is not a regular file"
    assert refusal(tmp_path).reason == "is not a regular file"
    assert refusal(loop).reason == "too many levels of symbolic links"
    assert refusal(Path("/proc/self/mem")).reason == "input/output error"
    with long.open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    assert refusal(long).reason == "is longer than 67108864 bytes"


def test_no_folder_to_write_to(tmp_path: Path) -> None:
    path = tmp_path / "my fleet" / "enrolled.json"
    with pytest.raises(RegistryError) as caught:
        update(str(path), lambda before: FULL)
    assert str(caught.value) == f"{path}: its folder does not exist"
    assert caught.value.hint == f"mkdir -p '{tmp_path}/my fleet'"


def test_no_lock_no_update(tmp_path: Path) -> None:
    (tmp_path / ".enrolled.json.lock").mkdir()
    with pytest.raises(RegistryError) as caught:
        update(str(tmp_path / "enrolled.json"), lambda before: FULL)
    assert str(caught.value) == f"{tmp_path}/.enrolled.json.lock: is a directory"


def test_a_full_disk_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "enrolled.json"
    update(str(path), lambda before: FULL)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(registry.os, "fsync", full)
    with pytest.raises(RegistryError) as caught:
        update(str(path), lambda before: Registry())
    assert str(caught.value) == f"{path}: no space left on device"
    assert path.read_text() == TEXT
    assert sorted(os.listdir(tmp_path)) == [".enrolled.json.lock", "enrolled.json"]


def test_replace_file_gives_exactly_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for mode in (0o600, 0o644, 0o666):
        replace_file("name", b"content", mode=mode)
        assert stat.S_IMODE(Path("name").stat().st_mode) == mode


ADD_MANY = """
import sys
from controller.registry import Identity, update
path, who = sys.argv[1:]
sys.stdin.readline()  # all start together
for number in range(25):
    name = f"{who}-{number}"
    update(path, lambda before: before.adding(hosts={name: Identity(name.encode().ljust(16, b"."), 1)}))
"""


def test_four_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "enrolled.json"
    root = Path(controller.__file__).parent.parent
    processes = [
        subprocess.Popen([sys.executable, "-c", ADD_MANY, str(path), who], stdin=subprocess.PIPE, cwd=root)
        for who in "abcd"
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
    assert sorted(load(str(path)).hosts) == sorted(f"{who}-{number}" for who in "abcd" for number in range(25))
    assert sorted(os.listdir(tmp_path)) == [".enrolled.json.lock", "enrolled.json"]
