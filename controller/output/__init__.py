"""The ways in which results can look, one sink for each.

What every command needs is here; a command takes the ways themselves from their modules, so that it loads the one it
shows and no other: `table.Table` (the default), `fold.Fold`, `diff.Diff`, `columns.Columns` and `columns.ColumnsJson`,
`stream.Stream` and `stream.Raw`, `digests.StreamFold`, `documents.Json` and `documents.JsonLines`, `folder.OutputDir`;
`listing` for `fleet hosts` and `fleet ping`. `line.StatusLine` and `status.Status` are what is seen before that.

No sink touches the standard streams; each gets a `Writer` for where it writes.
"""

from controller.output.colour import Colour
from controller.output.sink import RunInfo, Sink, Tee
from controller.output.writer import OutputError, Writer, silence

__all__ = ["Colour", "OutputError", "RunInfo", "Sink", "Tee", "Writer", "silence"]
