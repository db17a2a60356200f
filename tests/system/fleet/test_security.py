"""TLS, tried: a fleet works with it, and without trust is refused."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from clinvk.core.worker_config import BROKER_URL
from clinvk.local.server import find_server
from clinvk.store.store import Store
from tests import harness

TASKS = '{"backend": "echo", "prompt": "one"}\n{"backend": "echo", "prompt": "[fail]"}\n'


@contextmanager
def server(folder: Path, *settings: str) -> Iterator[int]:
    """A server on a free port of loopback."""
    port = harness.free_port()
    config = folder / "redis.conf"
    config.write_text("\n".join((f"port {port}", "bind 127.0.0.1", 'save ""', *settings)) + "\n")
    process = subprocess.Popen(
        [find_server(None), str(config)], cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        harness.wait_until(lambda: _listens(port), "the server to listen")
        yield port
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def tls_in_front_of(port: int, folder: Path) -> Iterator[tuple[int, Path]]:
    """Terminate TLS before a plain server; gives the port and the authority's certificate."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    certificate = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(certificate))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, context, port), daemon=True).start()
    try:
        yield int(listener.getsockname()[1]), certificate
    finally:
        listener.close()


def _accept(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(plain, context, port), daemon=True).start()


def _serve(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    try:
        with (
            context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection(("127.0.0.1", port)) as behind,
        ):
            back = threading.Thread(target=_copy, args=(behind, client), daemon=True)
            back.start()
            _copy(client, behind)
            back.join()
    except OSError:  # a client that does not trust us, or is gone
        pass


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


@contextmanager
def worker(url: str, folder: Path) -> Iterator[None]:
    """A worker of the echo backend, until it is told to stop."""
    log = folder / "worker.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*harness.CLINVK, "worker", "--queues", "echo", "--broker", url],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        store = Store.connect(url)
        harness.wait_until(
            lambda: process.poll() is not None or store.workers(), "the worker to be known"
        )
        assert process.poll() is None, log.read_text()
        store.close()
        yield
    finally:
        process.terminate()
        process.wait()


def submit(url: str) -> harness.Completed:
    return harness.clinvk("parallel", "--json", "-q", stdin=TASKS, env={BROKER_URL: url})


def holds(url: str, folder: Path) -> None:
    """A whole run over this URL, and a run that is canceled while it waits."""
    with worker(url, folder):
        ended = submit(url)
        assert ended.stdout, ended.stderr
        results = json.loads(ended.stdout)["results"]
        assert [result["status"] for result in results] == ["ok", "failed"], ended.stderr
        run = harness.clinvk("parallel", "--detach", stdin=TASKS * 5, env={BROKER_URL: url})
        for command in ("cancel", "wait", "status", "results"):
            ended = harness.clinvk(command, run.stdout.strip(), env={BROKER_URL: url})
            assert ended.stderr == ""
        log = (folder / "worker.log").read_text()
        assert "NOPERM" not in log
        assert "Traceback" not in log


def test_tls(tmp_path: Path) -> None:
    with (
        server(tmp_path, "requirepass pw") as port,
        tls_in_front_of(port, tmp_path) as (
            tls_port,
            certificate,
        ),
    ):
        url = f"rediss://:pw@localhost:{tls_port}/0"
        holds(f"{url}?ssl_ca_certs={certificate}", tmp_path)
        untrusted = submit(url)
        assert (untrusted.status, untrusted.stdout) == (4, "")
        assert "certificate verify failed" in untrusted.stderr


def test_messages_are_json_and_nothing_else(tmp_path: Path) -> None:
    code = "from workers.app import app; print(app.conf.accept_content, app.conf.task_serializer)"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed == "['json'] json\n"
