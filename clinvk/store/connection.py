"""How Redis is reached: URLs, connections, scripts, and which errors pass."""

from __future__ import annotations

import math
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from itertools import chain, repeat
from typing import Any, Self, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry

from clinvk.core.errors import BrokerError
from clinvk.store.failure_detector import Server
from clinvk.store.keys import key
from clinvk.store.scripts import Operation, operation

T = TypeVar("T")

PING_SECONDS = 3.0
MAX_IDLE = 16
"""Connections that are kept for later calls; more are open only while more calls run at once."""
REST_SECONDS = 1.0
"""After how long without use a connection may have been closed by the server."""
OLDEST_VERSION = (7, 0)

TRANSIENT = frozenset(
    {"LOADING", "READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS", "OOM", "BUSY", "TRYAGAIN"}
)
"""Errors of a server that may be well again later."""
SERVES_NOBODY = frozenset({"LOADING", "MISCONF"})
"""Those in which it does nothing for anybody, reapers included."""

PROBE = f"""
redis.call('TIME')
redis.call('EXISTS', 'clinvk:probe')
redis.call('XREVRANGE', 'clinvk:probe', '+', '-', 'COUNT', 1)
return redis.acl_check_cmd('HSET', '{key("run", "probe")}', 'state', '') and 1 or 0
"""
"""What every operation rests on: a script that names its keys itself, and streams. Returns whether
the user may write what runs are made of; asking leaves no entry in the server's ACL LOG."""


def all_but_wrong_types(pipeline: Any) -> list[Any]:
    """Execute a pipeline; the error itself is the answer where a key is of another type.

    Whoever decodes the answers treats it like any record that cannot be read.
    """
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    for answer in answers:
        if isinstance(answer, Exception) and not str(answer).startswith("WRONGTYPE"):
            raise answer
    return answers


def is_transient(error: BaseException) -> bool:
    """Whether what failed may work later: the server is away, or cannot write just now."""
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return True
    return _code(error) in TRANSIENT


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the server refused to write because its memory is full."""
    return _code(error) == "OOM"


def serves_nobody(error: BaseException | None) -> bool:
    """Whether an error shows that there is no server for anyone, not just no way to it."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError | FileNotFoundError):
            return True
        if _code(error) in SERVES_NOBODY:
            return True
        error = error.__cause__ or error.__context__
    return False


def _code(error: BaseException) -> str:
    """Return the first word of what a server answered."""
    return getattr(error, "status_code", None) or str(error).partition(" ")[0]


def retry(call: Callable[[], T], timeout_seconds: float = math.inf) -> T:
    """Call until it does not fail for a reason that passes (`is_transient`), or the time is over.

    Raises:
        redis.RedisError: how it failed last.
    """
    give_up_at = time.monotonic() + timeout_seconds
    for delay_seconds in chain((0.1, 0.5, 1.0), repeat(2.0)):
        try:
            return call()
        except redis.RedisError as error:
            if not is_transient(error) or time.monotonic() + delay_seconds > give_up_at:
                raise
            time.sleep(delay_seconds)
    raise AssertionError  # the delays never end


def redis_url(broker_url: str) -> str:
    """Translate any accepted form of a broker URL into redis-py's."""
    return re.sub(r"^((\w+\+)?socket|unix)://", "unix://", broker_url)


@cache
def driver() -> redis.DriverInfo:
    """Return what connections tell the server of themselves; to find it out takes a while."""
    return redis.DriverInfo()


def connection_options(answer_seconds: float | None) -> dict[str, Any]:
    """Return options of connections; with `answer_seconds` they wait so long, and try once."""
    if answer_seconds is None:
        return {"driver_info": driver()}
    return {
        "driver_info": driver(),
        "socket_connect_timeout": answer_seconds,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
    }


def connection_beside(pool: Any) -> Any:
    """Make a connection like a pool's: it counts those that it ever made, and allows a hundred."""
    return pool.connection_class(**pool.connection_kwargs)


def _is_over(connection: Any) -> bool:
    """Whether a connection on which nothing is expected was closed, or says something."""
    try:
        return bool(connection.can_read(timeout=0))
    except (redis.RedisError, OSError):
        return True


class Connection:
    """The way to one server. Safe to use from any thread.

    Attributes:
        redis: redis-py's client, for plain commands.
        submitter: the server's user, where it may not act but only ask (`requests.py`); None for
            others, and until `check_server`.
        submitters: for a worker, the users who asked for something lately.
    """

    submitter: str | None = None
    submitters: Sequence[str] = ()

    def __init__(self, client: redis.Redis) -> None:
        self.redis: Any = client  # redis-py types every answer as bytes or str or None
        self._url = ""
        self._idle = deque[tuple[Any, float]]()

    @classmethod
    def connect(cls, broker_url: str, answer_seconds: float | None = None) -> Self:
        """Connect to this broker, at the first call.

        With `answer_seconds`, a call that takes longer fails, and none is tried again.
        """
        url = redis_url(broker_url)
        connection = cls(redis.Redis.from_url(url, **connection_options(answer_seconds)))
        connection._url = url
        return connection

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop()[0].disconnect()
        self.redis.close()

    def check_server(self) -> list[str]:
        """Make sure, within a few seconds, that the server answers and has what clinvk needs.

        Returns:
            What is dangerous in its configuration for a fleet, one line each.

        Raises:
            redis.RedisError: it does not answer.
            BrokerError: it lacks something.
        """
        with redis.Redis.from_url(self._url, **connection_options(PING_SECONDS)) as client:
            try:
                about: dict[str, Any] = client.info()
            except redis.ResponseError as error:
                if is_transient(error):
                    raise
                raise BrokerError(
                    f"the broker does not answer INFO ({error}): connect to Redis itself, not to a "
                    "proxy, as a user with +info"
                ) from error
            check_version(about)
            try:
                may_act = client.eval(PROBE, 0)
                self.submitter = None if may_act else str(client.acl_whoami())
            except redis.ResponseError as error:
                if is_transient(error):
                    raise
                raise BrokerError(
                    f"the broker does not run clinvk's Lua scripts ({error}): use Redis 7.0 or "
                    "newer, or Valkey"
                ) from error
            return configuration_warnings(about)

    def server(self) -> Server:
        """Ask the server which run of it this is, and who is connected."""
        about = self.redis.info("server")
        try:
            clients = frozenset(int(client["id"]) for client in self.redis.client_list())
        except redis.ResponseError:  # a user who may not ask
            clients = None
        return Server(about["run_id"], 1000 * int(about["uptime_in_seconds"]), clients)

    def others(self) -> int:
        """Return how many clients beside this one are connected, where no thread uses it now."""
        clients = self.redis.client_list()
        return max(0, len(clients) - 1 - len(self._idle))

    def unhurried(self) -> Any:
        """Return a redis-py client of this server whose calls may take any time; close it after."""
        return redis.Redis.from_url(self._url, **connection_options(None), socket_timeout=None)

    def call(self, name: str, **arguments: Any) -> Any:
        """Run the script of an operation.

        Over connections of our own: redis-py's client and its pool take two thirds of the time
        of a call (65 us of CPU, so 20). They retry as the client would.
        """
        script = operation(name)
        values, connection = script.arguments(arguments), self._connection()

        def ask() -> Any:
            connection.send_command("EVALSHA", script.sha, 0, *values)
            try:
                return connection.read_response()
            except NoScriptError:
                # On this very connection: the address may no longer lead to the same server.
                _load(connection, script)
                connection.send_command("EVALSHA", script.sha, 0, *values)
                return connection.read_response()

        try:
            answer = connection.retry.call_with_retry(ask, lambda _: connection.disconnect())
        except redis.ResponseError:
            self._put_back(connection)
            raise
        except BaseException:  # an answer may be on its way
            connection.disconnect()
            raise
        self._put_back(connection)
        return answer

    def _connection(self) -> Any:
        try:
            connection, used_at = self._idle.pop()
        except IndexError:
            return connection_beside(self.redis.connection_pool)
        if time.monotonic() - used_at > REST_SECONDS and _is_over(connection):
            connection.disconnect()  # it connects again as it is used
        return connection

    def _put_back(self, connection: Any) -> None:
        if len(self._idle) < MAX_IDLE:
            self._idle.append((connection, time.monotonic()))
        else:
            connection.disconnect()


def _load(connection: Any, operation: Operation) -> None:
    connection.send_command("SCRIPT", "LOAD", operation.text)
    connection.read_response()


def check_version(about: dict[str, Any]) -> None:
    """Make sure that a server is one that clinvk runs on, from its answer to INFO.

    Raises:
        BrokerError: it is not.
    """
    if "dragonfly_version" in about:
        raise BrokerError(
            "the broker is Dragonfly, which runs no Lua script that names its keys itself: use "
            "Redis 7.0 or newer, or Valkey"
        )
    if about.get("redis_mode") == "cluster" or about.get("cluster_enabled") == 1:
        raise BrokerError(
            "the broker is a Redis Cluster, where a script reaches the keys of one node only: use "
            "a single Redis or Valkey server (with replicas, if you like)"
        )
    version = str(about.get("redis_version", ""))
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < OLDEST_VERSION:
        raise BrokerError(
            f"the broker is Redis {version or 'of an unknown version'}: clinvk needs Redis 7.0 or "
            "newer, or Valkey"
        )


def configuration_warnings(about: dict[str, Any]) -> list[str]:
    """Say what of a server's configuration can lose tasks, from its answer to INFO."""
    warnings = []
    policy = about.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            f"the broker evicts keys when its memory is full (maxmemory-policy {policy}): runs and "
            "results can vanish; set maxmemory-policy noeviction"
        )
    if about.get("aof_enabled") == 0:
        warnings.append(
            "the broker keeps no append-only file: a restart loses runs and results; set "
            "appendonly yes and appendfsync always"
        )
    return warnings
