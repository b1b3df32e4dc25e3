"""`fleet init` and `fleet enroll`: from nothing to a host that answers."""

from __future__ import annotations

import json
import os
import stat

import pytest


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.fixture
def keyed(new_lab):
    assert new_lab.fleet("init", "--name", "ops").code == 0
    return new_lab


def test_init_makes_a_key_that_nobody_else_can_read(new_lab):
    path = new_lab.folder / "conf/fleet/key"
    env = {"FLEET_KEY": None, "XDG_CONFIG_HOME": str(new_lab.folder / "conf")}
    assert tuple(new_lab.fleet("init", "--name", "ops", env=env)) == (
        0,
        f"made {path}: the key of controller ops\n",
        "next: fleet enroll HOST -o enrolments\n",
    )
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    before = path.read_bytes()
    assert tuple(new_lab.fleet("init", "--name", "ops", env=env)) == (
        2, "", f"fleet: {path}: there is a key already\nhint: move it away first, or choose another file\n"
    )  # fmt: skip
    assert path.read_bytes() == before


def test_init_takes_the_login_name(new_lab):
    done = new_lab.fleet("init", "--key", "k", env={"LOGNAME": "Ada L", "USER": "Ada L"})
    assert (done.code, done.out) == (0, "made k: the key of controller ada-l\n")


def test_init_with_a_name_that_is_none(new_lab):
    done = new_lab.fleet("init", "--name", "a b", "--key", "k")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: k: 'a b' is no name for a controller")


def test_enroll_into_a_folder(keyed):
    assert tuple(keyed.fleet("enroll", "web[1-2]", "-o", "made")) == (
        0,
        "enrolled web1 (epoch 1): made/web1.enrol\nenrolled web2 (epoch 1): made/web2.enrol\n",
        "next, on the host: fleet-agent init --enrolment FILE && fleet-agent serve\n",
    )
    assert [mode(keyed.folder / f"made/web{number}.enrol") for number in (1, 2)] == [0o600, 0o600]
    registry = json.loads((keyed.folder / "enrolled.json").read_text())
    assert sorted(registry["hosts"]) == ["web1", "web2"]
    key = keyed.key.read_text().split()[-1]
    assert key not in (keyed.folder / "enrolled.json").read_text()
    assert key not in (keyed.folder / "made/web1.enrol").read_text()


def test_enroll_one_host_to_stdout(keyed):
    done = keyed.fleet("enroll", "web1")
    assert done.code == 0
    (keyed.folder / "web1.enrol").touch(0o600)
    (keyed.folder / "web1.enrol").write_bytes(done.stdout)
    agent = keyed.agent(keyed.folder / "web1.enrol", keyed.folder / "agent")
    keyed.inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={agent.port}\n")
    assert keyed.fleet("ping").code == 0


def test_several_hosts_do_not_fit_on_stdout(keyed):
    assert tuple(keyed.fleet("enroll", "a", "b")) == (
        2, "", "fleet: enroll: 2 hosts do not fit on standard output\nhint: name a folder with: -o DIR\n"
    )  # fmt: skip


def test_enrolling_again_takes_force_and_shuts_the_old_epoch_out(keyed):
    assert keyed.fleet("enroll", "web1", "-o", ".").code == 0
    agent = keyed.agent(keyed.folder / "web1.enrol", keyed.folder / "agent")
    keyed.inventory.write_text(f"web1 fleet_host=127.0.0.1 fleet_port={agent.port}\n")
    assert keyed.fleet("run", "true").code == 0
    assert tuple(keyed.fleet("enroll", "web1", "-o", ".")) == (
        2, "", "fleet: web1: enrolled already (epoch 1)\nhint: make it new keys with: --force\n"
    )  # fmt: skip
    assert keyed.fleet("enroll", "--force", "web1", "-o", ".").out == "enrolled web1 (epoch 2): ./web1.enrol\n"
    (result,) = keyed.fleet("run", "--json", "true").json["results"]
    assert result["status"] == "denied"


def test_enroll_from_the_inventory(keyed):
    keyed.inventory.write_text("[web]\nweb1\nweb2\n[db]\ndb1\n")
    done = keyed.fleet("enroll", "-l", "all", "-x", "web2", "-o", ".")
    assert done.out == "enrolled web1 (epoch 1): ./web1.enrol\nenrolled db1 (epoch 1): ./db1.enrol\n"
    assert tuple(keyed.fleet("enroll", "web1", "-l", "db", "-o", ".")) == (
        2, "", "fleet: enroll: name hosts, or choose them from an inventory with -l, not both\n"
    )  # fmt: skip


def test_enroll_nobody(keyed):
    assert tuple(keyed.fleet("enroll")) == (2, "", "fleet: enroll: no host named\nhint: fleet enroll HOST\n")


def test_enroll_without_a_key(new_lab):
    path = new_lab.folder / "key"
    assert tuple(new_lab.fleet("enroll", "web1")) == (
        2, "", f"fleet: {path}: there is no such file\nhint: fleet init\n"
    )  # fmt: skip


def test_enroll_into_a_folder_that_cannot_be(keyed):
    done = keyed.fleet("enroll", "web1", "-o", "key/below")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("fleet: key/below: ")
    assert not (keyed.folder / "enrolled.json").exists()


def test_a_pool_is_one_enrolment_and_its_weakness_is_said(keyed):
    done = keyed.fleet("enroll", "--pool", "ci", "-o", ".")
    assert tuple(done) == (
        0,
        "enrolled ci (epoch 1): ./ci.enrol\n",
        "note: every host of pool ci holds the same keys: root on one of them can pose as any other\n"
        "next, on the host: fleet-agent init --enrolment FILE && fleet-agent serve\n",
    )
    assert list(json.loads((keyed.folder / "enrolled.json").read_text())["pools"]) == ["ci"]


def test_two_at_once_lose_nothing(keyed, end):
    started = [keyed.start("enroll", f"{letter}[01-40]", "-o", letter) for letter in "ab"]
    assert [end(process).code for process in started] == [0, 0]
    registry = json.loads((keyed.folder / "enrolled.json").read_text())
    assert sorted(registry["hosts"]) == [f"{letter}{number:02}" for letter in "ab" for number in range(1, 41)]
