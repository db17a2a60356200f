"""What the commands of each backend get of the worker's environment."""

from __future__ import annotations

import pytest

from clinvk.backends import BackendRegistry
from clinvk.core.worker_config import WorkerConfig
from workers.execution.environment import Environments

KEYS = {
    "claude": "ANTHROPIC_API_KEY",
    "codex": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
    "mytool": "MYTOOL_API_KEY",
}
REGISTRY = BackendRegistry.from_config({"mytool": {"command": ["mytool"]}})


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*KEYS.values(), "GOOGLE_API_KEY", "AWS_SECRET_ACCESS_KEY", "CLINVK_BROKER_URL"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.delenv("CLAUDE_CODE_USE_BEDROCK", raising=False)


def names(backend: str, **config: object) -> set[str]:
    """Return the secrets that a backend's commands get."""
    found = Environments(WorkerConfig(**config)).of(REGISTRY.get(backend))  # type: ignore[arg-type]
    assert b"PATH" in found
    return {name.decode() for name, value in found.items() if value == b"secret"}


def test_no_cli_gets_the_key_of_another() -> None:
    assert names("claude") == {"ANTHROPIC_API_KEY"}
    assert names("codex") == {"OPENAI_API_KEY"}
    assert names("gemini") == {"GEMINI_API_KEY", "GOOGLE_API_KEY"}
    assert names("mytool") == names("echo") == set()


def test_claude_gets_the_keys_of_a_cloud_where_it_is_to_use_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "1")
    assert names("claude") == {"ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY"}
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "0")
    monkeypatch.setenv("CLAUDE_CODE_USE_VERTEX", "1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "secret")
    assert names("claude") == {"ANTHROPIC_API_KEY", "GOOGLE_CLOUD_PROJECT"}


def test_the_configuration_adds_to_it() -> None:
    assert names("mytool", pass_env=["MYTOOL_*"]) == {"MYTOOL_API_KEY"}
    own = {"mytool": {"pass_env": ["MYTOOL_*"], "env": {"MORE": "secret"}}}
    assert names("mytool", environments=own) == {"MYTOOL_API_KEY", "MORE"}
    assert names("echo", environments=own) == set()


def test_a_variable_that_a_cli_misses_is_found_in_what_it_said() -> None:
    environments, mytool = Environments(WorkerConfig()), REGISTRY.get("mytool")
    assert environments.withheld(mytool, "error: MYTOOL_API_KEY is not set") == "MYTOOL_API_KEY"
    assert environments.withheld(mytool, "error: OTHER_KEY and PATH are not set") is None
    assert environments.withheld(mytool, "error: CLINVK_BROKER_URL") is None


def test_the_configuration_may_give_a_cli_another_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    codex = REGISTRY.get("codex")

    def zone(**env: str) -> str | None:
        config = WorkerConfig(environments={"codex": {"env": env}})
        return Environments(config).time_zone(codex)

    assert zone() is None
    assert zone(TZ="UTC") is None
    assert zone(TZ="Asia/Kolkata") == "Asia/Kolkata"


def test_a_cli_does_not_try_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = BackendRegistry.from_config({}).get("claude")
    monkeypatch.setenv("CLAUDE_CODE_RETRY_WATCHDOG", "1")
    monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "7")
    quiet = Environments(WorkerConfig()).decoded(backend)
    assert quiet["CLAUDE_CODE_MAX_RETRIES"] == "0"
    assert "CLAUDE_CODE_RETRY_WATCHDOG" not in quiet
    assert Environments(WorkerConfig()).quiet_arguments(backend) == ()
    as_it_is = Environments(WorkerConfig(cli_retries=True))
    assert as_it_is.decoded(backend)["CLAUDE_CODE_MAX_RETRIES"] == "7"
    assert as_it_is.decoded(backend)["CLAUDE_CODE_RETRY_WATCHDOG"] == "1"
    assert as_it_is.quiet_arguments(backend) is None


@pytest.mark.parametrize(
    "own", [{"pass_env": ["CLAUDE_CODE_MAX_*"]}, {"env": {"CLAUDE_CODE_MAX_RETRIES": "7"}}]
)
def test_what_the_configuration_names_wins(
    monkeypatch: pytest.MonkeyPatch, own: dict[str, object]
) -> None:
    monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "7")
    environments = Environments(WorkerConfig(environments={"claude": own}))
    found = environments.decoded(BackendRegistry.from_config({}).get("claude"))
    assert found["CLAUDE_CODE_MAX_RETRIES"] == "7"
