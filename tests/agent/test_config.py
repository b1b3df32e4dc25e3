"""The agent's settings: defaults, every key, and every mistake with its line."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from agent.config import Config, ConfigError, Controller, Listen, Permission, load, loads, parse_listen, template
from agent.errors import AgentError
from agent.trusted import UNWRITABLE, Folder

EVERYTHING = """\
listen = "[::1]:0"
shell = "/bin/bash"
max_sessions = 1
max_unauthenticated = 1000000
max_unauthenticated_per_source = 7
penalty_exempt = ["192.0.2.0/24", "2001:db8::1"]

[controllers.ops]
permissions = ["push", "pull"]
from = ["10.0.0.0/8", "2001:db8::/32"]

[controllers."dr.strange"]
permissions = []
"""


def reason(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    error = caught.value
    assert error.what == (error.path if error.line is None else f"{error.path}:{error.line}")
    assert error.why == error.reason
    return str(error)


def test_nothing_set_is_all_defaults() -> None:
    assert loads("") == Config()
    assert Config().listen == Listen("0.0.0.0", 7422)
    assert (Config().shell, Config().max_sessions) == ("/bin/sh", 4096)
    assert (Config().max_unauthenticated, Config().max_unauthenticated_per_source) == (100, 16)
    assert [str(network) for network in Config().penalty_exempt] == ["127.0.0.0/8", "::1/128"]
    assert Config().controller("ops") == Controller(frozenset({Permission.RUN, Permission.PUSH, Permission.PULL}))


def test_everything_set() -> None:
    networks = [ipaddress.ip_network(text) for text in ("192.0.2.0/24", "2001:db8::1", "10.0.0.0/8", "2001:db8::/32")]
    config = loads(EVERYTHING)
    assert config == Config(
        listen=Listen("::1", 0),
        shell="/bin/bash",
        max_sessions=1,
        max_unauthenticated=1_000_000,
        max_unauthenticated_per_source=7,
        penalty_exempt=tuple(networks[:2]),
        controllers={
            "ops": Controller(frozenset({Permission.PUSH, Permission.PULL}), tuple(networks[2:])),
            "dr.strange": Controller(frozenset()),
        },
    )
    assert config.controller("ops") is config.controllers["ops"]
    assert config.controller("other") == Controller()


def test_the_template_sets_the_address_alone_and_shows_the_defaults() -> None:
    assert loads(template(Listen())) == Config()
    assert loads(template(Listen("::", 8000))) == Config(listen=Listen("::", 8000))
    examples = [line[2:] for line in template(Listen()).splitlines() if line.startswith("# ") and "=" in line]
    assert loads("\n".join(examples[:5])) == Config()
    ops = loads("[controllers.ops]\n" + "\n".join(examples[5:])).controller("ops")
    assert ops.permissions == frozenset(Permission)
    assert len(ops.sources) == 2
    assert (ops.push, ops.pull, ops.home) == (("/etc/nginx",), ("/var/log",), "/srv")


def test_a_controllers_directories() -> None:
    text = '[controllers.ops]\npush = ["/etc/nginx", "/srv/www"]\npull = ["/var/log"]\nhome = "/srv"'
    ops = loads(text).controller("ops")
    assert (ops.push, ops.pull, ops.home) == (("/etc/nginx", "/srv/www"), ("/var/log",), "/srv")
    assert (Controller().push, Controller().pull, Controller().home) == (None, None, None)


def test_where_a_controller_may_come_from() -> None:
    ops = loads(EVERYTHING).controller("ops")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"):
        assert ops.accepts(address)
    for address in ("11.1.2.3", "::ffff:11.1.2.3", "2001:db9::7", "fe80::1%eth0"):
        assert not ops.accepts(address)
    assert Controller().accepts("203.0.113.9")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Unknown keys.
        ('\nlisen = "0.0.0.0:1"', 'agent.toml:2: unknown key "lisen": did you mean "listen"?'),
        (
            "colour = 1",
            'agent.toml:1: unknown key "colour": expected one of listen, shell, max_sessions, max_unauthenticated, '
            "max_unauthenticated_per_source, penalty_exempt, controllers",
        ),
        ("controler.ops.from = []", 'agent.toml:1: unknown key "controler": did you mean "controllers"?'),
        ("[controller.ops]", 'agent.toml:1: unknown key "controller": did you mean "controllers"?'),
        (
            '[controllers.ops]\nfrom = ["::1"]\n\n[controllers.eve]\n# a remark\npermission = ["run"]',
            'agent.toml:6: unknown key "permission": did you mean "permissions"?',
        ),
        (
            "controllers.ops.x = 1",
            'agent.toml:1: unknown key "x": expected one of permissions, from, push, pull, home',
        ),
        ('"\\u001b[2J" = 1', 'agent.toml: unknown key "\\x1b[2J": expected one of listen, shell'),
        # Wrong types and values.
        ("listen = 7422", "agent.toml:1: listen: is not a string"),
        ('listen = "localhost:1"', "agent.toml:1: listen: 'localhost' is not an IP address"),
        ("shell = true", "agent.toml:1: shell: is not a string"),
        ('shell = "sh"', "agent.toml:1: shell: 'sh' is not an absolute path"),
        ('shell = "/bin/s\\u0000h"', "agent.toml:1: shell: '/bin/s\\x00h' is not an absolute path"),
        ('max_sessions = "9"', "agent.toml:1: max_sessions: is not an integer"),
        ("max_sessions = 1.5", "agent.toml:1: max_sessions: is not an integer"),
        ("max_sessions = true", "agent.toml:1: max_sessions: is not an integer"),
        ("max_sessions = 0", "agent.toml:1: max_sessions: is not in 1..1000000"),
        ("max_sessions = -1", "agent.toml:1: max_sessions: is not in 1..1000000"),
        ("max_sessions = 1000001", "agent.toml:1: max_sessions: is not in 1..1000000"),
        ('penalty_exempt = "::1"', "agent.toml:1: penalty_exempt: is not a list of strings"),
        ("penalty_exempt = [1]", "agent.toml:1: penalty_exempt: is not a list of strings"),
        (
            'penalty_exempt = ["admin.example.org"]',
            "agent.toml:1: penalty_exempt: 'admin.example.org' is not a network: expected numbers, such as",
        ),
        (
            'penalty_exempt = ["10.1.2.3/8"]',
            "agent.toml:1: penalty_exempt: '10.1.2.3/8' is not a network: did you mean '10.0.0.0/8'?",
        ),
        (
            '[controllers.ops]\npermissions = ["run", "sudo"]',
            "agent.toml:2: permissions: 'sudo' is not one of run, push, pull",
        ),
        ('[controllers.ops]\npush = "/etc"', "agent.toml:2: push: is not a list of strings"),
        ("[controllers.ops]\npush = []", "agent.toml:2: push: is empty: to forbid it, leave it out of permissions"),
        ("[controllers.ops]\npull = [1]", "agent.toml:2: pull: is not a list of strings"),
        ('[controllers.ops]\npull = ["var/log"]', "agent.toml:2: pull: 'var/log' is not an absolute path"),
        ('[controllers.ops]\npush = ["/a\\u0000"]', "agent.toml:2: push: '/a\\x00' is not an absolute path"),
        ('[controllers.ops]\nhome = "~"', "agent.toml:2: home: '~' is not an absolute path"),
        ("[controllers.ops]\nhome = []", "agent.toml:2: home: is not a string"),
        ('[controllers.ops]\npermissions = "run"', "agent.toml:2: permissions: is not a list of strings"),
        ("[controllers.ops]\nfrom = []", "agent.toml:2: from: is empty: to shut a controller out, remove its file"),
        ("[controllers.Ops]", "agent.toml:1: 'Ops' is not a controller's name"),
        ("controllers = 1", "agent.toml:1: controllers: is not a table"),
        ("[controllers]\nops = 1", "agent.toml:2: controllers.ops: is not a table"),
        # TOML itself.
        ("listen = ", "agent.toml:1: invalid value"),
        ("\n\nlisten\n", "agent.toml:3: expected '=' after a key in a key/value pair"),
        ('\nlisten = """abc', "agent.toml:2: unterminated string"),
        ("max_sessions = 1\nmax_sessions = 2", "agent.toml:2: cannot overwrite a value"),
        ("x = " + "[" * 100_000, "agent.toml: nested too deep"),
    ],
)
def test_mistakes(text: str, expected: str) -> None:
    assert reason(text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("0.0.0.0:7422", Listen("0.0.0.0", 7422)),
        ("127.0.0.1:0", Listen("127.0.0.1", 0)),
        ("[::]:65535", Listen("::", 65535)),
        ("[FE80::1]:1", Listen("fe80::1", 1)),
    ],
)
def test_parse_listen(text: str, listen: Listen) -> None:
    assert parse_listen(text) == listen
    assert parse_listen(str(listen)) == listen


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", '\'\' is not ADDRESS:PORT, such as "0.0.0.0:7422" or "[::]:7422"'),
        ("7422", "'7422' is not ADDRESS:PORT"),
        ("::1:7422", "'::1:7422' is not ADDRESS:PORT"),
        ("127.0.0.1", "'127.0.0.1' is not ADDRESS:PORT"),
        ("127.0.0.1:", "'127.0.0.1:' is not ADDRESS:PORT"),
        ("127.0.0.1:-1", "'127.0.0.1:-1' is not ADDRESS:PORT"),
        ("127.0.0.1:1\n", "'127.0.0.1:1\\n' is not ADDRESS:PORT"),
        ("127.0.0.1:٣", "'127.0.0.1:٣' is not ADDRESS:PORT"),
        (":7422", "'' is not an IP address"),
        ("web1:7422", "'web1' is not an IP address"),
        ("[127.0.0.1]:1", "'127.0.0.1' is not an IP address"),
        ("[]:1", "'' is not an IP address"),
        ("127.0.0.1:65536", "port 65536 is not in 0..65535"),
        ("127.0.0.1:" + "9" * 5000, "port 99999999999999999999 is not in 0..65535"),
    ],
)
def test_parse_listen_refuses(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_listen(text)
    assert str(caught.value).startswith(expected)


def load_from(path: Path) -> Config:
    with Folder.open(str(path), forbidden=UNWRITABLE) as folder:
        return load(folder)


def test_load(tmp_path: Path) -> None:
    assert load_from(tmp_path) == Config()
    file = tmp_path / "agent.toml"
    file.write_text(EVERYTHING)
    file.chmod(0o644)  # it holds no secret
    assert load_from(tmp_path) == loads(EVERYTHING)


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"shell = 1\n", 0o644, "agent.toml:1: shell: is not a string"),
        (b"\n# \xe9t\xe9\n", 0o644, "agent.toml:2: not UTF-8: byte 0xe9"),
        (b"", 0o664, "agent.toml: is writable by its group or others (mode 0664)"),
        (b"#" * (1024 * 1024 + 1), 0o644, "agent.toml: is longer than 1048576 bytes"),
    ],
)
def test_load_refuses(tmp_path: Path, content: bytes, mode: int, expected: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(AgentError) as caught:
        load_from(tmp_path)
    assert str(caught.value) == f"{tmp_path}/{expected}"
