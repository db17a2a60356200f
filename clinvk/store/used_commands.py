"""Which of Redis' commands the store uses, read from its own code.

So what a user may do (`clinvk/broker/acl.py`) follows the code: an operation that is added, or one
that uses another command, changes the rules with it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import resources

import redis

from clinvk.store.scripts import operations, work_of

READS = frozenset(
    re.findall(
        r"\w+",
        "EXISTS GET HEXISTS HGET HGETALL HKEYS HLEN HMGET HVALS LINDEX LLEN LPOS LRANGE MGET PTTL"
        " SCARD SISMEMBER SMEMBERS TIME TYPE XLEN XRANGE XREAD XREVRANGE ZCARD ZCOUNT ZRANGE"
        " ZRANGEBYSCORE ZREVRANGE ZSCORE",
    )
)
"""Commands that change nothing."""
SUBCOMMANDS = {"ACL WHOAMI", "CLIENT ID", "CLIENT LIST", "SCRIPT LOAD"}
OF_REDIS_PY = frozenset({"close", "execute", "pipeline"})
"""Methods of redis-py's clients that send no command."""
TAKING_BACK = {"PTTL", "PEXPIRE", "UNLINK"}
"""What surrounds a script sends, beside the commands that the script itself notes."""
IN_LUA = re.compile(r"'([A-Z]{3,})'|'([A-Z]{2})'")


def of_scripts() -> set[str]:
    """Return the commands of all operations' scripts, those that take writes back included."""
    return {word for operation in operations().values() for word in _in_lua(operation.text)}


def of_script(name: str) -> set[str]:
    """Return the commands of one script, without those that only another one's writes can need."""
    return _in_lua(work_of(name)) | TAKING_BACK


def of_reading_scripts() -> set[str]:
    """Return the commands of the operations that write nothing."""
    return {command for name in reading_scripts() for command in _in_lua(work_of(name))}


def reading_scripts() -> set[str]:
    """Return the names of the operations that write nothing."""
    return {name for name in operations() if _in_lua(work_of(name)) <= READS}


def _in_lua(text: str) -> set[str]:
    code = re.sub(r"--.*", "", text)
    words = {first or second for first, second in IN_LUA.findall(code)}
    return set(filter(_is_command, words))


def _is_command(word: str) -> bool:
    """Whether a word in capitals is a command, and not an argument of one such as COUNT."""
    return word == "DEL" or hasattr(redis.Redis, word.lower())


def of_python() -> set[str]:
    """Return the commands that the store sends beside its scripts."""
    found = set[str]()
    for path in resources.files("clinvk.store").iterdir():
        if path.name.endswith(".py"):
            found |= set(_sent(ast.parse(path.read_text())))
    return found


def _sent(tree: ast.AST) -> Iterator[str]:
    """Yield the commands of calls like `self.redis.hget(…)` and `….send_command("EVALSHA", …)`."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "send_command":
            words = [word.value for word in node.args if isinstance(word, ast.Constant)]
            yield _command(" ".join(map(str, words[:2])))
        elif _is_client(node.func.value) and node.func.attr not in OF_REDIS_PY:
            yield _command(node.func.attr.replace("_", " ").upper())


def _command(words: str) -> str:
    return words if words in SUBCOMMANDS else words.partition(" ")[0]


def _is_client(value: ast.expr) -> bool:
    """Whether an expression is redis-py's client, or a pipeline of it."""
    if isinstance(value, ast.Attribute):
        return value.attr == "redis"
    return isinstance(value, ast.Name) and value.id in {"client", "pipeline"}
