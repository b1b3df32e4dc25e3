"""Enrolling: keys that match on both sides, files that only their owner can read, and all or nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from agent.wire.enrolment import MAX_EPOCH, loads
from agent.wire.handshake import derive_keys
from controller import enroll as enroll_module
from controller import registry
from controller.enroll import Enrolled, EnrollError, enroll
from controller.keyfile import ControllerKey
from controller.registry import Identity, Registry, RegistryError, load, update

KEY = ControllerKey("ops", bytes(range(32)))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "enrolled.json")


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def refusal(*hosts: str, registry_path: str, **options: object) -> EnrollError:
    with pytest.raises(EnrollError) as caught:
        enroll(KEY, registry_path, hosts, **options)  # type: ignore[arg-type]
    assert str(caught.value) == f"{caught.value.name}: {caught.value.reason}"
    return caught.value


def test_the_file_and_the_registry_agree_with_the_key(path: str, out: str) -> None:
    (made,) = enroll(KEY, path, ["web1"], out_dir=out)
    assert (made.name, made.epoch, made.path) == ("web1", 1, f"{out}/web1.enrol")
    text = Path(out, "web1.enrol").read_text()
    assert text == made.text
    record = loads(text)
    identity = load(path).lookup("web1")
    assert identity == Identity(record.host_id, 1)
    keys = derive_keys(KEY.master, "ops", record.host_id, 1)
    assert (record.stored_key, record.server_key) == (keys.stored_key, keys.server_key)
    assert (record.controller, record.host, record.epoch, record.pool) == ("ops", "web1", 1, None)
    assert keys.client_key.hex() not in text  # the agent could log in elsewhere with it
    assert KEY.master.hex() not in text
    assert record.stored_key.hex() not in repr(made)


def test_modes(path: str, out: str) -> None:
    before = os.umask(0)
    try:
        enroll(KEY, path, ["web1"], out_dir=out)
    finally:
        os.umask(before)
    assert stat.S_IMODE(Path(out, "web1.enrol").stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(out).stat().st_mode) == 0o700


def test_ids_are_random_and_not_made_from_the_name(tmp_path: Path, path: str, out: str) -> None:
    made = enroll(KEY, path, ["web1", "web2", "web1"], out_dir=out)
    assert [one.name for one in made] == ["web1", "web2"]
    other = enroll(KEY, str(tmp_path / "other.json"), ["web1"])
    ids = {loads(one.text).host_id for one in [*made, *other]}
    assert len(ids) == 3


def test_one_host_without_a_folder_is_text_alone(tmp_path: Path, path: str) -> None:
    (made,) = enroll(KEY, path, iter(["web1"]), random_bytes=lambda count: b"\x07" * count)
    assert made.path is None
    assert loads(made.text).host_id == b"\x07" * 16
    assert load(path).hosts == {"web1": Identity(b"\x07" * 16, 1)}
    assert sorted(os.listdir(tmp_path)) == [".enrolled.json.lock", "enrolled.json"]


def test_a_text_that_nobody_gets_is_no_enrolment(path: str) -> None:
    def lose(text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        enroll(KEY, path, ["web1"], hand_out=lose)
    assert "web1" not in load(path).hosts
    handed: list[str] = []
    (made,) = enroll(KEY, path, ["web1"], hand_out=handed.append)
    assert handed == [made.text] and load(path).hosts["web1"].epoch == 1


def test_again_is_an_error_without_force(path: str, out: str) -> None:
    enroll(KEY, path, ["web1"])
    before = load(path)
    error = refusal("web2", "web1", registry_path=path, out_dir=out)
    assert str(error) == "web1: enrolled already (epoch 1)"
    assert error.hint == "make it new keys with: --force"
    assert load(path) == before
    assert not Path(out).exists()


def test_force_makes_a_new_epoch_of_the_same_id(path: str, out: str) -> None:
    first = loads(enroll(KEY, path, ["web1"], out_dir=out)[0].text)
    (made,) = enroll(KEY, path, ["web1"], out_dir=out, force=True)
    second = loads(Path(out, "web1.enrol").read_text())
    assert (made.epoch, second.epoch, second.host_id) == (2, 2, first.host_id)
    assert second.stored_key != first.stored_key
    assert second.server_key != first.server_key
    assert load(path).hosts == {"web1": Identity(first.host_id, 2)}


def test_a_pool_is_one_enrolment(path: str, out: str) -> None:
    enroll(KEY, path, ["web"])
    (made,) = enroll(KEY, path, pool="web", out_dir=out)
    assert made == Enrolled("web", 1, f"{out}/web.enrol", made.text)
    record = loads(made.text)
    assert (record.host, record.pool) == ("web", "web")
    held = load(path)
    assert held.lookup("web17", "web") == Identity(record.host_id, 1)
    assert held.lookup("web") != held.lookup("web17", "web")
    assert str(refusal(registry_path=path, pool="web")) == "web: enrolled already (epoch 1)"
    assert enroll(KEY, path, pool="web", force=True)[0].epoch == 2


def test_a_pool_takes_no_hosts(path: str) -> None:
    error = refusal("web1", registry_path=path, pool="web")
    assert (str(error), error.hint) == ("web: a pool is enrolled once for all its hosts", "leave the host names out")


def test_no_hosts_and_too_many_for_stdout(path: str) -> None:
    error = refusal(registry_path=path)
    assert (str(error), error.hint) == ("enroll: no host named", "fleet enroll HOST")
    error = refusal("web1", "web2", registry_path=path)
    assert (str(error), error.hint) == (
        "enroll: 2 hosts do not fit on standard output",
        "name a folder with: -o DIR",
    )


@pytest.mark.parametrize(
    ("name", "shown", "fault"),
    [
        ("", "''", "is empty"),
        (".", "'.'", "begins with '.'"),
        ("..", "'..'", "begins with '.'"),
        (".bashrc", "'.bashrc'", "begins with '.'"),
        ("-n", "'-n'", "begins with '-'"),
        ("/etc/cron.d/x", "'/etc/cron.d/x'", "has a '/'"),
        ("a/../../x", "'a/../../x'", "has a '/'"),
        ("a\0", "'a\\x00'", "has a character that cannot be printed"),
        ("a\nb", "'a\\nb'", "has a character that cannot be printed"),
        ("a\x1b]0;x\x07", "'a\\x1b]0;x\\x07'", "has a character that cannot be printed"),
        ("a\u202eb", "'a\\u202eb'", "has a character that cannot be printed"),
        ("a\udcff", "'a\\udcff'", "has a character that cannot be printed"),
        ("n" * 201, repr("n" * 201), "has 201 bytes, expected no more than 200"),
    ],
)
def test_names_that_are_no_file_names_are_refused(
    tmp_path: Path, path: str, out: str, name: str, shown: str, fault: str
) -> None:
    for options in ({"out_dir": out}, {}):
        error = refusal("web1" if options else name, name, registry_path=path, **options)
        assert str(error) == f"{shown}: not usable as a file name: it {fault}"
    assert str(refusal(registry_path=path, pool=name)).startswith(shown)
    assert os.listdir(tmp_path) == []


def test_the_longest_name_fits(path: str, out: str) -> None:
    enroll(KEY, path, ["ü" * 100], out_dir=out)
    assert os.listdir(out) == ["ü" * 100 + ".enrol"]


def test_a_file_that_is_there_is_not_replaced_without_force(path: str, out: str) -> None:
    Path(out).mkdir()
    Path(out, "web2.enrol").write_text("another controller's")
    error = refusal("web1", "web2", registry_path=path, out_dir=out)
    assert (str(error), error.hint) == (f"{out}/web2.enrol: there is such a file already", "replace it with: --force")
    assert os.listdir(out) == ["web2.enrol"]
    assert load(path) == Registry()
    enroll(KEY, path, ["web1", "web2"], out_dir=out, force=True)
    assert loads(Path(out, "web2.enrol").read_text()).controller == "ops"


def test_a_file_is_replaced_not_written_through(tmp_path: Path, path: str, out: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    Path(out).mkdir()
    Path(out, "web1.enrol").symlink_to(victim)
    refusal("web1", registry_path=path, out_dir=out)
    enroll(KEY, path, ["web1"], out_dir=out, force=True)
    assert victim.read_text() == "mine"
    assert not Path(out, "web1.enrol").is_symlink()


def test_a_folder_that_cannot_be(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    assert str(refusal("web1", registry_path=path, out_dir=f"{tmp_path}/file")) == f"{tmp_path}/file: file exists"
    assert load(path) == Registry()


def test_a_disk_that_fills_up_leaves_nothing(path: str, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.replace_file

    def full(target: str, data: bytes, *, mode: int) -> None:
        if "web2" in target:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(target, data, mode=mode)

    monkeypatch.setattr(enroll_module, "replace_file", full)
    error = refusal("web1", "web2", "web3", registry_path=path, out_dir=out)
    assert str(error) == f"{out}/web2.enrol: no space left on device"
    assert os.listdir(out) == []
    assert load(path) == Registry()


def test_the_files_are_there_before_the_registry_says_so(path: str, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    real = registry.replace_file

    def spy(target: str, data: bytes, *, mode: int) -> None:
        seen.append(sorted(os.listdir(out)))
        real(target, data, mode=mode)

    monkeypatch.setattr(registry, "replace_file", spy)  # the registry's own writing
    enroll(KEY, path, ["web1", "web2"], out_dir=out)
    assert seen == [["web1.enrol", "web2.enrol"]]


def test_a_registry_that_cannot_be_written_leaves_no_files(
    path: str, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(target: str, data: bytes, *, mode: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(registry, "replace_file", full)
    with pytest.raises(RegistryError):
        enroll(KEY, path, ["web1"], out_dir=out)
    assert os.listdir(out) == []


def test_a_broken_registry_is_left(path: str, out: str) -> None:
    Path(path).write_text("{")
    with pytest.raises(RegistryError):
        enroll(KEY, path, ["web1"], out_dir=out, force=True)
    assert Path(path).read_text() == "{"
    assert not Path(out).exists()


def test_epochs_end(path: str) -> None:
    update(path, lambda before: before.adding(hosts={"web1": Identity(b"\x01" * 16, MAX_EPOCH)}))
    error = refusal("web1", registry_path=path, force=True)
    assert str(error) == "web1: epoch 4294967295 is the last"
    assert error.hint == "take it out of the registry and enroll it anew"
