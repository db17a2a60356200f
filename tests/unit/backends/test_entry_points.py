"""Backends of installed packages: how they are found, and each way in which one can be broken."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from clinvk.backends import BackendRegistry, base, entry_points, packaged_names
from clinvk.backends.base import UNCONFINED, Session
from clinvk.core.errors import ConfigError
from clinvk.core.spec import TaskSpec

GOOD = """
from clinvk.backends.configured import Configured

class Backend(Configured):
    def __init__(self):
        super().__init__("other", ["other-cli"])
"""
OLDER = """
from clinvk.backends.configured import Configured

class Backend(Configured):
    def __init__(self):
        super().__init__("other", ["other-cli"])

    def command(self, spec, confinement):
        return super().command(spec, confinement)
"""
BARE = """
from clinvk.backends.base import Backend as Base

class Backend(Base):
    name = "other"
    command = reader = None
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package with one module and one entry point, as an installer would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(code: str, *, package: str = "clinvk-other", name: str = "other") -> None:
        module = package.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        metadata = tmp_path / f"{module}-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
        )
        (metadata / "entry_points.txt").write_text(
            f"[{entry_points.GROUP}]\n{name} = {module}:Backend\n"
        )
        modules.append(module)
        importlib.invalidate_caches()
        forget()

    modules: list[str] = []
    forget()
    yield install
    forget()
    for module in modules:
        sys.modules.pop(module, None)


def forget() -> None:
    entry_points.found.cache_clear()
    entry_points.load.cache_clear()


def get(name: str) -> str:
    backend = BackendRegistry.from_config({}).get(name)
    return backend.command(TaskSpec(backend=name, prompt="x")).argv[0]


def test_a_package_adds_a_backend(install: Install) -> None:
    before = packaged_names()
    install(GOOD)
    assert packaged_names() == tuple(sorted((*before, "other")))
    assert "clinvk_other" not in sys.modules, "nothing is imported to list the names"
    assert get("other") == "other-cli"


def test_a_backend_need_not_know_of_sessions(install: Install) -> None:
    install(OLDER)
    backend = BackendRegistry.from_config({}).get("other")
    spec = TaskSpec(backend="other", prompt="x")
    command = base.build_command(backend, spec, UNCONFINED, Session(keep=True, resume="id"))
    assert command.argv == ("other-cli",)


def test_a_configured_backend_replaces_a_packaged_one(install: Install) -> None:
    install("raise AssertionError")
    registry = BackendRegistry.from_config({"other": {"command": ["mine"]}})
    assert registry.get("other").program == "mine"
    assert registry.names().count("other") == 1


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("", "AttributeError: module 'clinvk_other' has no attribute 'Backend'"),
        ("Backend = dict", "dict is not a subclass of clinvk.backends.base.Backend"),
        ("from clinvk.backends.base import Backend", "TypeError: Can't instantiate abstract class"),
        (GOOD.replace('"other"', '"another"'), 'its class is named "another"'),
        (
            BARE,
            "Backend has no program, install_hint, version_argv",
        ),
    ],
)
def test_a_broken_package_is_one_line_that_names_it(
    install: Install, code: str, problem: str
) -> None:
    install(code)
    with pytest.raises(ConfigError) as caught:
        get("other")
    (line,) = caught.value.problems
    assert line.startswith(
        f'backend "other" of package clinvk-other 1.2 cannot be loaded: {problem}'
    )
    assert line.endswith("; repair or uninstall the package, or set backends.other.enabled: false")
    assert "\n" not in line


def test_a_name_must_fit_into_a_queue_s(install: Install) -> None:
    install(GOOD.replace('"other"', '"o,ther"'), name="o,ther")
    with pytest.raises(ConfigError, match="its name must consist of letters and digits"):
        get("o,ther")


def test_two_packages_with_one_name_are_a_conflict(install: Install) -> None:
    install(GOOD)
    install(GOOD, package="clinvk-second")
    with pytest.raises(ConfigError) as caught:
        get("other")
    assert caught.value.problems == (
        'backend "other" comes from clinvk-other 1.2 and clinvk-second 1.2: uninstall one of them',
    )


def test_nobody_can_replace_a_backend_of_clinvk(install: Install) -> None:
    install(GOOD.replace('"other"', '"echo"'), name="echo")
    with pytest.raises(ConfigError, match=r'"echo" comes from clinvk and clinvk-other 1\.2'):
        get("echo")


def test_a_source_tree_is_read_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an installer made of it may be absent, or older than a change to pyproject.toml."""
    declared = packaged_names()
    stale = EntryPoint("gone", "clinvk.backends.gone:Gone", entry_points.GROUP)
    stale._for(importlib.metadata.distribution("clinvk"))  # type: ignore[attr-defined]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [stale])
    forget()
    assert packaged_names() == declared
    monkeypatch.setattr(entry_points, "_of_source_tree", lambda _: [])
    forget()
    assert packaged_names() == ("gone",), "an installed package has its metadata alone"
    forget()


@pytest.mark.parametrize("name", packaged_names())
def test_each_backend_can_be_loaded(name: str) -> None:
    assert BackendRegistry.from_config({}).get(name).name == name
