"""Find the backends that installed packages provide: entry points of the group `clinvk.backends`.

An entry point's name is what task files call the backend, its value is the class. clinvk's own
backends are declared like any other, in `pyproject.toml`, and nowhere else. A source tree is also
used without being installed, or is changed after it was; so there, `pyproject.toml` itself is read
in place of what an installer made of it.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

from clinvk.backends.base import NAME_PATTERN, NAME_RULE, Backend
from clinvk.core.errors import ConfigError

GROUP = "clinvk.backends"
OWN_DISTRIBUTION = "clinvk"


@cache
def found() -> dict[str, tuple[EntryPoint, ...]]:
    """Return the entry points by name, in alphabetical order; more than one is a conflict.

    Looked for once per process, since it reads a file of every installed package. Nothing is
    imported.
    """
    by_name: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(_all(), key=lambda point: (point.name, point.value)):
        by_name[point.name] = (*by_name.get(point.name, ()), point)
    return by_name


def _all() -> Iterator[EntryPoint]:
    own = _of_source_tree(Path(__file__).parents[2] / "pyproject.toml")
    yield from own
    for point in importlib.metadata.entry_points(group=GROUP):
        if not own or point.dist is None or point.dist.name != OWN_DISTRIBUTION:
            yield point


def _of_source_tree(pyproject: Path) -> list[EntryPoint]:
    """Read clinvk's own declarations; none where clinvk runs from an installed package."""
    if not pyproject.is_file():
        return []
    import tomllib

    project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != OWN_DISTRIBUTION:
        return []
    declared = project["entry-points"][GROUP]
    return [EntryPoint(name, value, GROUP) for name, value in declared.items()]


@cache
def load(name: str) -> Backend:
    """Import a backend and make the one instance of it.

    Raises:
        ConfigError: its package is broken, does not keep the contract of `Backend`, or is one of
            several that provide this name. The message names the package.
    """
    points = found()[name]
    if len(points) > 1:
        packages = " and ".join(map(_package, points))
        raise ConfigError([f'backend "{name}" comes from {packages}: uninstall one of them'])
    [point] = points
    try:
        backend = point.load()()
        problem = _problem(name, backend)
    except Exception as error:
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError([_broken(point, problem)]) from error
    if problem:
        raise ConfigError([_broken(point, problem)])
    assert isinstance(backend, Backend)
    return backend


def _problem(name: str, backend: object) -> str | None:
    """Return what keeps an object from being the backend of this name, if anything does."""
    if not isinstance(backend, Backend):
        return f"{type(backend).__name__} is not a subclass of clinvk.backends.base.Backend"
    missing = [field for field in Backend.__annotations__ if not hasattr(backend, field)]
    if missing:
        return f"{type(backend).__name__} has no {', '.join(missing)}"
    if backend.name != name:
        return f'its class is named "{backend.name}"'
    if not re.fullmatch(NAME_PATTERN, name):
        return f"its name {NAME_RULE}"
    return None


def _broken(point: EntryPoint, problem: str) -> str:
    return (
        f'backend "{point.name}" of package {_package(point)} cannot be loaded: {problem}; '
        f"repair or uninstall the package, or set backends.{point.name}.enabled: false"
    )


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else OWN_DISTRIBUTION
