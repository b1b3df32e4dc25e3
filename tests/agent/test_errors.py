"""The one error that users see from the agent."""

from agent.errors import AgentError


def test_fields_and_text() -> None:
    error = AgentError("agent.toml", "is not UTF-8", "mend it")
    assert (error.what, error.why, error.hint) == ("agent.toml", "is not UTF-8", "mend it")
    assert str(error) == "agent.toml: is not UTF-8"
    assert AgentError("a", "b").hint is None
