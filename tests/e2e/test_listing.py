"""`fleet ping` and `fleet hosts`."""

from __future__ import annotations

import json
import platform
import re


def test_ping_table(lab):
    done = lab.fleet("ping", "-l", "web1:newcomer:gone")
    assert done.code == 4
    assert done.err == "1 ok, 1 unreachable, 1 denied of 3 hosts in 0.00s\n"
    header, *rows = [re.split(r"\s{2,}", line) for line in done.out.splitlines()]
    assert header == ["HOST", "STATUS", "AGENT", "PYTHON", "OS", "CLOCK_OFFSET", "RTT", "ERROR"]
    assert rows[0][:2] == ["web1", "ok"]
    assert rows[0][3] == platform.python_version()
    assert re.fullmatch(r"[+-]\d+\.\d{3}s", rows[0][5])
    assert re.fullmatch(r"\d+\.\d{4}s", rows[0][6])
    assert rows[1][:7] == ["gone", "unreachable", "-", "-", "-", "-", "-"]
    assert rows[2] == ["newcomer", "denied", "-", "-", "-", "-", "-", "not enrolled: mend with: fleet enroll newcomer"]


def test_ping_json(lab):
    done = lab.fleet("ping", "--json", "-l", "good:stranger")
    assert (done.code, done.err) == (4, "")
    assert list(done.json) == ["run", "summary", "results"]
    assert done.json["run"].items() >= {"command": "ping", "exit_code": 4}.items()
    assert done.json["summary"] == {"ok": 3, "denied": 1}
    results = {result["host"]: result for result in done.json["results"]}
    assert list(results) == ["web1", "web2", "db1", "stranger"]
    for name in ("web1", "web2", "db1"):
        result = results[name]
        assert list(result) == ["host", "status", "agent", "python", "os", "clock_offset", "rtt", "error"]
        assert (result["status"], result["python"], result["error"]) == ("ok", platform.python_version(), None)
        assert abs(result["clock_offset"]) < 30
        assert 0 < result["rtt"] < 30
        assert result["agent"] and result["os"]
    assert results["stranger"]["status"] == "denied"
    assert [results["stranger"][key] for key in ("agent", "python", "os", "clock_offset", "rtt")] == [None] * 5


def test_ping_formats(lab):
    out = lab.fleet("ping", "--format", "tsv", "-l", "web1").out
    assert [line.split("\t")[0].strip() for line in out.splitlines()] == ["HOST", "web1"]


def test_ping_ok_is_0(lab):
    assert lab.fleet("ping", "-l", "good", "-f", "1").code == 0


def test_hosts_table(lab):
    port = [agent.port for agent in lab.agents]
    done = lab.fleet("hosts", "-l", "good")
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines()] == [
        ["HOST", "ADDRESS", "PORT", "GROUPS"],
        ["web1", "127.0.0.1", str(port[0]), "good,web"],
        ["web2", "127.0.0.1", str(port[1]), "good,web"],
        ["db1", "127.0.0.1", str(port[1]), "db,good"],
    ]


def test_hosts_json_is_as_ansible_inventory_has_it_and_heeds_the_limit(lab):
    done = lab.fleet("hosts", "--json", "-l", "db1")
    document = json.loads(done.stdout)
    assert (done.code, done.err) == (0, "")
    assert document["_meta"]["hostvars"] == {
        "db1": {"fleet_host": "127.0.0.1", "fleet_port": str(lab.agents[1].port), "fleet_pool": "many"}
    }
    assert document["db"] == {"hosts": ["db1"]}
    assert "web" not in document


def test_hosts_in_other_ways(lab):
    assert lab.fleet("hosts", "--list-hosts", "-l", "web").out == "web1\nweb2\n"
    assert lab.fleet("hosts", "--fold", "-l", "good").out == "db1,web[1-2]\n"
    assert lab.fleet("hosts", "--graph", "-l", "db1").out == (
        "@all:\n  |--@ungrouped:\n  |--@good:\n  |  |--db1\n  |--@bad:\n  |--@web:\n  |--@db:\n  |  |--db1\n"
    )
    github = lab.fleet("hosts", "--format", "github", "-l", "web1").out
    assert github.startswith("| HOST   | ADDRESS   |")


def test_one_hosts_variables(lab):
    done = lab.fleet("hosts", "--host", "db1")
    assert (done.code, done.err) == (0, "")
    header, *rows = [line.split() for line in done.out.splitlines()]
    assert header == ["VARIABLE", "VALUE", "FROM"]
    assert {row[0]: row[1] for row in rows} == {
        "fleet_host": "127.0.0.1", "fleet_port": str(lab.agents[1].port), "fleet_pool": "many"
    }  # fmt: skip
    assert all(row[2].startswith(f"{lab.inventory}:") for row in rows)
    assert tuple(lab.fleet("hosts", "--host", "nobody")) == (
        2, "", "fleet: --host: 'nobody' is not in the inventory\nhint: fleet hosts --list-hosts\n"
    )  # fmt: skip


def test_hosts_looks_one_way(lab):
    assert tuple(lab.fleet("hosts", "--json", "--fold")) == (2, "", "fleet: --json and --fold: one at a time\n")


def test_to_list_hosts_no_command_is_needed(lab) -> None:
    assert tuple(lab.fleet("run", "--list-hosts", "-l", "web")) == (0, "web1\nweb2\n", "")
    assert lab.fleet("run", "-l", "nobody", "--list-hosts").code == 2
