"""What is in deploy/ and compose.yaml: valid by its own schema or linter, true, and in agreement.

Nothing here needs a network or a container. A tool that is missing fails its test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import redis
import yaml
from cloudcoil.models.keda import v1alpha1 as keda

from clinvk.backends import packaged_names
from clinvk.core.spec import queue_of
from clinvk.store.keys import KEYS
from tests import harness
from tests.system.realcli.install import PACKAGES

ROOT = harness.ROOT
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOCKERFILE = DEPLOY / "Dockerfile"
UNIT = DEPLOY / "clinvk-worker@.service"
LONGEST_TASK_SECONDS = 7200


def tool(name: str) -> str:
    """Find a program beside this Python, or on PATH."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = shutil.which(name, path=search)
    assert found is not None, f"{name} is missing"
    return found


def check(*command: str | Path) -> None:
    """Run a checker, which must exit with 0 and say nothing of an error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def compose() -> dict[str, Any]:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert isinstance(services, dict)
    return services


def served() -> dict[str, dict[str, Any]]:
    """The services that are workers, by the queue that each serves."""
    found = {
        service["command"][2]: service
        for service in compose().values()
        if service.get("command", [])[:2] == ["worker", "--queues"]
    }
    assert found
    return found


def manifests() -> list[dict[str, Any]]:
    """All objects for a cluster, without what only kustomize reads."""
    found = [
        manifest
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        if path.name != "kustomization.yaml"
        for manifest in yaml.safe_load_all(path.read_text())
    ]
    assert found
    return found


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] == kind]


def seconds(span: str) -> int:
    """Read `2h5m` or `2h 5min`."""
    units = {"h": 3600, "m": 60, "min": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)\s*([a-z]+)", span))


def grace_periods() -> dict[str, int]:
    """How long each way to stop a worker waits for its tasks."""
    unit = re.search(r"^TimeoutStopSec=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert unit is not None
    found = {"systemd": seconds(unit[1])}
    for queue in served():
        found[f"compose {queue}"] = seconds(compose()[queue]["stop_grace_period"])
    for deployment in of_kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        found[f"kubernetes {deployment['metadata']['name']}"] = pod["terminationGracePeriodSeconds"]
    return found


# Each by its schema or linter.


def test_the_dockerfile_is_clean() -> None:
    check(tool("hadolint"), "--failure-threshold", "style", DOCKERFILE)


def test_compose_fits_the_specification() -> None:
    check(
        *(tool("check-jsonschema"), "--quiet", "--builtin-schema", "vendor.compose-spec"),
        ROOT / "compose.yaml",
    )


@pytest.mark.parametrize("kind", ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Secret"])
def test_manifests_fit_kubernetes(kind: str) -> None:
    assert of_kind(kind)
    for manifest in of_kind(kind):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("kind", ["ScaledObject", "TriggerAuthentication"])
def test_manifests_fit_keda(kind: str) -> None:
    assert of_kind(kind)
    for manifest in of_kind(kind):
        model = getattr(keda, kind).model_validate(manifest)
        # What the model does not know is dropped, and so would not come back.
        assert model.model_dump(by_alias=True, exclude_unset=True, mode="json") == manifest


def test_kustomizations_name_each_file_once() -> None:
    for path in KUBERNETES.rglob("kustomization.yaml"):
        files = {file.name for file in path.parent.glob("*.yaml")}
        resources = yaml.safe_load(path.read_text())["resources"]
        assert sorted(resources) == sorted(files - {"kustomization.yaml", "secrets.example.yaml"})


def test_the_unit_is_valid(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name.replace("@", "@claude")
    text = UNIT.read_text()
    # verify wants the program to exist.
    unit.write_text(text.replace("ExecStart=/opt/clinvk/bin/clinvk", "ExecStart=/bin/true"))
    assert unit.read_text() != text
    check(tool("systemd-analyze"), "verify", "--man=no", unit)


# The server's configuration, on the server that clinvk itself uses.


@contextmanager
def server(directory: Path, configuration: str) -> Iterator[int]:
    """Run a server with this configuration on loopback, with a password; its port."""
    port = harness.free_port()
    (directory / "redis.conf").write_text(configuration)
    process = subprocess.Popen(
        [harness.server_program(), directory / "redis.conf", "-"],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(f"requirepass secret\nbind 127.0.0.1\nport {port}\ndir {directory}\n")
    process.stdin.close()
    try:
        with redis.Redis(port=port, password="secret") as client:
            harness.wait_until(
                lambda: harness.answers(client) or process.poll() is not None, "the server"
            )
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            yield port
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_redis_keeps_what_it_is_given(temporary: Path) -> None:
    directory = temporary / "redis"
    directory.mkdir()
    try:
        with (
            server(directory, (DEPLOY / "redis.conf").read_text()) as port,
            redis.Redis(port=port, password="secret", decode_responses=True) as client,
        ):
            settings = client.config_get("*")
            wanted = {
                "appendonly": "yes",
                "appendfsync": "always",
                "save": "",
                "maxmemory-policy": "noeviction",
                "timeout": "0",
                "tcp-keepalive": "60",
                "protected-mode": "yes",
            }
            assert {name: settings[name] for name in wanted} == wanted
            assert (directory / "appendonlydir").is_dir()
            with redis.Redis(port=port) as stranger:
                assert not harness.answers(stranger)
    finally:
        shutil.rmtree(directory)


# The users, as compose.yaml gives them to the server.

ROLES = ("submitter", "worker", "monitor")


def test_the_users_are_those_of_clinvk_acl() -> None:
    printed = harness.clinvk("acl").stdout
    assert (DEPLOY / "users.acl").read_text() == printed, (
        "the store's commands have changed: clinvk acl > deploy/users.acl"
    )


def test_the_server_refuses_users_whose_passwords_are_not_filled_in(temporary: Path) -> None:
    directory = temporary / "unfilled"
    directory.mkdir()
    shutil.copy(DEPLOY / "users.acl", directory)
    done = subprocess.run(
        [harness.server_program(), "--port", "0", "--aclfile", str(directory / "users.acl")],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    shutil.rmtree(directory)
    assert done.returncode == 1


@pytest.fixture
def guarded(temporary: Path) -> Iterator[int]:
    """The port of a server that was started as compose.yaml starts it."""
    directory = temporary / "acl"
    directory.mkdir()
    redis_service = compose()["redis"]
    shell, option, script = redis_service["command"]
    variables = {
        variable: re.search(r"CLINVK_(\w+)_PASSWORD", value)[1].lower()  # type: ignore[index]
        for variable, value in redis_service["environment"].items()
    }
    assert sorted(variables.values()) == sorted(ROLES)
    port = harness.free_port()
    script = script.replace("$$", "$").replace("/etc/redis", str(DEPLOY))
    script = script.replace("exec redis-server", f"exec {harness.server_program()}")
    beginning, end, users = script.partition("redis.conf -")
    assert end
    script = f"{beginning}redis.conf --bind 127.0.0.1 --port {port} --dir {directory} -{users}"
    process = subprocess.Popen(
        [shell, option, script],
        env={**os.environ, **{name: f"{role}0" for name, role in variables.items()}},
        cwd=directory,
        stdout=subprocess.DEVNULL,
    )
    try:
        with redis.Redis(port=port, username="monitor", password="monitor0") as client:
            harness.wait_until(
                lambda: harness.answers(client) or process.poll() is not None, "the server"
            )
            assert process.poll() is None
        yield port
    finally:
        process.terminate()  # the server itself
        assert process.wait() == 0
        shutil.rmtree(directory)


def url(port: int, user: str) -> dict[str, str]:
    return {"CLINVK_BROKER_URL": f"redis://{user}:{user}0@127.0.0.1:{port}/0"}


def test_a_fleet_runs_as_compose_has_it(guarded: int) -> None:
    """A worker, a run, a look; Flower sees the worker; nobody else gets in, by no name."""
    tasks = '{"tasks": [{"backend": "echo", "prompt": "a"}, {"backend": "echo", "prompt": "b"}]}'
    worker = subprocess.Popen(
        [*harness.CLINVK, "worker", "--queues", "echo"],
        env={**os.environ, **url(guarded, "worker")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        looks = url(guarded, "monitor")
        harness.wait_until(
            lambda: "echo" in harness.clinvk("workers", env=looks).stdout, "the worker"
        )
        done = harness.clinvk("parallel", "--quiet", stdin=tasks, env=url(guarded, "submitter"))
        assert (done.status, done.stderr) == (0, "")
        assert flower_sees_workers(looks)
        with redis.Redis(port=guarded) as stranger:
            assert not harness.answers(stranger)
    finally:
        worker.terminate()
        _, errors = worker.communicate()
    assert worker.returncode == 0, errors


def flower_sees_workers(env: dict[str, str]) -> bool:
    """Start Flower as its image does, and ask it for the workers."""
    port = harness.free_port()
    process = subprocess.Popen(
        [*flower_entrypoint(), f"--port={port}", "--address=127.0.0.1"],
        env={**os.environ, **env, "FLOWER_BASIC_AUTH": "user:pw", "PATH": search_path()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def asks(path: str, login: str | None) -> tuple[int, bytes]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        if login is not None:
            request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, b""
        except OSError:
            return 0, b""

    try:
        harness.wait_until(
            lambda: b"clinvk@" in asks("/api/workers?refresh=1", "user:pw")[1], "Flower"
        )
        assert asks("/workers", None)[0] == 401
        return True
    finally:
        process.terminate()
        process.wait()


def search_path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def flower_entrypoint() -> list[str]:
    """The entry point of the image of Flower."""
    stage = DOCKERFILE.read_text().partition("AS flower")[2].partition("\nFROM ")[0]
    (line,) = re.findall(r"^ENTRYPOINT (.+)$", stage, re.MULTILINE)
    found = json.loads(line)
    assert isinstance(found, list)
    return found


def test_flower_does_not_start_without_a_login() -> None:
    env = {name: value for name, value in os.environ.items() if name != "FLOWER_BASIC_AUTH"}
    done = subprocess.run(
        flower_entrypoint(), env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "FLOWER_BASIC_AUTH: set it to user:password" in done.stderr


def test_keda_follows_as_the_user_who_looks() -> None:
    (secret,) = (s for s in of_kind("Secret") if s["metadata"]["name"] == "clinvk-broker")
    assert secret["stringData"]["username"] == "monitor"
    assert secret["stringData"]["url"].startswith("rediss://worker:")


def test_the_health_check_finds_its_own_worker_only(broker_url: str) -> None:
    env = {"CLINVK_BROKER_URL": broker_url}

    def healthcheck(*arguments: str, **other: str) -> int:
        command = [*harness.PYTHON, str(DEPLOY / "healthcheck.py")]
        return harness.clinvk(*arguments, env={**env, **other}, command=command).status

    assert healthcheck() == 1
    with subprocess.Popen(
        [*harness.CLINVK, "worker", "--queues", "echo"],
        env={**os.environ, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as worker:
        harness.wait_until(lambda: healthcheck() == 0, "the worker to be announced")
        worker.terminate()
    assert healthcheck("--alive") == 1
    away = "redis+socket:///nowhere"
    assert healthcheck(CLINVK_BROKER_URL=away) == 1
    assert healthcheck("--alive", CLINVK_BROKER_URL=away) == 0


# All of them agree, with each other and with the code.


def test_the_image_has_the_versions_that_are_tested() -> None:
    found = dict(
        re.findall(r"^\s+((?:@[\w-]+/)?[\w-]+)@([\d.]+)\b", DOCKERFILE.read_text(), re.MULTILINE)
    )
    assert found == PACKAGES


def test_images_are_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(), re.MULTILINE))
    images = {base for base in bases if base not in stages}
    images |= {service["image"] for service in compose().values()}
    for image in images:
        assert re.fullmatch(r"[\w/-]+:\d[\w.-]*", image), image


def test_the_image_is_of_this_version() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    tag = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["images"][0]["newTag"]
    assert tag == version[1]
    built = {service["image"] for service in compose().values() if "build" in service}
    assert built == {f"clinvk:{version[1]}", f"clinvk-flower:{version[1]}"}


def test_each_backend_has_its_worker_and_its_key_alone() -> None:
    assert set(compose()) == {"redis", *served(), "client", "flower"}
    assert served().keys() <= set(packaged_names())
    keys = {}
    for queue, service in served().items():
        assert service == compose()[queue], "a worker's service is called like its queue"
        (keys[queue],) = set(service["environment"]) - {"CLINVK_BROKER_URL"}
        assert service["environment"][keys[queue]] is None, "a key stands in the file"
    assert len(set(keys.values())) == len(keys)
    deployments = {item["metadata"]["name"]: item for item in of_kind("Deployment")}
    assert set(deployments) == {f"clinvk-{queue}" for queue in served()}
    for queue, key in keys.items():
        container = deployments[f"clinvk-{queue}"]["spec"]["template"]["spec"]["containers"][0]
        assert container["args"][:3] == ["worker", "--queues", queue]
        variables = {entry["name"]: entry["valueFrom"] for entry in container["env"]}
        assert set(variables) == {"CLINVK_BROKER_URL", key}
        assert all(set(source) == {"secretKeyRef"} for source in variables.values())


def test_every_secret_that_is_read_is_in_the_example() -> None:
    secrets = {item["metadata"]["name"]: item["stringData"] for item in of_kind("Secret")}
    read = [
        entry["valueFrom"]["secretKeyRef"]
        for item in of_kind("Deployment")
        for entry in item["spec"]["template"]["spec"]["containers"][0]["env"]
    ]
    read += [
        entry
        for item in of_kind("TriggerAuthentication")
        for entry in item["spec"]["secretTargetRef"]
    ]
    assert {(entry["name"], entry["key"]) for entry in read} == {
        (name, key) for name, keys in secrets.items() for key in keys
    }


def test_grace_periods_agree_and_outlast_the_longest_task() -> None:
    limit = compose()["client"]["environment"]["CLINVK_UNIFIED_FLAGS_COMMAND_TIMEOUT_SECS"]
    assert int(limit) == LONGEST_TASK_SECONDS
    assert len(grace_periods()) == 1 + 2 * len(served())
    (grace,) = set(grace_periods().values())
    assert grace >= LONGEST_TASK_SECONDS + 60


def test_a_stop_reaches_the_worker_alone() -> None:
    assert "\nKillMode=mixed\n" in UNIT.read_text()
    assert "\nSTOPSIGNAL SIGTERM\n" in DOCKERFILE.read_text()
    assert 'ENTRYPOINT ["clinvk"]' in DOCKERFILE.read_text()


def test_the_user_of_the_image_is_the_one_of_the_pods() -> None:
    uid = re.search(r"^ARG UID=(\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert uid is not None
    for item in of_kind("Deployment"):
        context = item["spec"]["template"]["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == int(uid[1]) > 0


def test_scaling_follows_the_keys_of_the_store() -> None:
    slots = {
        item["metadata"]["name"]: item["spec"]["template"]["spec"]["containers"][0]["args"][-1]
        for item in of_kind("Deployment")
    }
    assert {item["metadata"]["name"] for item in of_kind("ScaledObject")} == set(slots)
    for item in of_kind("ScaledObject"):
        spec, name = item["spec"], item["metadata"]["name"]
        queue = queue_of(name.removeprefix("clinvk-"))
        assert spec["scaleTargetRef"]["name"] == name
        assert {
            trigger["name"]: trigger["metadata"]["listName"] for trigger in spec["triggers"]
        } == {
            "out": KEYS["leases"].format(queue),
            "runs": KEYS["fair_queue"].format(queue),
        }
        modifiers = spec["advanced"]["scalingModifiers"]
        assert modifiers["target"] == slots[name]
        assert modifiers["formula"] == f"out + {slots[name]} * min(runs, 3)"


def test_memory_is_what_was_measured() -> None:
    measured = (ROOT / "docs" / "reference" / "performance.md").read_text()
    worker = int(re.search(r"worker (\d+) MiB", measured)[1])  # type: ignore[index]
    for item in of_kind("Deployment"):
        queue = item["metadata"]["name"].removeprefix("clinvk-")
        container = item["spec"]["template"]["spec"]["containers"][0]
        cli = re.search(rf"(\d+) MiB for (?:each )?`{queue}`", measured)
        assert cli is not None, queue
        needed = worker + int(container["args"][-1]) * int(cli[1])
        memory = container["resources"]
        assert needed <= int(memory["requests"]["memory"].removesuffix("Mi")) <= needed * 1.2
        limit = int(memory["limits"]["memory"].removesuffix("Mi"))
        assert limit >= 2 * needed
        assert compose()[queue]["mem_limit"] == f"{limit}m"


def test_nothing_is_published_but_flower_on_loopback() -> None:
    published = {
        name: service["ports"] for name, service in compose().items() if "ports" in service
    }
    assert list(published) == ["flower"]
    assert all(port.startswith("127.0.0.1:") for port in published["flower"])
    assert [name for name, service in compose().items() if "profiles" in service] == [
        "client",
        "flower",
    ]


def test_passwords_are_required_and_each_service_has_its_user() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for role in ROLES:
        variables = re.findall(rf"\$\{{(CLINVK_{role.upper()}_PASSWORD[^}}]*)\}}", text)
        assert variables
        assert all(":?" in variable for variable in variables)
    users = {
        name: re.match(r"redis://(\w+):", service["environment"]["CLINVK_BROKER_URL"])[1]  # type: ignore[index]
        for name, service in compose().items()
        if name != "redis"
    }
    workers = dict.fromkeys(served(), "worker")
    assert users == {**workers, "client": "submitter", "flower": "monitor"}


def test_containers_change_nothing_but_their_volumes() -> None:
    for name, service in compose().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] > 0, name
    for item in of_kind("Deployment"):
        pod = item["spec"]["template"]["spec"]
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
        for volume in pod["volumes"]:
            assert volume["emptyDir"]["sizeLimit"].endswith("Gi"), volume


def test_the_policy_of_the_network_is_for_all_workers_and_lets_nobody_in() -> None:
    (policy,) = of_kind("NetworkPolicy")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    for item in of_kind("Deployment"):
        assert selected <= item["spec"]["template"]["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["ingress"] == []
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 6379}


def test_each_instance_of_the_unit_has_its_own_user_and_state() -> None:
    unit = UNIT.read_text()
    for setting in (
        "User=clinvk-%i",
        "StateDirectory=clinvk-%i",
        "StateDirectoryMode=0700",
        "Environment=HOME=/var/lib/clinvk-%i",
        "WorkingDirectory=/var/lib/clinvk-%i",
        "UMask=0077",
        "NoNewPrivileges=yes",
    ):
        assert f"\n{setting}\n" in unit, setting


def test_secrets_stay_out_of_git_and_of_the_image() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().split("\n")
    assert "**/.env" in (ROOT / ".dockerignore").read_text().split("\n")


def test_the_build_context_is_no_more_than_the_image_needs() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line]
    assert next(line for line in lines if not line.startswith("#")) == "*"
    for line in lines:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line
