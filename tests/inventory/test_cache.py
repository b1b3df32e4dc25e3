"""The kept output of scripts: when it is used, when not, and who may see it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import Inventory, InventoryError, load
from inventory.cache import Cache, default_directory

Write = Callable[..., str]


class Counted:
    """A script that says how often it was run for its list: host1 the first time, host2 the second."""

    def __init__(self, write: Write, tmp_path: Path, warnings: list[str]) -> None:
        self.runs = tmp_path / "runs"
        self.directory = tmp_path / "cache"
        self.warnings = warnings
        self.write = write
        self.path = self.make("")

    def make(self, comment: str) -> str:
        return self.write(
            f"#!/bin/sh\n# {comment}\n"
            f'if [ $1 = --host ]; then echo "{{\\"name\\": \\"$2\\"}}"; exit; fi\n'
            f"echo >> {self.runs}\n"
            f'echo "{{\\"g\\": [\\"host$(grep -c ^ {self.runs})\\"]}}"\n',
            "inv.sh",
            0o755,
        )

    def load(self, ttl: float = 60, refresh: bool = False) -> Inventory:
        return load(
            [self.path],
            warn=self.warnings.append,
            cache_ttl=ttl,
            refresh_cache=refresh,
            cache_dir=str(self.directory),
        )

    @property
    def kept(self) -> Path:
        (path,) = self.directory.iterdir()
        return path


@pytest.fixture
def counted(write: Write, tmp_path: Path, warnings: list[str]) -> Counted:
    return Counted(write, tmp_path, warnings)


def test_off_by_default(counted: Counted) -> None:
    assert [counted.load(ttl=0).names for _ in range(2)] == [("host1",), ("host2",)]
    assert not counted.directory.exists()


def test_kept_with_the_variables_of_hosts(counted: Counted) -> None:
    for _ in range(3):
        inventory = counted.load()
        assert inventory.names == ("host1",)
        assert inventory["host1"].variables == {"name": "host1"}
    assert counted.warnings == []


def test_a_script_that_lists_all_is_kept_as_it_is(write: Write, tmp_path: Path) -> None:
    path = write('#!/bin/sh\necho \'{"g": ["a"], "_meta": {"hostvars": {"a": {"x": 1}}}}\'\n', "inv.sh", 0o755)
    for _ in range(2):
        inventory = load([path], warn=lambda text: None, cache_ttl=60, cache_dir=str(tmp_path / "cache"))
        assert inventory["a"].variables == {"x": 1}


def test_nobody_else_may_read_it(counted: Counted) -> None:
    counted.load()
    assert stat.S_IMODE(counted.kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(counted.directory.stat().st_mode) == 0o700


def test_too_old(counted: Counted) -> None:
    counted.load()
    then = counted.kept.stat().st_mtime - 61
    os.utime(counted.kept, (then, then))
    assert counted.load().names == ("host2",)
    assert counted.load().names == ("host2",)


def test_from_a_time_to_come(counted: Counted) -> None:
    counted.load()
    then = counted.kept.stat().st_mtime + 3600
    os.utime(counted.kept, (then, then))
    assert counted.load().names == ("host2",)


def test_refreshed(counted: Counted) -> None:
    assert counted.load().names == ("host1",)
    assert counted.load(refresh=True).names == ("host2",)
    assert counted.load().names == ("host2",)


def test_the_script_was_changed(counted: Counted) -> None:
    counted.load()
    counted.make("another script")
    assert counted.load().names == ("host2",)


def test_one_that_others_can_write_is_not_believed(counted: Counted) -> None:
    counted.load()
    counted.kept.chmod(0o620)
    assert counted.load().names == ("host2",)
    assert counted.warnings == [f"{counted.kept}: not used (others may read or write it)"]
    assert stat.S_IMODE(counted.kept.stat().st_mode) == 0o600


def test_a_link_is_not_followed(counted: Counted, tmp_path: Path) -> None:
    counted.load()
    kept = counted.kept
    kept.rename(tmp_path / "elsewhere")
    kept.symlink_to(tmp_path / "elsewhere")
    assert counted.load().names == ("host2",)
    assert counted.warnings == [f"{kept}: not used (too many levels of symbolic links)"]


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"text": 5}', b'{"te', b"[" * 100000])
def test_damaged(data: bytes, counted: Counted) -> None:
    counted.load()
    counted.kept.write_bytes(data)
    assert counted.load().names == ("host2",)
    assert counted.warnings == [f"{counted.kept}: not used (not what was written)"]


def test_one_of_another_script(counted: Counted) -> None:
    counted.load()
    kept = json.loads(counted.kept.read_text())
    kept["script"] = "/elsewhere"
    counted.kept.write_text(json.dumps(kept))
    assert counted.load().names == ("host2",)


def test_a_failure_is_not_kept(write: Write, tmp_path: Path) -> None:
    path = write("#!/bin/sh\nexit 1\n", "inv.sh", 0o755)
    for _ in range(2):
        with pytest.raises(InventoryError, match="exit status 1"):
            load([path], warn=lambda text: None, cache_ttl=60, cache_dir=str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()


def test_it_cannot_be_kept(counted: Counted) -> None:
    counted.directory.write_text("a file in the way")
    assert counted.load().names == ("host1",)
    assert len(counted.warnings) == 2
    assert "not used (not a directory)" in counted.warnings[0]
    assert "cannot be kept (file exists)" in counted.warnings[1]


def test_nothing_is_left_when_writing_fails(
    write: Write, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inventory.cache.os.replace", full)
    Cache(str(tmp_path / "cache"), 60, warnings.append).put(write("x"), "text")
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(warnings) == 1 and warnings[0].endswith("cannot be kept (no space left on device)")


def test_a_script_that_has_gone(write: Write, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"), 60, lambda text: None)
    path = write("x")
    cache.put(path, "text")
    assert cache.get(path) == "text"
    os.unlink(path)
    assert cache.get(path) is None


@pytest.mark.parametrize(
    ("value", "directory"),
    [("/somewhere", "/somewhere/fleet"), ("relative", "/home/me/.cache/fleet"), ("", "/home/me/.cache/fleet")],
)
def test_default_directory(value: str, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    assert default_directory() == directory


def test_the_default_directory_is_used(counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load([counted.path], warn=lambda text: None, cache_ttl=60)
    assert len(list((tmp_path / "xdg" / "fleet").iterdir())) == 1
