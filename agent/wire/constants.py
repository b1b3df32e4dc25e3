"""Every number of the protocol.

The first part is the specification: changing a number there makes a different protocol. The second part is this
implementation's choice, and the reasons stand beside the values.
"""

from __future__ import annotations

# Specification ----------------------------------------------------------------------------------------------------

PROTOCOL_VERSION = 1
MIN_PROTOCOL_VERSION = 1
# Bits of what came after the first version 1. Whoever knows one offers it; it is used where both sides know it.
WHOLE_FILES = 1  # a small file in one message
FEATURES = WHOLE_FILES

HELLO_MAGIC = b"FLTH"
CHALLENGE_MAGIC = b"FLTC"
NONCE_LENGTH = 32
HOST_ID_LENGTH = 16
MAX_CONTROLLER_NAME = 64
HELLO_LENGTHS = (66, 129)  # shortest and longest
CHALLENGE_LENGTH = 42
PROOF_LENGTH = 64
SERVER_PROOF_LENGTH = 32

# Before the login nobody has a reason to send more. A stranger speaks twice (hello, proof), so 4 KiB are never filled.
MAX_HANDSHAKE_BODY = 1024

# A data frame. 64 KiB keeps a sender's buffers small, 256 KiB is past the point where bigger is faster.
MAX_DATA_PAYLOAD = 256 * 1024
# `run` holds a command of up to 128 KiB (the kernel takes no longer argument: MAX_ARG_STRLEN, execve(2)), which JSON
# may stretch six-fold, and an environment.
MAX_RUN_PAYLOAD = 1024 * 1024
MAX_CONTROL_PAYLOAD = 16 * 1024
# A batch of entries, wants or outcomes. One entry may be 4 KiB of path and as much of a link's target, and JSON may
# stretch both six-fold.
MAX_BATCH_PAYLOAD = 256 * 1024
# The content of a small file, in the message that is all about it.
MAX_WHOLE = 64 * 1024
# Zero bytes in one message: as many as are hashed in some 50 ms, because nothing else is done meanwhile.
MAX_HOLE = 64 * 1024 * 1024
# Batches of entries that a sender may have listed without their being settled: enough to hide the way there and back,
# and few enough to hold in memory.
MAX_BATCHES = 4
MAX_BATCH_ENTRIES = 512

# Of an integer in JSON: all that 64 bits can hold. Reading one of a million digits takes minutes.
MAX_INTEGER_DIGITS = 20

# How much of the standard input may be under way before the agent says that the command has taken some. Without it a
# command that does not read would block the connection, and `cancel` behind it.
STDIN_WINDOW = 1024 * 1024

# A program that is run without being put into a file: the agent keeps it in memory.
MAX_SCRIPT = 16 * 1024 * 1024

# Implementation ---------------------------------------------------------------------------------------------------

LOGIN_DEADLINE = 10.0  # seconds from accept to the proof; OpenSSH's 120 s let strangers hold slots for too long
PING_AFTER = 15.0  # seconds without a byte from the peer
DEAD_AFTER = 45.0  # seconds: three pings unanswered. A NAT that forgot us must not hold a job for ever
STUCK_AFTER = 60.0  # seconds in which a write made no progress
