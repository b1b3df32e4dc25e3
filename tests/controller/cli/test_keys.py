"""`fleet init` and `fleet enroll` from inside, for what no installed command can be made to do."""

from __future__ import annotations

import getpass

import pytest

from controller.cli import keys
from controller.enroll import EnrollError
from controller.errors import FleetError
from controller.keyfile import KeyFileError
from controller.registry import RegistryError
from controller.settings import Settings


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 61234"), OSError("No username set")])
def test_a_user_without_a_name(monkeypatch, tmp_path, error):
    def getuser():
        raise error

    monkeypatch.setattr(getpass, "getuser", getuser)
    with pytest.raises(FleetError) as caught:
        keys.init(key=str(tmp_path / "key"))
    assert (str(caught.value), caught.value.hint) == (
        "--name: there is no login name to take",
        "fleet init --name NAME",
    )
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize("kind", [KeyFileError, RegistryError, EnrollError])
def test_errors_of_the_library_become_ours(kind):
    with pytest.raises(FleetError) as caught, keys.fleet_errors():
        raise kind("what", "why", "next")
    assert (caught.value.what, caught.value.why, caught.value.hint) == ("what", "why", "next")


def test_hosts_are_named_or_chosen(tmp_path):
    (tmp_path / "hosts.ini").write_text("[web]\na\nb\n")
    inventory = [str(tmp_path / "hosts.ini")]
    assert keys._names(["x[1-2]", "x1"], None, None, None, Settings()) == ["x1", "x2"]
    assert keys._names(None, inventory, None, None, Settings()) == ["a", "b"]
    assert keys._names(None, inventory, ["web"], ["a"], Settings()) == ["b"]
    assert keys._names(None, None, None, None, Settings()) == []
    with pytest.raises(FleetError, match=r"not both$"):
        keys._names(["x"], inventory, None, None, Settings())
