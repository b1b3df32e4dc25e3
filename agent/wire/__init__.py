"""The protocol between controller and agent, as pure objects: bytes in, messages out.

No sockets, no TLS, no processes, no threads, no files: whoever drives a `Connection` owns those. PROTOCOL.md beside
this file is the specification, complete enough for a second implementation.

    constants   every number                        handshake   the login's cryptography
    messages    one frozen dataclass each           frames      lengths and checksums
    codec       messages to bytes and back          connection  who may say what when
    link        a Connection on a non-blocking transport: queue, pings, deadlines
    enrolment   the file that brings a host's keys to its agent
"""
