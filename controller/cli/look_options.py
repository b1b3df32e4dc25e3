"""The options of `fleet run` about how results look, each defined once."""

from __future__ import annotations

from typing import Annotated

from controller.cli.declare import Option

_SHOW = "How results look"

FormatOption = Annotated[
    str | None,
    Option("--format", metavar="TABLEFMT", help="Any table format of tabulate.", panel=_SHOW),
]
FoldOption = Annotated[bool, Option("-b", "--fold", help="Equal results once, under their set of hosts.", panel=_SHOW)]
DiffOption = Annotated[bool, Option("--diff", help="Fold, then each group's difference to the largest.", panel=_SHOW)]
MaskOption = Annotated[
    list[str] | None,
    Option("--mask", metavar="REGEX", help="Compare (-b, --diff) without what matches; repeatable.", panel=_SHOW),
]
MaskHostOption = Annotated[bool, Option("--mask-host", help="Compare without the host's own name.", panel=_SHOW)]
MaskTimeOption = Annotated[bool, Option("--mask-time", help="Compare without dates, times and durations.", panel=_SHOW)]
MaskNumberOption = Annotated[bool, Option("--mask-number", help="Compare without numbers and sizes.", panel=_SHOW)]
ColumnsOption = Annotated[
    bool,
    Option(
        "--columns",
        help="Outputs that are tables (df, ps aux, CSV...) as one, with HOST in front; also with --json and --format.",
        panel=_SHOW,
    ),
]
SortOption = Annotated[
    str | None,
    Option("--sort", metavar="COL[:desc]", help="Order of --columns: 9.8G is less than 10T.", panel=_SHOW),
]
WhereOption = Annotated[
    str | None,
    Option(
        "--where",
        metavar="COND",
        help="Rows of --columns: 'Use% > 80 and HOST ~ web' (= != < <= > >= ~ !~, and).",
        panel=_SHOW,
    ),
]
TopOption = Annotated[int | None, Option("--top", metavar="N", help="The first N rows of --columns.", panel=_SHOW)]
RawOption = Annotated[bool, Option("--raw", help="One host's bytes as they are.", panel=_SHOW)]
StreamOption = Annotated[
    bool,
    Option(
        "--stream",
        help="Whole lines as they come: 'host: line', of stderr 'host! line'; in one column on a terminal; lines "
        "over 1 MiB in pieces. With -b "
        "also, at the end, who wrote the same: '= web[1-9] (9): same, 3 lines'; masks then see a line at a time.",
        panel=_SHOW,
    ),
]
JsonOption = Annotated[bool, Option("--json", help="One JSON document at the end.", panel=_SHOW)]
JsonLinesOption = Annotated[bool, Option("--jsonl", help="A JSON event a line.", panel=_SHOW)]
QuietOption = Annotated[bool, Option("-q", "--quiet", help="Failures only.", panel=_SHOW)]
OutputDirOption = Annotated[
    str | None,
    Option(
        "-o",
        "--output-dir",
        metavar="DIR",
        help="Also write DIR/HOST.stdout and .stderr; of a host that is broken, .stdout.partial.",
        panel=_SHOW,
    ),
]
