"""Trees of files on their way from one machine to another, written once for both sides.

A push is sent by the controller and received by the agent, a pull the other way round. Nothing here knows a socket, or
which side it is on: messages in, messages out, work in bounded pieces.

    sender     lists and answers          receiver   compares, writes, tells
    sources    an operator's paths        places     where a path belongs
    entries    the walk over sources      comparer   an entry against what is there
    following  links among them           plans      what is to be done about an entry
    patterns   what is left out           incoming   contents as they come
    content    reading one file           writer     one file beside its target
    paths      walking without following  committer  backup, rename, delete; with syncing and removal
"""
