"""The controller's key file: how it is made, and when it is refused."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from controller import keyfile
from controller.keyfile import ControllerKey, KeyFileError, create, default_name, default_path, load

MASTER = bytes(range(32))
LINE = f"fleet-key-1 ops {MASTER.hex()}\n"


def key_file(tmp_path: Path, content: bytes | str = LINE, mode: int = 0o600) -> str:
    path = tmp_path / "key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return str(path)


def refusal(path: str) -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert MASTER.hex()[:8] not in str(caught.value)
    return caught.value


def refusal_to_create(path: str, name: str = "ops") -> KeyFileError:
    with pytest.raises(KeyFileError) as caught:
        create(path, name)
    return caught.value


# Making one --------------------------------------------------------------------------------------------------------


def test_a_new_key_is_private_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a" / "fleet" / "key"
    before = os.umask(0)
    try:
        key = create(str(path), "ops", random_bytes=lambda count: MASTER[:count])
    finally:
        os.umask(before)
    assert key == ControllerKey("ops", MASTER) == load(str(path))
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]
    comment, line, end = path.read_text().split("\n")
    assert comment == "# The key of a fleet controller. Whoever reads it is ops on every host."
    assert (line + "\n", end) == (LINE, "")


def test_two_keys_differ(tmp_path: Path) -> None:
    assert create(str(tmp_path / "a"), "ops").master != create(str(tmp_path / "b"), "ops").master


def test_it_is_private_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    real = os.open

    def spy(path: str, flags: int, mode: int = 0o777) -> int:
        modes.append((flags & (os.O_CREAT | os.O_EXCL) == os.O_CREAT | os.O_EXCL, mode))
        return real(path, flags, mode)

    monkeypatch.setattr(keyfile.os, "open", spy)
    create(str(tmp_path / "key"), "ops")
    assert modes[0] == (True, 0o600)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = key_file(tmp_path, "precious")
    error = refusal_to_create(path)
    assert str(error) == f"{path}: there is a key already"
    assert error.hint == "move it away first, or choose another file"
    assert Path(path).read_text() == "precious"
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    assert refusal_to_create(str(dangling)).reason == "there is a key already"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["", "Ops", "-ops", "o" * 65, "a b", "ops\n", "öps"])
def test_a_name_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    error = refusal_to_create(str(tmp_path / "key"), name)
    assert error.reason == f"{name!r} is no name for a controller: 1 to 64 of a-z 0-9 . _ -, first a letter or digit"
    assert error.hint == "fleet init --name NAME"
    assert not (tmp_path / "key").exists()


def test_a_full_disk_leaves_no_half_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(keyfile.os, "fsync", full)
    error = refusal_to_create(str(tmp_path / "key"))
    assert str(error) == f"{tmp_path}/key: no space left on device"
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = f"{tmp_path}/file/key"
    assert str(refusal_to_create(path)) == f"{path}: cannot make its folder: file exists"


def test_somebody_quicker_made_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.mkdir

    def late(path: str, mode: int) -> None:
        real(path, mode)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(keyfile.os, "mkdir", late)
    assert create(f"{tmp_path}/a/key", "ops").name == "ops"


# Reading one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [LINE, "# a remark\n" + LINE, LINE.rstrip("\n"), "\n# a\n# b\n" + LINE + "\n"])
def test_it_is_read(tmp_path: Path, text: str) -> None:
    assert load(key_file(tmp_path, text)) == ControllerKey("ops", MASTER)
    assert load(key_file(tmp_path, text, 0o400)).name == "ops"


def test_repr_hides_the_secret() -> None:
    assert repr(ControllerKey("ops", MASTER)) == "ControllerKey(name='ops')"


def test_none_is_there(tmp_path: Path) -> None:
    error = refusal(f"{tmp_path}/none")
    assert (error.reason, error.hint) == ("there is no such file", "fleet init")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602, 0o610])
def test_a_key_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    error = refusal(path)
    assert error.reason == f"is open to its group or others (mode {mode:04o})"
    assert error.hint == f"chmod 600 {path}"


def test_a_link_is_followed_and_its_target_counts(tmp_path: Path) -> None:
    path, link = key_file(tmp_path), tmp_path / "link"
    link.symlink_to(path)
    assert load(str(link)).name == "ops"
    Path(path).chmod(0o644)
    assert refusal(str(link)).reason == "is open to its group or others (mode 0644)"


def test_odd_files_are_refused_without_waiting(tmp_path: Path) -> None:
    fifo, loop = tmp_path / "fifo", tmp_path / "loop"
    os.mkfifo(fifo, 0o600)
    loop.symlink_to(loop)
    assert refusal(str(fifo)).reason == "is not a regular file"
    assert refusal(str(tmp_path)).reason == "is not a regular file"
    assert refusal(str(loop)).reason == "too many levels of symbolic links"
    assert refusal("/proc/self/mem").reason == "input/output error"


@pytest.mark.parametrize(("uid", "refused"), [(1000, False), (1001, True), (0, False)])
def test_the_owner_counts_except_for_root(uid: int, refused: bool) -> None:
    info = os.stat_result((stat.S_IFREG | 0o600, 0, 0, 1, 1000, 1000, 0, 0, 0, 0))
    if not refused:
        keyfile._check(info, "key", uid=uid)
        return
    with pytest.raises(KeyFileError) as caught:
        keyfile._check(info, "key", uid=uid)
    assert str(caught.value) == "key: belongs to user 1000, expected 1001"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (b"# only a remark\n", 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE * 2, 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE.replace("key-1", "key-2"), 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE.replace(" ops", ""), 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE.upper(), 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE[:-2] + "g\n", 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE[:-1] + " \n", 'is no key: expected one line "fleet-key-1 NAME HEX"'),
        (LINE[:-2], "holds 63 hexadecimal digits, expected 64"),
        (LINE[:16], "holds 0 hexadecimal digits, expected 64"),
        (LINE[:-1] + "00\n", "holds 66 hexadecimal digits, expected 64"),
        (LINE.replace("ops", "Ops"), "holds a malformed controller name"),
        (LINE.replace("ops", "o" * 65), "holds a malformed controller name"),
        (b"\xff" + LINE.encode(), "is not UTF-8: not a key"),
        (b"#" * 4097, "is longer than 4096 bytes: not a key"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes | str, reason: str) -> None:
    assert refusal(key_file(tmp_path, content)).reason == reason


def test_every_cut_is_refused(tmp_path: Path) -> None:
    for end in range(len(LINE) - 1):
        refusal(key_file(tmp_path, LINE[:end]))


# Defaults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/home/ada"}, "/x/fleet/key"),
        ({"HOME": "/home/ada"}, "/home/ada/.config/fleet/key"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/home/ada"}, "/home/ada/.config/fleet/key"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/home/ada"}, "/home/ada/.config/fleet/key"),
    ],
)
def test_default_path(environment: dict[str, str], path: str) -> None:
    assert default_path(environment) == path


def test_default_path_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/eve")
    assert default_path({}) == "/home/eve/.config/fleet/key"


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("ada", "ada"),
        ("Ada.Lovelace", "ada.lovelace"),
        ("DOMAIN\\ada", "domain-ada"),
        ("_www", "www"),
        ("jürgen", "j-rgen"),
        ("x" * 80, "x" * 64),
        ("", "controller"),
        ("___", "controller"),
    ],
)
def test_default_name(login: str, name: str) -> None:
    assert default_name(login) == name
