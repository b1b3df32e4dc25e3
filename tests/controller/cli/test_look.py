"""Which options about results go together, and the sink that they mean."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest

from controller.cli.look import Look, writers
from controller.errors import FleetError
from controller.output import Tee, Writer, documents, stream, table
from controller.output.line import Beside, StatusLine


def fault(look, hosts=3):
    with pytest.raises(FleetError) as caught:
        look.check(hosts)
    return str(caught.value)


def test_ways_that_exclude_each_other():
    every = Look(tablefmt="github", raw=True, stream=True, json=True, jsonl=True)
    assert fault(every) == (
        "--format and --raw and --stream and --json and --jsonl: results can look only one way at a time"
    )


@pytest.mark.parametrize("name", ["raw", "stream", "json", "jsonl"])
def test_quiet_is_for_tables(name):
    assert fault(Look(quiet=True, **{name: True}), 1) == f"--quiet and --{name}: only a table can leave hosts out"
    Look(quiet=True).check(3)
    Look(quiet=True, tablefmt="github").check(3)


def test_raw_is_for_one_host():
    Look(raw=True).check(1)
    assert fault(Look(raw=True), 2) == "--raw: shows one host's bytes, and 2 hosts match"


@pytest.mark.parametrize(
    ("look", "kind"),
    [
        (Look(), table.Table),
        (Look(tablefmt="github"), table.Table),
        (Look(raw=True), stream.Raw),
        (Look(stream=True), stream.Stream),
        (Look(json=True), documents.Json),
        (Look(jsonl=True), documents.JsonLines),
    ],
)
def test_sinks(look, kind):
    assert type(look.sink()) is kind


def test_files_come_beside_the_rest(tmp_path):
    assert type(Look(output_dir=str(tmp_path / "new")).sink()) is Tee
    assert (tmp_path / "new").is_dir()


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FleetError) as caught:
        Look(output_dir=str(tmp_path / "file/x")).sink()
    assert str(caught.value) == f"--output-dir: cannot write {tmp_path}/file/x: Not a directory"


def test_an_unknown_format():
    with pytest.raises(FleetError, match=r"^--format: unknown table format 'x': choose one of "):
        Look(tablefmt="x").sink()


@pytest.mark.parametrize(
    ("look", "passes"),
    [(Look(raw=True), True), (Look(stream=True), True), (Look(stream=True, output_dir="d"), False), (Look(), False)],
)
def test_what_passes_on_needs_no_limit(look, passes):
    assert look.passes_on is passes


def test_writers_know_their_streams():
    out, err = writers("always")
    assert (out.name, err.name) == ("standard output", "standard error")
    assert out.colour.enabled
    assert err.colour.enabled
    assert not writers("never")[0].colour.enabled


def test_what_may_be_on_the_screen_is_written_beside_the_line(monkeypatch, tmp_path):
    from controller.cli import look as module

    line = StatusLine(Writer(io.BytesIO()))
    reader, writer = os.pipe()
    with open(tmp_path / "file", "wb") as file, open(writer, "wb") as pipe:
        streams = {"stdout": SimpleNamespace(buffer=file), "stderr": SimpleNamespace(buffer=pipe)}
        monkeypatch.setattr(module, "sys", SimpleNamespace(**streams))
        assert [type(made) for made in writers("auto", line)] == [Writer, Beside]
        assert [type(made) for made in writers("auto")] == [Writer, Writer]
    os.close(reader)


@pytest.mark.parametrize("look", [Look(raw=True), Look()])
def test_without_a_terminal_there_is_no_line(look, monkeypatch):
    from controller.cli import look as module

    monkeypatch.setattr(module, "sys", SimpleNamespace(stderr=io.StringIO()))
    assert look.status_line() is None
