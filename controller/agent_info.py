"""What an agent says of itself when it has proven who it is. Its own words: nothing is decided by them."""

from __future__ import annotations

from agent.wire.codec import decode_json
from agent.wire.record import record

__all__ = ["AgentInfo", "read_info"]


@record
class AgentInfo:
    """What an agent that has proven itself says of itself."""

    agent: str = ""
    python: str = ""
    os: str = ""
    host: str = ""


def read_info(info: bytes) -> AgentInfo:
    """Read what a proven agent says of itself. Text that is missing or of another type is left out."""
    try:
        values = decode_json(info)
    except ValueError:
        return AgentInfo()
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    return AgentInfo(texts.get("agent", ""), texts.get("python", ""), texts.get("os", ""), texts.get("host", ""))
