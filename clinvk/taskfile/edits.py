"""Read new texts for tasks of a run, and find the task that each of them is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from clinvk.core.errors import TaskFileError
from clinvk.core.spec import TaskSpec
from clinvk.taskfile import chain, reader
from clinvk.taskfile.schema import TASKS


@dataclass(frozen=True, slots=True)
class Edits:
    """The tasks of a file, each with its place there; `is_ordered` where they are steps."""

    tasks: Sequence[tuple[str, TaskSpec]]
    is_ordered: bool = False


def parse(
    stream: Iterable[bytes],
    name: str,
    backends: Mapping[str, bool],
    resolve: reader.Resolve,
    *,
    is_ordered: bool,
) -> Edits:
    """Read a file of tasks, or of steps; what it says beside them is of no use here.

    Raises:
        TaskFileError: with all problems of the file.
    """
    if is_ordered:
        steps = reader.parse(stream, name, backends, chain.EDITED_STEPS, resolve)
        return Edits(list(zip(steps.sources, steps.tasks, strict=True)), is_ordered=True)
    parsed = reader.parse(stream, name, backends, TASKS, resolve)
    return Edits(list(zip(parsed.sources, parsed.tasks, strict=True)))


def matched(edits: Edits, name: str, specs: Sequence[TaskSpec], chosen: Sequence[int]) -> _Matched:
    """Find the task for each edit: by its id where it has one, else by its place among the others.

    `specs` are all tasks of the run, and `chosen` the indexes of those that may be edited.

    Raises:
        TaskFileError: with all that does not fit.
    """
    places = _Places(specs, chosen)
    for place, spec in edits.tasks:
        places.add(place, spec)
    problems = [*places.problems, *places.pair(name)]
    found = {index: _kept(specs[index], spec) for index, (_, spec) in places.found.items()}
    if edits.is_ordered:
        found, wrong = _connected(specs, found, {i: at for i, (at, _) in places.found.items()})
        problems += wrong
    if problems:
        raise TaskFileError(problems)
    return found


_Matched = dict[int, TaskSpec]


class _Places:
    """Which task of the run each edit is for."""

    def __init__(self, specs: Sequence[TaskSpec], chosen: Sequence[int]) -> None:
        self.found: dict[int, tuple[str, TaskSpec]] = {}
        self.problems: list[str] = []
        self._chosen = chosen
        self._is_chosen = set(chosen)
        self._by_id = {spec.id: index for index, spec in enumerate(specs) if spec.id}
        self._without_id: list[tuple[str, TaskSpec]] = []

    def add(self, place: str, spec: TaskSpec) -> None:
        """Find the task of an edit by its id."""
        if spec.id is None:
            self._without_id.append((place, spec))
        elif (index := self._by_id.get(spec.id)) is None:
            self.problems.append(f'{place}: the run has no task with the id "{spec.id}"')
        elif index not in self._is_chosen:
            self.problems.append(f'{place}: the task with the id "{spec.id}" does not run again')
        else:
            self.found[index] = (place, spec)

    def pair(self, name: str) -> list[str]:
        """Pair the edits without an id with the other tasks, in order; returns what is wrong."""
        others = [index for index in self._chosen if index not in self.found]
        if self._without_id and len(self._without_id) != len(others):
            counts = f"{len(self._without_id)} without an id, for {len(others)} that run again"
            return [f"{name}: has {counts}: give each the id of its task, or as many as run again"]
        self.found.update(zip(others, self._without_id, strict=False))
        return []


def _kept(old: TaskSpec, new: TaskSpec) -> TaskSpec:
    """Return a new spec with what stays of the task: what it is called, and its steps."""
    return replace(new, id=new.id or old.id, name=new.name or old.name, steps=old.steps)


def _connected(
    specs: Sequence[TaskSpec], found: _Matched, places: Mapping[int, str]
) -> tuple[_Matched, list[str]]:
    """Return edited steps with the inputs that their prompts name, and what is wrong with those."""
    steps = [found.get(index, spec) for index, spec in enumerate(specs)]
    names, have_schema = [step.name for step in steps], [step.schema is not None for step in steps]
    problems = [
        f"{places[index]}.prompt: {problem}"
        for index, spec in found.items()
        for problem in chain.problems_of(spec.prompt, index, names, have_schema)
    ]
    if problems:
        return found, problems
    return {
        index: replace(spec, inputs=chain.inputs_of(spec.prompt, index, names))
        for index, spec in found.items()
    }, []
