"""Where paths belong: pure functions of what the operator wrote."""

from __future__ import annotations

import pytest

from agent.tree.places import Asked, Named, answers, into, pull_names
from agent.wire.errors import RemoteProtocolError


def test_into() -> None:
    assert into(".") == ()
    assert into("a/b") == ("a", "b")


def test_named() -> None:
    place = Named("new")
    assert [place("a"), place("a/b"), place("a/b/c")] == [("new",), ("new", "b"), ("new", "b", "c")]
    with pytest.raises(RemoteProtocolError, match=r"^a second source, 'b', for one new name$"):
        place("b/a")
    with pytest.raises(RemoteProtocolError, match=r"^a second source, '.', for one new name$"):
        Named("new")(".")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/var/log/syslog", ("syslog",)),
        ("syslog", ("syslog",)),
        ("/var/log/", ("log",)),
        ("a/./b/.", ("b",)),
        ("../x", ("x",)),
        ("/var/log/*.log", ("*.log",)),
        ("/home/*/x.log", ("*", "x.log")),
        ("/home/[ab]/c/?", ("[ab]", "c", "?")),
    ],
)
def test_pull_names(path: str, names: tuple[str, ...]) -> None:
    assert pull_names(path) == names


@pytest.mark.parametrize("path", ["/", "", ".", "..", "a/..", "///"])
def test_no_name_at_the_end(path: str) -> None:
    with pytest.raises(ValueError) as caught:
        pull_names(path)
    assert str(caught.value) == f"no name at the end of {path!r}"


def test_dots_after_a_pattern() -> None:
    with pytest.raises(ValueError, match=r"^'..' after a pattern in '\*/../x'$"):
        pull_names("*/../x")


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (["/var/log/syslog"], "syslog"),
        (["/var/log"], "log/a/b"),
        (["/var/log/*.log"], "a.log"),
        (["/var/log/*.log"], "*.log"),  # there is nothing: the pattern itself is named
        (["/var/*.d"], "x.d/below/it"),
        (["/home/*/x.log"], "alice"),
        (["/home/*/x.log"], "alice/x.log"),
        (["/a", "/b"], "b"),
        (["/a[1]"], "a[1]"),
    ],
)
def test_asked_for(asked: list[str], path: str) -> None:
    assert Asked(asked)(path) == tuple(path.split("/"))


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        (["/var/log/syslog"], "Syslog"),
        (["/var/log/syslog"], "syslog2"),
        (["/var/log/syslog"], "log/syslog"),
        (["/var/log/*.log"], ".a.log"),
        (["/var/log/*.log"], "a.txt"),
        (["/home/*/x.log"], "alice/y.log"),
        (["/home/*/x.log"], ".ssh/x.log"),
        (["/a"], "."),
    ],
)
def test_not_asked_for(asked: list[str], path: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Asked(asked)(path)
    assert str(caught.value) == f"{path!r} was not asked for"


def test_a_suffix() -> None:
    place = Asked(["/var/log"], ".web1")
    assert [place("log"), place("log/a")] == [("log.web1",), ("log.web1", "a")]


@pytest.mark.parametrize(
    ("remote", "path", "called"),
    [
        ("/etc/motd", "motd", "/etc/motd"),
        ("etc//./motd/", "motd/x", "etc/motd/x"),
        ("/var/log/*.log", "a.log", "/var/log/a.log"),
        ("/home/*/.ssh/id_*", "alice/.ssh/id_rsa", "/home/alice/.ssh/id_rsa"),
        ("*", "x", "x"),
        ("../up/x", "x", "../up/x"),
        ("/etc/motd", "else", "else"),
    ],
)
def test_what_it_is_called_on_the_host(remote: str, path: str, called: str) -> None:
    assert Asked([remote]).remote(path) == called


def test_the_first_that_fits_has_the_name() -> None:
    asked = Asked(["/a/x", "/b/*.log"], ".web1")
    assert [asked.remote(path) for path in ("x", "x.log")] == ["/a/x", "/b/x.log"]


def test_what_has_to_be_answered() -> None:
    asked = Asked(["/etc/motd", "/var/*.log", "/a/*/tmp"])
    assert asked.demanded(()) == ["/etc/motd", "/var/*.log", "/a/*/tmp"]
    assert asked.demanded(["motd", "tmp/"]) == ["/var/*.log"]
    assert answers("a/tmp/x", "/a/*/tmp")
    assert answers("a", "/a/*/tmp")
    assert not answers("a.log.gz", "/var/*.log")
