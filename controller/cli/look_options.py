"""The options of `fleet run` about how results look, each defined once."""

from __future__ import annotations

from typing import Annotated

import typer

_SHOW = "How results look"

FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="TABLEFMT", help="Any table format of tabulate.", rich_help_panel=_SHOW),
]
FoldOption = Annotated[
    bool, typer.Option("-b", "--fold", help="Equal results once, under their set of hosts.", rich_help_panel=_SHOW)
]
DiffOption = Annotated[
    bool, typer.Option("--diff", help="Fold, then each group's difference to the largest.", rich_help_panel=_SHOW)
]
MaskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mask", metavar="REGEX", help="Compare (-b, --diff) without what matches; repeatable.", rich_help_panel=_SHOW
    ),
]
MaskHostOption = Annotated[
    bool, typer.Option("--mask-host", help="Compare without the host's own name.", rich_help_panel=_SHOW)
]
MaskTimeOption = Annotated[
    bool, typer.Option("--mask-time", help="Compare without dates, times and durations.", rich_help_panel=_SHOW)
]
MaskNumberOption = Annotated[
    bool, typer.Option("--mask-number", help="Compare without numbers and sizes.", rich_help_panel=_SHOW)
]
ColumnsOption = Annotated[
    bool,
    typer.Option(
        "--columns",
        help="Outputs that are tables (df, ps aux, CSV...) as one, with HOST in front; also with --json and --format.",
        rich_help_panel=_SHOW,
    ),
]
SortOption = Annotated[
    str | None,
    typer.Option(
        "--sort", metavar="COL[:desc]", help="Order of --columns: 9.8G is less than 10T.", rich_help_panel=_SHOW
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        metavar="COND",
        help="Rows of --columns: 'Use% > 80 and HOST ~ web' (= != < <= > >= ~ !~, and).",
        rich_help_panel=_SHOW,
    ),
]
TopOption = Annotated[
    int | None, typer.Option("--top", metavar="N", help="The first N rows of --columns.", rich_help_panel=_SHOW)
]
RawOption = Annotated[bool, typer.Option("--raw", help="One host's bytes as they are.", rich_help_panel=_SHOW)]
StreamOption = Annotated[
    bool, typer.Option("--stream", help="Whole lines as they come: 'host: line'.", rich_help_panel=_SHOW)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document at the end.", rich_help_panel=_SHOW)]
JsonLinesOption = Annotated[bool, typer.Option("--jsonl", help="A JSON event a line.", rich_help_panel=_SHOW)]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Failures only.", rich_help_panel=_SHOW)]
OutputDirOption = Annotated[
    str | None,
    typer.Option(
        "-o", "--output-dir", metavar="DIR", help="Also write DIR/HOST.stdout and .stderr.", rich_help_panel=_SHOW
    ),
]
