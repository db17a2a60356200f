"""Run a command in a sealed world: `python -m tests.system.realcli.sealed [OPTIONS] HOME COMMAND…`.

A network namespace of its own in which there is nothing but loopback, the fake model API on it,
a throw-away home with the CLIs' configuration, and an environment with nothing of ours in it.
Nothing that runs in here can reach, or be billed by, anybody. Needs root, or a kernel that lets
users make namespaces.

With `--allow JSON` the API allows each CLI no more than that (see `meter`), and claude has a
subscription. With `--quick-limits` clinvk waits a second where it waits a minute.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests import quick_limits
from tests.meter import meters
from tests.system.realcli import fakeapi
from tests.system.realcli.hostile import THIEF_PORT
from tests.system.realcli.install import bin_directory, copilot_cache

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
KEY = "dummy-key"
REQUESTS = "requests.jsonl"
"""In the home: what the fake API was asked, for whoever looks from outside."""


STOLEN = "stolen.jsonl"
"""The same of the address that hostile repositories redirect CLIs to."""


def seal() -> None:
    """Leave the network; only loopback remains.

    Raises:
        OSError: this system does not let us.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a network namespace")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


SUBSCRIPTION = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-dummy"}
"""Variables of a claude that has no key, but a login."""


def environment(home: Path, url: str) -> dict[str, str]:
    """Write each CLI's configuration into `home` and return the variables it needs."""
    codex, gemini = home / ".codex", home / ".gemini"
    codex.mkdir(parents=True, exist_ok=True)
    gemini.mkdir(parents=True, exist_ok=True)
    (codex / "config.toml").write_text(
        f"""
model = "fake-model"
model_provider = "fake"
[model_providers.fake]
name = "fake"
base_url = "{url}/v1"
env_key = "FAKE_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"""
    )
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"maxAttempts": 1},
        "privacy": {"usageStatisticsEnabled": False},
    }
    (gemini / "settings.json").write_text(json.dumps(settings))
    opencode = home / ".config" / "opencode"
    opencode.mkdir(parents=True, exist_ok=True)
    (opencode / "opencode.json").write_text(json.dumps(_opencode(f"{url}/opencode/v1")))
    # What plugins of opencode may need is not there, which by default takes it 70 s to believe.
    (home / ".npmrc").write_text("fetch-retries=0\n")
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PATH": f"{bin_directory()}{os.pathsep}{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CODEX_HOME": str(codex),
        "FAKE_KEY": KEY,
        "CLINVK_BACKENDS_CODEX_PASS_ENV": "FAKE_KEY",
        "GEMINI_API_KEY": KEY,
        "GOOGLE_GEMINI_BASE_URL": url,
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "COPILOT_PROVIDER_BASE_URL": f"{url}/copilot/v1",
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_API_KEY": KEY,
        "COPILOT_MODEL": "fake-model",
        "COPILOT_OFFLINE": "true",
        "COPILOT_CACHE_HOME": str(copilot_cache()),  # the same for all homes
    }


def _opencode(url: str) -> dict[str, Any]:
    """Return the settings of a CLI that takes any provider: this one, and its models."""
    model = {"name": "m", "limit": {"context": 1_000_000, "output": 8000}}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "fake",
        "options": {"baseURL": url, "apiKey": KEY},
        "models": {"fake-model": model, "other": model},
    }
    return {"autoupdate": False, "provider": {"fake": provider}, "model": "fake/fake-model"}


def main() -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.realcli.sealed")
    parser.add_argument("--allow", type=json.loads, metavar="JSON", default={})
    parser.add_argument("--answer-seconds", type=float, metavar="S", default=0.0)
    parser.add_argument("--quick-limits", action="store_true")
    parser.add_argument("home", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    home: Path = options.home
    seal()
    home.mkdir(parents=True, exist_ok=True)
    allowed = meters(options.allow)
    with (
        fakeapi.FakeApi(0, home / REQUESTS, allowed, options.answer_seconds) as api,
        fakeapi.FakeApi(THIEF_PORT, log=home / STOLEN),
    ):
        variables = environment(home, api.url) | (SUBSCRIPTION if allowed else {})
        if options.quick_limits:
            variables["PYTHONPATH"] = quick_limits.python_path(home)
        env = {name: value for name, value in variables.items() if value}
        return subprocess.run(options.command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
