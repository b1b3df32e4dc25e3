"""`--exclude` of a push or a pull: files, or hosts; never the wrong one in silence."""

from __future__ import annotations

import pytest

from controller.cli.excludes import split
from controller.errors import FleetError
from inventory import load


@pytest.fixture
def known(tmp_path):
    path = tmp_path / "hosts.ini"
    path.write_text("[web]\nweb1\nweb2\n[db]\ndb1\n")
    return load([str(path)], stdin=None, warn=print)


@pytest.fixture
def sources(tmp_path):
    tree = tmp_path / "tree"
    (tree / "db1.d").mkdir(parents=True)
    (tree / "db1.d" / "db1").write_text("x")
    (tree / "web").mkdir()
    (tmp_path / "db2").write_text("x")
    return [str(tree), str(tmp_path / "db2")]


@pytest.mark.parametrize(
    "pattern", ["*.log", "web3", "/web1", "web1/", "**/web*", "*.d", "[", "~(", "db1.*", "&", "!", "@x", "a b"]
)
def test_what_means_no_host_is_about_files(known, sources, capsys, pattern):
    assert split([pattern], known, sources) == ([pattern], [])
    assert split([pattern], known) == ([pattern], [])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("pattern", ["web1", "web*", "web[1-2]", "web1,web2", "!db", "~web.", "all"])
def test_what_means_hosts_and_no_file_is_about_hosts(known, capsys, pattern):
    assert split(["*.log", pattern], known, []) == (["*.log"], [pattern])
    assert capsys.readouterr() == ("", f"fleet: --exclude {pattern}: taken for hosts, as -x\n")
    assert split([pattern], known) == ([], [pattern])


@pytest.mark.parametrize("pattern", ["db1", "db*", "*", "web", "d*"])
def test_what_means_both_is_an_error(known, sources, capsys, pattern):
    with pytest.raises(FleetError) as caught:
        split([pattern], known, sources)
    assert (caught.value.what, caught.value.exit_code) == ("--exclude", 2)
    assert caught.value.why == f"{pattern!r} means files of SRC, and hosts as well"
    assert caught.value.hint == "-x is for hosts alone"
    assert capsys.readouterr() == ("", "")


def test_a_source_itself_counts(known, tmp_path):
    (tmp_path / "web1").write_text("x")
    with pytest.raises(FleetError):
        split(["web1"], known, [str(tmp_path / "web1")])
    assert split(["web1"], known, [str(tmp_path / "missing")]) == ([], ["web1"])
