"""A CLI for chaos that keeps its own record: `fakecli.py FOLDER`, and on stdin `NAME KIND SECONDS`.

Each line of FOLDER/tasks.log is `WORD NANOSECONDS PID OWNER LEASE`: which worker process runs it
(`NAME@HOST/PID`), and which dispatch of which task it is (run:index:dispatch). The word is start,
end, refused (by a limit of its provider), or overlap: for each task there is a file that its
process locks, and so do its children; where the lock is taken, another execution still lives. The
kernel lets it go when the last of them has ended, however that happens.

`claude` is a CLI of the same record whose provider has limits (`tests.limited_claude`).
"""

import fcntl
import os
import signal
import sys
import time
from pathlib import Path

FLOOD_BYTES = 50_000_000
LEFT_SECONDS = 600


def note(word: str) -> None:
    words = (word, time.monotonic_ns(), os.getpid(), OWNER, LEASE)
    fd = os.open(f"{FOLDER}/tasks.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, (" ".join(map(str, words)) + "\n").encode())
    os.close(fd)


def take(index: str) -> None:
    lock = os.open(f"{FOLDER}/locks/{index}", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("overlap")


def escape() -> None:
    """Leave a process behind, in a session of its own, that does not listen to TERM."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(LEFT_SECONDS)
    os._exit(0)


def main(folder: str) -> int:
    begin(folder)
    _, kind, seconds = sys.stdin.read().split()
    take(LEASE.split(":")[1])
    note("start")
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(LEFT_SECONDS)
    if kind == "escape":
        escape()
    if kind == "flood":
        for _ in range(FLOOD_BYTES // 1_000_000):
            os.write(1, b"x" * 1_000_000)
    if kind == "bytes":
        os.write(1, b"\xff\xfe\x00\xc3(\n")
    time.sleep(float(seconds))
    note("end")
    if kind == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    os.write(1, f"{LEASE}\n".encode())
    return 3 if kind == "fail" else 0


def claude(folder: str) -> int:
    from tests import limited_claude  # `main` has no path to it

    if "--version" in sys.argv:
        return limited_claude.main(folder)
    begin(folder)
    name, _, seconds = sys.stdin.read().split()
    take(LEASE.split(":")[1])
    note("start")
    status = limited_claude.run(Path(folder), [name, seconds])
    note("refused" if status else "end")
    return status


def begin(folder: str) -> None:
    global FOLDER, LEASE, OWNER
    FOLDER, LEASE = folder, os.environ["CLINVK_TASK"]
    OWNER = f"{os.environ['CLINVK_OWNER'].partition('/')[0]}/{os.getppid()}"


FOLDER = LEASE = OWNER = ""
if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
