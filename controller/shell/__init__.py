"""A prompt over many hosts: connections that are kept, and for each host a directory and variables that last.

`listing` reads what a shell says of its variables; `state` turns that into what the next command begins with;
`trailer` takes it off the output; `keeper` serves connections while nobody asks anything of them; `session` runs
commands over all of it. On top, `dialogue` is what one prompt can do, `commands` the table of its ``:`` commands,
`prompt` where its lines come from. Nothing here knows typer.
"""
