"""Commands with values in them: quoting, and what is missing."""

from __future__ import annotations

import subprocess

import pytest

from inventory import Host, TemplateError, fill

HOST = Host(
    name="web1",
    address="10.0.0.1",
    port=None,
    pool=None,
    groups=("prod", "web"),
    variables={
        "role": "app",
        "motto": "it's $HOME; `id`",
        "n": 5,
        "on": True,
        "list": [1, "é"],
        "none": None,
        "nul": "a\0b",
        "host": "no",
        "a-b.c": "odd",
        "empty": "",
        "lines": "1\n2",
    },
)


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("uptime", "uptime"),
        ("echo {host} {address} {group_names}", "echo web1 10.0.0.1 prod,web"),
        ("echo {role}", "echo app"),
        ("echo {motto}", "echo 'it'\"'\"'s $HOME; `id`'"),
        ("echo {motto!r}", "echo it's $HOME; `id`"),
        ("echo {n} {on} {list}", "echo 5 true '[1, \"é\"]'"),
        ("echo {empty}", "echo ''"),
        ("echo {a-b.c}", "echo odd"),
        ("awk '{{print $1}}'", "awk '{print $1}'"),
        ("{{{role}}}", "{app}"),
        ("${{HOME}}", "${HOME}"),
        ("echo {lines}", "echo '1\n2'"),
    ],
)
def test_filled(template: str, filled: str) -> None:
    assert fill(template, HOST) == filled


def test_without_quotes() -> None:
    assert fill("{motto} {host}", HOST, quote=False) == "it's $HOME; `id` web1"


@pytest.mark.parametrize("value", ["; touch x", "$(id)", "a\nb", "'", '"', "\\", "*", "~", "-n", "é", "|&<>"])
def test_a_value_is_one_word_of_the_shell(value: str) -> None:
    host = Host("h", "h", None, None, (), {"x": value})
    done = subprocess.run(["/bin/sh", "-c", fill("printf %s {x}", host)], capture_output=True, check=True)
    assert done.stdout.decode() == value


@pytest.mark.parametrize(
    ("template", "error", "variable"),
    [
        ("{rule}", "web1: undefined variable: 'rule'", "rule"),
        ("{none}", "web1: undefined variable: 'none'", "none"),
        ("{}", "web1: undefined variable: ''", ""),
        ("{print $1}", "web1: undefined variable: 'print $1'", "print $1"),
        ("{role", "web1: a brace that stands alone: '{'", "{"),
        ("role}", "web1: a brace that stands alone: '}'", "}"),
        ("{role!s}", "web1: expected {name} or {name!r}: '{role!s}'", "{role!s}"),
        ("{nul}", "web1: a value with a NUL, which no command can hold: 'nul'", "nul"),
    ],
)
def test_refused(template: str, error: str, variable: str) -> None:
    with pytest.raises(TemplateError) as caught:
        fill(template, HOST)
    assert str(caught.value) == error
    assert (caught.value.host, caught.value.variable) == ("web1", variable)


def test_hints() -> None:
    for template, hint in [
        ("{rolle}", "did you mean 'role'?"),
        ("{xyzzy}", "a brace that is meant is written twice: {{ }}"),
    ]:
        with pytest.raises(TemplateError) as caught:
            fill(template, HOST)
        assert caught.value.hint == hint
