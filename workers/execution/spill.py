"""The directory for output that is too long for a result, and what it may take of its disk.

Several workers may share it. Files are the outputs of tasks, so the oldest go first when there is
no room for a new one; and some of the disk stays free, so that one task's flood does not fail the
tasks beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clinvk.core.user_paths import make_directory

COPY_BYTES = 1 << 20
DAY_SECONDS = 86_400.0
_NAME = re.compile(r"stdout-[a-z0-9_]{8,16}\.log(\.part)?")
"""Names of what is cleaned up; anything else in the directory is not ours."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Saved:
    """A file with an output, and how many bytes of it there are, from its beginning."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spill:
    """The directory and its limits.

    All files together have at most `quota_bytes`, and none is older than `keep_days`. Output goes
    to a disk only while that has `reserve_bytes` free.
    """

    directory: Path
    quota_bytes: int = 10 << 30
    keep_days: float = 7
    reserve_bytes: int = 256 << 20

    def prepare(self) -> None:
        """Make the directory and remove what is too old or too much; the worker's start."""
        try:
            make_directory(self.directory, 0o700)
            with self._locked():
                self._make_room(0)
        except OSError as error:  # output goes to the temporary directory, then
            logger.warning("%s cannot be used: %s", self.directory, error)

    def folder(self) -> str | None:
        """Return where output may be written: here or in the temporary directory; None if nowhere.

        Output then stays in memory, up to its limit in a result.
        """
        return next(filter(self._has_space, (str(self.directory), tempfile.gettempdir())), None)

    def _has_space(self, folder: str) -> bool:
        try:
            return _free_bytes(os.statvfs(folder)) >= self.reserve_bytes
        except OSError:
            return False

    def is_reached(self, fd: int) -> bool:
        """Whether the reserve of an open file's disk is touched."""
        try:
            return _free_bytes(os.fstatvfs(fd)) < self.reserve_bytes
        except OSError:
            return False

    def save(self, fd: int, size: int) -> Saved | None:
        """Give an open file of that size a name here, as much of it as the quota allows.

        Returns None where nothing can be kept.
        """
        try:
            make_directory(self.directory, 0o700)
            kept = min(size, self.quota_bytes)
            if not kept:
                return None
            with self._locked():
                self._make_room(kept)
                path = self.directory / f"stdout-{secrets.token_hex(4)}.log"
                if not _link(fd, kept, path):
                    self._copy(fd, kept, path)
        except OSError as error:
            logger.warning("an output of %d bytes could not be kept: %s", size, error)
            return None
        return Saved(path, kept)

    def _copy(self, fd: int, kept: int, path: Path) -> None:
        """Copy the beginning of a file; nothing is left of it where there is no room.

        Raises:
            OSError: it cannot be written, or the reserve would be touched.
        """
        if _free_bytes(os.statvfs(self.directory)) - kept < self.reserve_bytes:
            raise OSError("the disk has no room for it")
        part = path.with_name(path.name + ".part")
        try:
            part.touch(mode=0o600, exist_ok=False)
            with part.open("wb") as copy:
                for start in range(0, kept, COPY_BYTES):
                    piece = os.pread(fd, min(COPY_BYTES, kept - start), start)
                    copy.write(piece)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other workers from counting and removing at the same time."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make_room(self, needed: int) -> None:
        """Remove what is too old, and the oldest until so much fits into the quota."""
        oldest_at = time.time() - self.keep_days * DAY_SECONDS
        files = sorted(self._files(), key=lambda found: found[1].st_mtime)
        total = sum(stat.st_size for _, stat in files)
        for path, stat in files:
            if stat.st_mtime >= oldest_at and total + needed <= self.quota_bytes:
                break
            path.unlink(missing_ok=True)
            total -= stat.st_size

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False)


def _free_bytes(disk: os.statvfs_result) -> int:
    return disk.f_bavail * disk.f_frsize


def _link(fd: int, kept: int, path: Path) -> bool:
    """Give a file without a name one, on the same disk: that copies nothing."""
    if sys.platform != "linux":
        return False
    if os.fstat(fd).st_size > kept:
        os.ftruncate(fd, kept)
    try:
        # With a descriptor given, Python calls linkat, which alone follows the link.
        os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
    except OSError:  # in memory, on another disk, or one that makes no such files
        return False
    return True
