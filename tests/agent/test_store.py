"""The agent's folder: taking enrolments in, and the key ring that comes out."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import Listen, load
from agent.errors import AgentError
from agent.store import Added, Keyring, StoreError, add, open_folder
from agent.wire.enrolment import Enrolment, dumps
from agent.wire.handshake import Verifier

OPS = Enrolment("ops", "web1", b"\x11" * 16, 1, b"\xaa" * 32, b"\xbb" * 32)
ALICE = Enrolment("alice", "web1", b"\x22" * 16, 4, b"\xcc" * 32, b"\xdd" * 32)


def enrolment_file(tmp_path: Path, enrolment: Enrolment = OPS, mode: int = 0o600) -> str:
    path = tmp_path / f"{enrolment.controller}-{enrolment.epoch}.enrol"
    path.write_text(dumps(enrolment))
    path.chmod(mode)
    return str(path)


def keyring(path: Path) -> Keyring:
    with open_folder(str(path)) as directory:
        return Keyring.load(directory)


def problem(path: Path) -> AgentError:
    with pytest.raises(AgentError) as caught:
        keyring(path)
    return caught.value


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An agent's folder with the record of `ops`."""
    path = tmp_path / "agent"
    add(str(path), enrolment_file(tmp_path))
    return path


def test_the_first_enrolment_makes_everything(tmp_path: Path) -> None:
    home = tmp_path / "etc" / "agent"
    added = add(str(home), enrolment_file(tmp_path), listen=Listen("127.0.0.1", 0))
    assert added == Added(OPS, replaced=False, wrote_settings=True)
    modes = {str(p.relative_to(home)): stat.S_IMODE(p.stat().st_mode) for p in [home, *home.rglob("*")]}
    assert modes == {".": 0o700, "agent.toml": 0o600, "controllers": 0o700, "controllers/ops.enrol": 0o600}
    assert (home / "controllers/ops.enrol").read_text() == dumps(OPS)
    with open_folder(str(home)) as directory:
        assert load(directory).listen == Listen("127.0.0.1", 0)


def test_a_second_controller_is_added_and_the_same_one_replaced(tmp_path: Path, home: Path) -> None:
    assert add(str(home), enrolment_file(tmp_path, ALICE)) == Added(ALICE, replaced=False, wrote_settings=False)
    newer = replace(OPS, epoch=2, stored_key=b"\xee" * 32)
    assert add(str(home) + "/", enrolment_file(tmp_path, newer)) == Added(newer, replaced=True, wrote_settings=False)
    assert keyring(home).records == {"alice": ALICE, "ops": newer}
    assert sorted(os.listdir(home / "controllers")) == ["alice.enrol", "ops.enrol"]


def test_lookup_wants_name_id_and_epoch(home: Path) -> None:
    keys = keyring(home)
    assert keys.lookup("ops", b"\x11" * 16, 1) == Verifier(b"\xaa" * 32, b"\xbb" * 32)
    assert keys.lookup("alice", b"\x11" * 16, 1) is None
    assert keys.lookup("ops", b"\x12" * 16, 1) is None
    assert keys.lookup("ops", b"\x11" * 16, 2) is None
    assert keys.lookup("ops", b"\x11" * 16, 0) is None


def test_a_spoilt_record_is_mended_by_a_new_enrolment(tmp_path: Path, home: Path) -> None:
    (home / "controllers/ops.enrol").write_bytes(b"\xff")
    assert add(str(home), enrolment_file(tmp_path)).replaced
    assert keyring(home).records == {"ops": OPS}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_an_enrolment_that_others_could_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = enrolment_file(tmp_path, mode=mode)
    with pytest.raises(AgentError) as caught:
        add(str(tmp_path / "agent"), path)
    assert str(caught.value) == f"{path}: is open to its group or others (mode {mode:04o})"
    assert caught.value.hint == f"chmod 600 {path}"
    assert not (tmp_path / "agent").exists()


def test_an_enrolment_behind_a_link_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(enrolment_file(tmp_path))
    with pytest.raises(AgentError, match="is a symbolic link"):
        add(str(tmp_path / "agent"), str(link))


def test_what_is_no_enrolment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, reason in (
        (b"", "not JSON: Expecting value"),
        (dumps(OPS).encode()[:100], "not JSON: "),
        (b"{}", "not a fleet enrolment: it does not say enrolment/1"),
        (b"\xff", "not UTF-8: byte 0xff"),
        (b"x" * 5000, "is longer than 4096 bytes"),
    ):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(AgentError) as caught:
            add(str(tmp_path / "agent"), str(path))
        assert caught.value.why.startswith(reason)
        assert caught.value.what.startswith(str(path))
    assert not (tmp_path / "agent").exists()


def test_listen_does_not_change_settings_that_are_there(tmp_path: Path, home: Path) -> None:
    before = (home / "agent.toml").read_text()
    with pytest.raises(StoreError) as caught:
        add(str(home), enrolment_file(tmp_path, ALICE), listen=Listen("127.0.0.1", 9))
    assert str(caught.value) == f"{home}/agent.toml: says listen = '0.0.0.0:7422', not '127.0.0.1:9'"
    assert caught.value.hint == "change it there"
    assert keyring(home).records == {"ops": OPS}
    add(str(home), enrolment_file(tmp_path, ALICE), listen=Listen())
    assert (home / "agent.toml").read_text() == before


def test_no_folder_no_records(tmp_path: Path) -> None:
    error = problem(tmp_path / "none")
    assert str(error) == f"{tmp_path}/none: there is no such folder"
    assert error.hint == "fleet-agent init --enrolment FILE"
    (tmp_path / "empty").mkdir(0o700)
    assert keyring(tmp_path / "empty").records == {}


def test_folders_that_others_could_use_are_refused(home: Path) -> None:
    (home / "controllers").chmod(0o755)
    error = problem(home)
    assert str(error) == f"{home}/controllers: is open to its group or others (mode 0755)"
    assert error.hint == f"chmod 700 {home}/controllers"
    home.chmod(0o770)
    assert str(problem(home)) == f"{home}: is writable by its group or others (mode 0770)"


def test_one_bad_record_spoils_the_ring(tmp_path: Path, home: Path) -> None:
    add(str(home), enrolment_file(tmp_path, ALICE))
    record = home / "controllers/ops.enrol"
    record.chmod(0o640)
    error = problem(home)
    assert str(error) == f"{record}: is open to its group or others (mode 0640)"
    assert error.hint == f"chmod 600 {record}"
    record.chmod(0o600)
    record.write_text("{}")
    error = problem(home)
    assert str(error) == f"{record}: not a fleet enrolment: it does not say enrolment/1"
    assert error.hint == "make a new one with: fleet enroll --force HOST"


def test_a_record_under_another_name_is_refused(home: Path) -> None:
    (home / "controllers/ops.enrol").rename(home / "controllers/bob.enrol")
    assert str(problem(home)) == f"{home}/controllers/bob.enrol: holds the record of controller ops"


def test_other_files_are_passed_over(home: Path) -> None:
    for name in ("ops.enrol~", ".ops.enrol.0123.tmp", "README"):
        (home / "controllers" / name).write_text("anything")
    assert keyring(home).records == {"ops": OPS}


def test_a_link_in_the_place_of_a_record_or_the_folder_is_refused(tmp_path: Path, home: Path) -> None:
    record = home / "controllers/ops.enrol"
    record.rename(tmp_path / "elsewhere")
    record.symlink_to(tmp_path / "elsewhere")
    assert str(problem(home)) == f"{record}: is a symbolic link"
    (home / "controllers").rename(tmp_path / "other")
    (home / "controllers").symlink_to(tmp_path / "other")
    assert str(problem(home)) == f"{home}/controllers: is not a folder"
