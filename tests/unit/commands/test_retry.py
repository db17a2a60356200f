"""`clinvk retry` over a store in this process, whose worker runs what is retried at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clinvk.broker.dispatcher import Dispatcher
from clinvk.core.spec import ErrorKind, RunOptions, TaskResult, TaskSpec, TaskStatus
from clinvk.local import reach
from clinvk.runs.celery_client import CeleryClient
from clinvk.runs.celery_run import CeleryRun, RetriedRun
from clinvk.store import decoding
from clinvk.store.keys import key
from clinvk.store.store import Store
from clinvk.store.types import Lease
from tests.unit.fake_fleet import Clinvk, bad, ok

RUN = "20260102-030405-abcdef01"
QUEUES = ["clinvk.claude", "clinvk.codex"]
Answer = Callable[[int, TaskSpec], TaskResult]


class Client(CeleryClient):
    """A client of a store in this process.

    Attributes:
        answer: what the worker answers to a task that runs again; None lets it wait.
        before: what happens before tasks are retried, once.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.dispatcher = Dispatcher(str, store)
        self._private = None
        self._broker_url = "redis://fake"
        self.answer: Answer | None = lambda index, spec: ok(index, f"new: {spec.prompt}")
        self.before: Callable[[], object] = lambda: None

    def work(self, answer: Answer) -> None:
        """Run what is dispatched until nothing is."""
        while leases := list(self._dispatched()):
            for lease in leases:
                claim = self.store.claim(lease, "w/1", "n")
                result = answer(lease.index, TaskSpec.from_wire(claim.spec or b""))
                earlier = decoding.earlier(lease.index, claim.earlier)
                self.store.finish(lease, result.after(earlier))
        self.store.aggregate(RUN)

    def _dispatched(self) -> Iterator[Lease]:
        for index, entry in self.store.redis.hgetall(key("in_flight", RUN)).items():
            if entry.split(b":")[1] == b"d":
                yield Lease(RUN, int(index), int(entry.split(b":")[0]))

    def retry(
        self,
        run: CeleryRun,
        tasks: Mapping[int, TaskSpec | None],
        seen_retries: int,
        max_parallel: int | None = None,
        budget: RunOptions | None = None,
    ) -> RetriedRun | None:
        before, self.before = self.before, lambda: None
        before()
        retried = super().retry(run, tasks, seen_retries, max_parallel, budget)
        if self.answer is not None and retried is not None:
            self.work(self.answer)
        return retried


@pytest.fixture
def client(store: Store, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A fleet with a run of four tasks, of which the second and the last have failed."""
    found = Client(store)

    @contextmanager
    def has_run(*_: object) -> Iterator[Client]:
        yield found

    monkeypatch.setattr(reach, "has_run", has_run)
    store.announce("w", {"slots": 9, "queues": QUEUES})
    return found


def submit(client: Client, backends: str = "claude claude codex claude", **options: Any) -> None:
    specs = [
        TaskSpec(backend=backend, prompt=f"p{index}", id=f"t{index}")
        for index, backend in enumerate(backends.split())
    ]
    client.store.submit(RUN, specs, RunOptions(**{"max_parallel": 9, **options}))


def first_answer(index: int, spec: TaskSpec) -> TaskResult:
    if index == 3:
        return bad(index, "too slow", TaskStatus.TIMEOUT, error_kind=ErrorKind.TIMEOUT)
    return bad(index, "no") if index == 1 else ok(index, spec.prompt)


@pytest.fixture
def ended(client: Client) -> Client:
    submit(client)
    client.work(first_answer)
    return client


def states(client: Client) -> list[str]:
    found = client.store.results(RUN, range(4))
    return ["-" if each is None else each.output or each.status for each in found]


def test_what_is_not_ok_runs_again_and_the_document_is_whole(ended: Client, clinvk: Clinvk) -> None:
    done = clinvk("retry", RUN, "--json")
    document = json.loads(done.stdout)
    assert (done.status, document["completed"], document["total_tasks"]) == (0, 4, 4)
    outputs = ["p0", "new: p1", "p2", "new: p3"]
    assert [entry["output"] for entry in document["results"]] == outputs
    tried = [[each["error"] for each in entry.get("tried", ())] for entry in document["results"]]
    assert tried == [[], ["no"], [], ["too slow"]]


def test_text_has_the_lines_of_what_runs_again_and_the_whole_table(
    ended: Client, clinvk: Clinvk
) -> None:
    done = clinvk("retry", RUN, "--kind", "timeout")
    lines = done.stdout.splitlines()
    assert lines[:4] == ["Retrying 1 of 4 tasks (max 9 parallel)...", "", "[4] new: p3", ""]
    assert lines[-1].startswith("Total: 4 tasks, 3 completed, 1 failed")
    assert done.status == 1


@pytest.mark.parametrize(
    ("arguments", "again"),
    [
        (["--failed"], [1, 3]),
        (["--kind", "failed,timeout"], [1, 3]),
        (["--kind", "failed", "--kind", "auth"], [1]),
        (["--index", "1,3-4"], [0, 2, 3]),
        (["--all"], [0, 1, 2, 3]),
    ],
)
def test_tasks_are_chosen(
    ended: Client, clinvk: Clinvk, arguments: list[str], again: list[int]
) -> None:
    clinvk("retry", RUN, "--quiet", *arguments)
    found = [index for index, state in enumerate(states(ended)) if state.startswith("new")]
    assert found == again


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--kind", "tiemout"], '--kind: unknown kind "tiemout", did you mean "timeout"?'),
        (["--index", "5"], f"--index: run {RUN} has no task 5: it has 4, from 1"),
        (["--index", "0"], "has no task 0"),
        (["--index", "3-1"], "--index: 3-1 ends before it begins"),
        (["--index", "1-"], '--index: "1-" is no number, or range such as 7-9'),
        (["--all", "--failed"], "choose tasks by one of"),
        (["--edit", "missing.json"], "missing.json: no such file"),
    ],
)
def test_bad_usage_is_one_line(
    ended: Client, clinvk: Clinvk, arguments: list[str], problem: str
) -> None:
    done = clinvk("retry", RUN, *arguments)
    assert (done.status, done.stdout) == (2, "")
    assert problem in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert states(ended) == ["p0", "failed", "p2", "timeout"]


def test_an_unknown_run_is_one_line(client: Client, clinvk: Clinvk) -> None:
    done = clinvk("retry", "nosuch")
    assert (done.status, done.stderr) == (
        2,
        "clinvk: unknown run nosuch (clinvk runs lists the runs)\n",
    )


def test_nothing_to_retry_is_a_line_and_no_error(ended: Client, clinvk: Clinvk) -> None:
    done = clinvk("retry", RUN, "--kind", "auth")
    expected = f"nothing to retry: run {RUN} has no task whose error is auth\n"
    assert (done.status, done.stdout, done.stderr) == (0, "", expected)
    clinvk("retry", RUN)
    done = clinvk("retry", RUN, "--json")
    assert done.status == 0
    assert f"run {RUN} has no task that is not ok" in done.stderr
    assert len(json.loads(done.stdout)["results"]) == 4


def test_what_waits_or_runs_is_left_alone(client: Client, clinvk: Clinvk) -> None:
    submit(client, max_parallel=1)
    client.store.claim(Lease(RUN, 0, 1), "w/1", "n")
    client.store.finish(Lease(RUN, 0, 1), bad(0, "no"))
    client.answer = None
    done = clinvk("retry", RUN, "--all", "--detach")
    assert (done.status, done.stdout) == (0, f"{RUN}\n")
    assert "3 more run or wait still: they are left alone" in done.stderr


def test_results_show_the_earlier_one_until_the_new_one_is_in(
    ended: Client, clinvk: Clinvk
) -> None:
    ended.answer = None
    clinvk("retry", RUN, "--all", "--detach")
    found = json.loads(clinvk("results", RUN, "--json").stdout)
    assert [entry["status"] for entry in found["results"]] == ["ok", "failed", "ok", "timeout"]
    assert (found["state"], found["waiting"]) == ("running", 4)
    ended.work(lambda index, spec: ok(index, spec.prompt))


def test_another_retry_in_between_is_taken_into_account(ended: Client, clinvk: Clinvk) -> None:
    def other() -> None:
        ended.store.retry(RUN, {1: None}, 0)
        ended.work(lambda index, _: ok(index, "by somebody else"))

    ended.before = other
    assert clinvk("retry", RUN, "--quiet").status == 0
    assert states(ended) == ["p0", "by somebody else", "p2", "new: p3"]


def test_a_run_that_is_being_stopped_is_not_retried(client: Client, clinvk: Clinvk) -> None:
    submit(client)
    client.store.claim(Lease(RUN, 0, 1), "w/1", "n")
    client.store.claim(Lease(RUN, 1, 1), "w/1", "n")
    client.store.finish(Lease(RUN, 1, 1), bad(1, "no"))
    client.store.cancel(RUN, "interrupted")
    done = clinvk("retry", RUN)
    assert done.status == 1
    assert "still being stopped: retry it when it has ended" in done.stderr


def test_tasks_that_have_expired_are_one_line(ended: Client, clinvk: Clinvk) -> None:
    ended.store.redis.delete(key("specs", RUN))
    done = clinvk("retry", RUN)
    assert (done.status, done.stderr) == (
        4,
        f"clinvk: run {RUN} cannot be retried: its tasks are no longer there (runs.keep_days)\n",
    )


def test_a_backend_that_nobody_serves_is_one_line(ended: Client, clinvk: Clinvk) -> None:
    ended.store.drain("w")
    done = clinvk("retry", RUN)
    assert done.status == 4
    assert "no live worker serves claude" in done.stderr


def test_what_the_run_requires_still_has_to_be_there(ended: Client, clinvk: Clinvk) -> None:
    required = json.dumps({"claude": ">=2.1.150", "tags": ["gpu"]})
    ended.store.redis.hset(key("run", RUN), "requires", required)
    ended.store.announce("w", {"slots": 9, "queues": QUEUES, "clis": {"claude": "2.1.140 (C)"}})
    done = clinvk("retry", RUN, "--all")
    assert (done.status, done.stdout) == (4, "")
    assert done.stderr == (
        "clinvk: no live worker that serves claude has what the run requires (claude >=2.1.150, "
        "tags gpu): w has claude 2.1.140 and no tags; no live worker that serves codex has what "
        "the run requires (tags gpu): w has no tags (--wait-for-workers submits anyway)\n"
    )


class TestEdits:
    def edit(self, clinvk: Clinvk, tasks: list[dict[str, str]], *arguments: str) -> Any:
        given = [{"backend": "claude", **task} for task in tasks]
        Path("edit.json").write_text(json.dumps({"tasks": given}))
        return clinvk("retry", RUN, "--edit", "edit.json", "--quiet", *arguments)

    def test_tasks_are_found_by_their_ids(self, ended: Client, clinvk: Clinvk) -> None:
        done = self.edit(clinvk, [{"id": "t3", "prompt": "better", "backend": "codex"}])
        assert done.status == 0
        assert states(ended) == ["p0", "new: p1", "p2", "new: better"]
        (spec,) = ended.store.specs(RUN, [3])
        assert spec is not None
        assert (spec.backend, spec.id) == ("codex", "t3")

    def test_the_others_by_their_places(self, ended: Client, clinvk: Clinvk) -> None:
        tasks = [{"prompt": "one"}, {"id": "t1", "prompt": "two"}]
        assert self.edit(clinvk, tasks).status == 0
        assert states(ended) == ["p0", "new: two", "p2", "new: one"]
        (spec,) = ended.store.specs(RUN, [3])
        assert spec is not None
        assert spec.id == "t3"

    def test_all_errors_are_told_at_once_and_nothing_changes(
        self, ended: Client, clinvk: Clinvk
    ) -> None:
        tasks = [{"id": "x", "prompt": "p"}, {"id": "t0", "prompt": "p"}, {"prompt": "p"}]
        done = self.edit(clinvk, tasks)
        counts = "has 1 without an id, for 2 that run again"
        assert (done.status, done.stderr.splitlines()) == (
            2,
            [
                'edit.json: tasks[0]: the run has no task with the id "x"',
                'edit.json: tasks[1]: the task with the id "t0" does not run again',
                f"edit.json: {counts}: give each the id of its task, or as many as run again",
            ],
        )
        assert states(ended) == ["p0", "failed", "p2", "timeout"]

    def test_they_are_validated_as_any_task(self, ended: Client, clinvk: Clinvk) -> None:
        done = self.edit(clinvk, [{"id": "t1", "prompt": "p", "max_turns": "x"}])
        assert (done.status, "edit.json: tasks[0].max_turns" in done.stderr) == (2, True)

    def test_steps_of_a_chain_take_outputs_of_the_steps_before(
        self, client: Client, clinvk: Clinvk
    ) -> None:
        specs = [TaskSpec(backend="claude", prompt="p", name=f"s{index}") for index in range(3)]
        client.store.submit(RUN, specs, RunOptions(kind="chain", max_parallel=1))
        client.work(lambda index, _: bad(1, "no") if index == 1 else ok(index, "fine"))
        step = {"backend": "claude", "name": "s1", "id": "", "prompt": "use {{steps.s0.output}}"}
        del step["id"]
        last = {"backend": "claude", "prompt": "use {{previous}} and {{steps.s2.output}}"}
        Path("edit.json").write_text(json.dumps({"steps": [step, last]}))
        done = clinvk("retry", RUN, "--edit", "edit.json")
        assert done.status == 2
        assert 'steps[1].prompt: {{steps.s2.output}}: "s2" is this step' in done.stderr
        last["prompt"] = "use {{previous}}"
        Path("edit.json").write_text(json.dumps({"steps": [step, last]}))
        assert clinvk("retry", RUN, "--edit", "edit.json").status == 0
        found = client.store.specs(RUN, [1, 2])
        assert [spec.inputs for spec in found if spec] == [
            {"{{steps.s0.output}}": 0},
            {"{{previous}}": 1},
        ]
