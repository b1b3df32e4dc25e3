"""Where settings come from, which wins, and what is said of a bad one."""

from __future__ import annotations

import os

import pytest

from controller.cli import options
from controller.errors import FleetError
from controller.settings import (
    Settings,
    config_path,
    load_settings,
    number,
    read_color,
    read_fanout,
    read_port,
    read_seconds,
    read_ttl,
)

HUGE = int("9" * 400)


@pytest.fixture
def home(tmp_path):
    """A home with a config file, and the environment that leads there."""
    path = tmp_path / ".config/fleet/config.toml"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def load(home, text=None, **environ):
    if text is not None:
        home.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_settings({"HOME": str(home.parent.parent.parent), **environ})


def fault(home, text=None, **environ):
    with pytest.raises(FleetError) as caught:
        load(home, text, **environ)
    return caught.value.what, caught.value.why, caught.value.hint


# For each key: the default, a line of the file, what that means, a variable, and what that means.
KEYS = {
    "inventory": (
        (),
        '["a.ini", "~/b.ini"]',
        ("a.ini", os.path.expanduser("~/b.ini")),
        "c.ini:d.ini",
        ("c.ini", "d.ini"),
    ),
    "fanout": (64, "5", 5, "6", 6),
    "connect_timeout": (10.0, "2", 2.0, "3.5", 3.5),
    "timeout": (None, "60", 60.0, "1e2", 100.0),
    "port": (7422, "1", 1, "65535", 65535),
    "key": (None, '"~/key"', os.path.expanduser("~/key"), "/k", "/k"),
    "registry": (None, '"/r"', "/r", "/q", "/q"),
    "color": ("auto", '"never"', "never", "always", "always"),
}


def test_every_setting_is_tested():
    assert set(KEYS) == set(Settings.__dataclass_fields__)


@pytest.mark.parametrize("name", KEYS)
def test_environment_beats_file_beats_default(home, name):
    default, line, from_file, variable, from_environment = KEYS[name]
    assert getattr(load(home, ""), name) == default
    assert getattr(load(home, f"{name} = {line}"), name) == from_file
    assert getattr(load(home, **{f"FLEET_{name.upper()}": variable}), name) == from_environment
    assert getattr(load(home, **{f"FLEET_{name.upper()}": ""}), name) == from_file


def test_an_option_beats_all():
    assert options.check("--fanout", read_fanout, 3, 6) == 3
    assert options.check("--fanout", read_fanout, None, 6) == 6
    with pytest.raises(FleetError, match=r"^--fanout: 0 is not in 1\.\.100000 hosts$"):
        options.check("--fanout", read_fanout, 0, 6)


def test_one_inventory_needs_no_list(home):
    assert load(home, 'inventory = "a.ini"').inventory == ("a.ini",)


def test_no_file_is_no_error(tmp_path):
    assert load_settings({"HOME": str(tmp_path)}) == Settings()


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"HOME": "/h"}, "/h/.config/fleet/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}, "/x/fleet/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "x"}, "/h/.config/fleet/config.toml"),
        ({"HOME": "/h", "XDG_CONFIG_HOME": "/x", "FLEET_CONFIG": "/c"}, "/c"),
        ({}, os.path.expanduser("~/.config/fleet/config.toml")),
    ],
)
def test_where_the_file_is(environ, path):
    assert config_path(environ) == path


def test_a_named_file_must_be_there(home):
    assert fault(home, FLEET_CONFIG="/no/such.toml") == (
        "/no/such.toml", "there is no such file", "FLEET_CONFIG names it"
    )  # fmt: skip


def test_a_file_that_cannot_be_read(home):
    home.unlink()
    home.mkdir()
    assert fault(home) == (str(home), "is a directory", None)


def test_a_file_that_is_not_utf_8(home):
    assert fault(home, b'key = "\xff"') == (str(home), "not UTF-8 at byte 7", None)


def test_a_file_that_is_no_toml(home):
    what, why, hint = fault(home, "fanout = \n")
    assert (what, hint) == (str(home), None)
    assert why == "invalid value (at line 1, column 10)"


@pytest.mark.parametrize(
    ("text", "line", "name", "hint"),
    [
        ("fanout = 1\nconect_timeout = 3", 2, "conect_timeout", "did you mean 'connect_timeout'?"),
        ("\n\n[ssh]\nuser = 'x'", 3, "ssh", None),
        ('# zzz = 1\n"zzz" = 1', 2, "zzz", None),
        ("a.b = 1", 1, "a", None),
    ],
)
def test_an_unknown_key_names_its_line(home, text, line, name, hint):
    known = "known keys: inventory, fanout, connect_timeout, timeout, port, key, registry, color"
    assert fault(home, text) == (f"{home}:{line}", f"unknown key {name!r}", hint or known)


def test_a_key_in_an_unusual_layout_is_found_somewhere(home):
    assert fault(home, '\n"fan\\u006fut" = 0') == (f"{home}:1", "fanout: 0 is not in 1..100000 hosts", None)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("inventory = 3", "inventory: 3 is not a path"),
        ('inventory = ["a", 3]', "inventory: 3 is not a path"),
        ('inventory = ""', "inventory: '' is not a path"),
        ('fanout = "12"', "fanout: '12' is a string, not a number"),
        ("port = '7422'", "port: '7422' is a string, not a number"),
        ("timeout = '1'", "timeout: '1' is a string, not a number"),
        ("fanout = 1.5", "fanout: 1.5 is not a whole number"),
        ("fanout = true", "fanout: True is not a whole number"),
        ("fanout = 0", "fanout: 0 is not in 1..100000 hosts"),
        ("port = 65536", "port: 65536 is not in 1..65535"),
        ("port = -1", "port: -1 is not in 1..65535"),
        ("timeout = 0", "timeout: 0 is not more than 0 and at most 31536000 seconds"),
        ("timeout = inf", "timeout: inf is not more than 0 and at most 31536000 seconds"),
        ("timeout = nan", "timeout: nan is not more than 0 and at most 31536000 seconds"),
        ("timeout = true", "timeout: True is not a number of seconds"),
        ("connect_timeout = 'soon'", "connect_timeout: 'soon' is a string, not a number"),
        ("connect_timeout = []", "connect_timeout: [] is not a number of seconds"),
        ("connect_timeout = -0.5", "connect_timeout: -0.5 is not more than 0 and at most 31536000 seconds"),
        ("key = false", "key: False is not a path"),
        ('registry = "a\\u0000b"', "registry: 'a\\x00b' is not a path"),
        ('color = "red"', "color: 'red' is not one of auto, always, never"),
        ("color = 1", "color: 1 is not one of auto, always, never"),
    ],
)
def test_a_bad_value_names_its_line(home, line, why):
    assert fault(home, f"# a comment\n{line}\n") == (f"{home}:2", why, None)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("FLEET_FANOUT", "1.5", "'1.5' is not a whole number"),
        ("FLEET_PORT", "http", "'http' is not a whole number"),
        ("FLEET_TIMEOUT", "1m", "'1m' is not a number of seconds"),
        ("FLEET_TIMEOUT", "0", "0 is not more than 0 and at most 31536000 seconds"),
        ("FLEET_COLOR", "yes", "'yes' is not one of auto, always, never"),
        ("FLEET_INVENTORY", "a::b", "'' is not a path"),
    ],
)
def test_a_bad_variable(home, variable, value, why):
    assert fault(home, **{variable: value}) == (variable, why, None)


@pytest.mark.parametrize("read", [read_fanout, read_port, read_seconds])
def test_numbers_that_no_float_holds(read):
    with pytest.raises(ValueError, match=f"^{HUGE} is not "):
        read(HUGE)


def test_the_ends_of_the_ranges():
    assert [read_fanout(1), read_fanout(100_000), read_port(1), read_port(65535)] == [1, 100_000, 1, 65535]
    assert [read_seconds(1e-9), read_seconds(31_536_000)] == [1e-9, 31_536_000.0]
    assert read_color("auto") == "auto"
    assert read_ttl(0.0) == 0.0
    number(3, low=3, high=3, unit="x")
    with pytest.raises(ValueError, match=r"^4 is not in 1\.\.3 x$"):
        number(4, low=1, high=3, unit="x")
