"""Which options about results go together, and what each says of a value that nobody can use."""

import pytest

from controller.cli.look import Look
from controller.errors import FleetError
from controller.output.columns import Columns, ColumnsJson
from controller.output.diff import Diff
from controller.output.digests import StreamFold
from controller.output.fold import Fold
from controller.output.table import Table


@pytest.mark.parametrize(
    ("look", "kind"),
    [
        (Look(), Table),
        (Look(fold=True), Fold),
        (Look(fold=True, quiet=True, mask=("a+",), mask_host=True, mask_time=True, mask_number=True), Fold),
        (Look(diff=True, mask=("a",)), Diff),
        (Look(fold=True, diff=True), Diff),
        (Look(stream=True, fold=True, mask=("a",), mask_host=True), StreamFold),
        (Look(columns=True, sort="a:desc", where="a > 1", top=3), Columns),
        (Look(columns=True, tablefmt="github"), Columns),
        (Look(columns=True, json=True, sort="a"), ColumnsJson),
    ],
)
def test_what_goes_together(look, kind):
    look.check(3)
    assert type(look.sink()) is kind


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (Look(fold=True, columns=True), "--fold and --columns: results can look only one way at a time"),
        (Look(json=True, fold=True), "--json and --fold: results can look only one way at a time"),
        (Look(jsonl=True, columns=True), "--jsonl and --columns: results can look only one way at a time"),
        (Look(tablefmt="tsv", diff=True), "--format and --diff: results can look only one way at a time"),
        (
            Look(fold=True, diff=True, columns=True),
            "--fold and --diff and --columns: results can look only one way at a time",
        ),
        (Look(quiet=True, columns=True), "--quiet and --columns: only a table can leave hosts out"),
        (Look(quiet=True, diff=True), "--quiet and --diff: only a table can leave hosts out"),
        *[
            (
                Look(stream=True, diff=True, **more),
                "--stream and --diff: a difference takes whole outputs, and a stream keeps none",
            )
            for more in ({}, {"fold": True}, {"json": True}, {"mask": ("a",)})
        ],
        (Look(stream=True, fold=True, quiet=True), "--quiet and --stream: only a table can leave hosts out"),
        (
            Look(stream=True, fold=True, columns=True),
            "--stream and --fold and --columns: results can look only one way at a time",
        ),
        (Look(stream=True, columns=True), "--stream and --columns: results can look only one way at a time"),
        (Look(stream=True, mask=("a",)), "--mask: is for --fold and --diff"),
        (Look(mask=("a",)), "--mask: is for --fold and --diff"),
        (Look(mask_host=True, columns=True), "--mask-host: is for --fold and --diff"),
        (Look(mask_time=True), "--mask-time: is for --fold and --diff"),
        (Look(mask_number=True, json=True), "--mask-number: is for --fold and --diff"),
        (Look(sort="a"), "--sort: is for --columns"),
        (Look(where="a", fold=True), "--where: is for --columns"),
        (Look(top=0), "--top: is for --columns"),
    ],
)
def test_what_does_not_go_together(look, said):
    with pytest.raises(FleetError) as caught:
        look.check(1)
    assert (str(caught.value), caught.value.exit_code) == (said, 2)


@pytest.mark.parametrize(
    ("look", "said", "hint"),
    [
        (
            Look(stream=True, fold=True, mask=("(",)),
            "--mask: missing ), unterminated subpattern at position 1: '('",
            None,
        ),
        (Look(fold=True, mask=("a", "b(")), "--mask: missing ), unterminated subpattern at position 2: 'b('", None),
        (Look(columns=True, top=0), "--top: 0 is not a number of rows", None),
        (Look(columns=True, top=-1), "--top: -1 is not a number of rows", None),
        (Look(columns=True, sort=""), "--sort: '' names no column", "--sort COL or --sort COL:desc"),
        (Look(columns=True, sort=":desc"), "--sort: ':desc' names no column", "--sort COL or --sort COL:desc"),
        (
            Look(columns=True, where="Use% 80"),
            "--where: expected one of = != < <= > >= ~ !~ at position 8: Use% 80 >>>",
            "for example: --where 'Use% > 80 and HOST ~ web'",
        ),
        (Look(columns=True, tablefmt="nope"), "--format: unknown table format 'nope': choose one of ", None),
    ],
)
def test_values_that_nobody_can_use(look, said, hint):
    look.check(1)
    with pytest.raises(FleetError) as caught:
        look.sink()
    assert str(caught.value).startswith(said)
    assert (caught.value.hint, caught.value.exit_code) == (hint, 2)


@pytest.mark.parametrize(
    ("sort", "column", "descending"),
    [
        ("a", "a", False),
        ("a:asc", "a", False),
        ("a:desc", "a", True),
        ("MAJ:MIN", "MAJ:MIN", False),
        ("a:b:desc", "a:b", True),
    ],
)
def test_the_order_is_behind_the_last_colon(sort, column, descending):
    query = Look(columns=True, sort=sort)._query()
    assert (query.sort, query.descending) == (column, descending)
