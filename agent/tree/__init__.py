"""Trees of files on their way from one machine to another, written once for both sides.

A push is sent by the controller and received by the agent, a pull the other way round. Nothing here knows a socket, or
which side it is on: messages in, messages out, work in bounded pieces.

    sender     lists and answers          receiver   compares, writes, tells
    entries    the walk over sources      comparer   an entry against what is there
    content    reading one file           incoming   contents as they come
    patterns   what is left out           writer     one file beside its target
    paths      walking without following  committer  sync, rename, backup, delete
"""
