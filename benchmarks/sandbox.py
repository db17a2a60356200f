"""The cost of a sandbox: a whole task of `/bin/true`, from spec to result, in each mechanism.

The floor is the same task without a sandbox; they take turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator

from benchmarks.records import MissingError
from benchmarks.scale import Row
from clinvk.core.network import Network
from clinvk.core.spec import TaskSpec
from clinvk.core.worker_config import WorkerConfig
from clinvk.store.types import Claim, Lease
from workers.execution import process_tree
from workers.execution.executor import Executor
from workers.execution.sandbox import detection
from workers.execution.sandbox.mechanism import Mechanism
from workers.execution.stop_signal import StopSignal

ROUNDS = 25


def measure() -> Iterator[Row]:
    process_tree.become_subreaper()
    with tempfile.TemporaryDirectory(prefix="clinvk-work-") as workdir:
        runs = {"none": task(None, workdir)}
        for mechanism in mechanisms():
            spec = TaskSpec(backend="true", prompt="x", sandbox_mode="workspace", workdir=workdir)
            runs[mechanism.by(Network())] = task(mechanism, workdir, spec)
        medians = in_turns(runs)
    floor = medians.pop("none")
    for name, value in medians.items():
        yield f"one task of /bin/true, sandboxed by {name}", value, "ms", floor, "no sandbox"


def mechanisms() -> list[Mechanism]:
    abi = detection.landlock_abi()
    bubblewraps = [Mechanism(bubblewrap=program) for program in detection.bubblewraps()[:1]]
    both = [Mechanism(bubblewrap=each.bubblewrap, abi=abi) for each in bubblewraps]
    found = [each for each in (*both, *bubblewraps, Mechanism(abi=abi)) if not problem(each)]
    if not found:
        raise MissingError("no mechanism works here")
    return found


def problem(mechanism: Mechanism) -> str | None:
    return detection.try_out(mechanism)


def task(
    mechanism: Mechanism | None, workdir: str, spec: TaskSpec | None = None
) -> Callable[[], None]:
    """Return what runs one task, as a worker whose sandboxes are made like this does."""
    config = WorkerConfig(backends={"true": {"command": ["/bin/true"]}}, spill_dir=workdir)
    executor = Executor(config, "w@h", "w@h/1")
    executor.sandbox.use(mechanism or Mechanism(reason="not asked for"))
    wire = (spec or TaskSpec(backend="true", prompt="x", workdir=workdir)).to_wire()

    def run() -> None:
        with StopSignal() as stop:
            ended = executor.execute(
                Lease("run", 0, 1), Claim("go", wire, attempts=1), stop, lambda _: ()
            )
        assert ended is not None
        assert ended.result.exit_code == 0, ended.result

    return run


def in_turns(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return each run's median, in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(found) for name, found in times.items()}
