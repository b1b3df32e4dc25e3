"""The shared options: what they become, and which error each mistake is."""

from __future__ import annotations

import pytest

from controller.cli import options
from controller.cli.options import Targets
from controller.errors import FleetError
from controller.settings import Settings


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check():
    assert options.check("--x", int, None, 7) == 7
    assert options.check("--x", int, "3", 7) == 3
    with pytest.raises(FleetError, match=r"^--x: invalid literal for int\(\) with base 10: 'y'$"):
        options.check("--x", int, "y", 7)


def test_an_option_for_the_inventory_beats_the_settings_and_the_folder(here):
    for name in ("option", "settings", "hosts"):
        (here / f"{name}.ini").write_text(f"{name}\n")
    settings = Settings(inventory=("settings.ini",))
    given = Targets(inventory=["option.ini"])
    assert [host.name for host in given.select(given.load(settings))] == ["option"]
    assert [host.name for host in Targets().select(Targets().load(settings))] == ["settings"]
    assert [host.name for host in Targets().select(Targets().load(Settings()))] == ["hosts"]


def test_no_inventory_at_all(here):
    with pytest.raises(FleetError) as caught:
        Targets().load(Settings())
    assert (str(caught.value), caught.value.hint) == (
        "inventory: there is no hosts.ini here", "name an inventory with -i, or hosts with -w"
    )  # fmt: skip
    assert len(Targets(hosts=["a[1-3]"]).load(Settings())) == 3
    assert list(Targets(hosts=["b", "a[1-2],b", "c"]).load(Settings()).names) == ["b", "a1", "a2", "c"]


def test_limits_and_exclusions(here):
    targets = Targets(hosts=["a[1-9]"], limit=["a[1-5]", "a[3-7]"], exclude=["a4", "a9"])
    assert [host.name for host in targets.select(targets.load(Settings()))] == ["a3", "a5"]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"fanout": 0}, "--fanout: 0 is not in 1..100000 hosts"),
        ({"port": 70000}, "--port: 70000 is not in 1..65535"),
        ({"connect_timeout": -1.0}, "--connect-timeout: -1 is not more than 0 and at most 31536000 seconds"),
    ],
)
def test_numbers_out_of_range(given, text):
    targets = Targets(hosts=["a"], **given)
    with pytest.raises(FleetError) as caught:
        targets.fleet(targets.load(Settings()), Settings())
    assert str(caught.value) == text


def test_a_cache_time_out_of_range():
    with pytest.raises(FleetError, match=r"^--cache-ttl: "):
        Targets(hosts=["a"], cache_ttl=-1.0).load(Settings())


def test_options_beat_settings_for_a_fleet(here):
    (here / "key").touch(0o600)
    (here / "key").write_text("fleet-key-1 ops " + "00" * 32 + "\n")
    targets = Targets(hosts=["a[1-9]"], fanout=2, key="key")
    settings = Settings(fanout=3, key="elsewhere")
    assert targets.fleet(targets.load(settings), settings).run("true").width == 2
    unsaid = Targets(hosts=["a[1-9]"])
    settings = Settings(fanout=3, key="key")
    assert unsaid.fleet(unsaid.load(settings), settings).run("true").width == 3


def test_colour():
    assert options.read_color_option(None, Settings(color="never")) == "never"
    assert options.read_color_option("always", Settings(color="never")) == "always"
    with pytest.raises(FleetError, match=r"^--color: 'x' is not one of auto, always, never$"):
        options.read_color_option("x", Settings())


def test_say(capfdbinary):
    options.say("a\nb")
    options.say("c\n")
    options.say("\udcff\n\n")
    assert capfdbinary.readouterr() == (b"a\nb\nc\n\xff\n\n", b"")


def test_list_hosts(capfd):
    targets = Targets(hosts=["a[1-2]"])
    options.list_hosts(targets.select(targets.load(Settings())))
    assert capfd.readouterr() == ("a1\na2\n", "")


def test_warnings_go_to_standard_error(capsys):
    options._warn("look here")
    assert capsys.readouterr() == ("", "fleet: look here\n")
