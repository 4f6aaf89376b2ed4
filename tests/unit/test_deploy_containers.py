"""The image, the compose file and the manifests that are shipped, against the code that they run."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml  # type: ignore[import-untyped]

from standfast.api import health
from standfast.cli.commands import COMMANDS
from standfast.settings import Settings
from standfast.settings.model import name_of
from standfast.settings.secret_files import BY_FILE

ROOT = Path(__file__).parents[2]
DOCKER, KUBERNETES = ROOT / "deploy/docker", ROOT / "deploy/kubernetes"
SETTINGS = {name_of(field) for field in Settings.model_fields} | BY_FILE.keys()
LIBPQ = {"PGSSLMODE", "PGSSLROOTCERT", "PGPASSFILE"}
COMMAND_NAMES = {listed.name for listed in COMMANDS}


class Line(NamedTuple):
    """An instruction of the Dockerfile."""

    word: str
    rest: str


def dockerfile() -> list[Line]:
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", text)
    return [Line(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]


def manifests() -> dict[str, dict[str, Any]]:
    """Each by its kind, those of the kustomization and the example of a Secret."""
    (listed,) = yaml.safe_load_all((KUBERNETES / "kustomization.yaml").read_text())
    names = {*listed["resources"], "secret.example.yaml", "kustomization.yaml"}
    assert names == {path.name for path in KUBERNETES.iterdir()}
    found = {name: yaml.safe_load((KUBERNETES / name).read_text()) for name in names}
    return {one["kind"]: one for one in found.values()}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return found


def commands_in(text: str) -> set[str]:
    return set(re.findall(r"\bstandfast ([a-z]+)", text))


def test_the_image_copies_what_there_is_and_nothing_secret() -> None:
    """Every source of COPY exists and passes .dockerignore, which lets nothing else through."""
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert patterns[0] == "*"
    allowed = {line[1:] for line in patterns if line.startswith("!")}
    sources = [
        source
        for line in dockerfile()
        if line.word == "COPY" and "--from=" not in line.rest
        for source in line.rest.split()[:-1]
    ]
    assert {source.split("/")[0] for source in sources} == allowed
    for source in sources:
        assert (ROOT / source).exists(), source
    assert not any(fnmatch(name, one) for name in (".env", ".git", "tests", "deploy") for one in allowed)


def test_the_image_runs_as_nobody_special_and_is_ended_in_order() -> None:
    """A numeric account, so that runAsNonRoot can see it; process 1 passes signals on; every base may be pinned."""
    lines = dockerfile()
    assert [line.rest for line in lines if line.word == "USER"] == ["10001:10001"]
    assert {line.rest.split()[0] for line in lines if line.word == "FROM"} == {"${PYTHON_IMAGE}"}
    (entry,) = (line.rest for line in lines if line.word == "ENTRYPOINT")
    assert yaml.safe_load(entry) == ["tini", "--", "standfast"]
    pip = [line.rest for line in lines if line.word == "RUN" and "pip install" in line.rest]
    for part in (part for line in pip for part in line.split("&&") if " -r " in part):
        assert "--require-hashes" in part


def test_settings_and_commands_of_all_of_them_exist() -> None:
    """A setting or a command that is renamed must be so here too."""
    pods = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    containers = [*pods["initContainers"], *pods["containers"]]
    named = {one["name"] for container in containers for one in container["env"]}
    named |= set(manifests()["ConfigMap"]["data"])
    services = compose()["services"]
    named |= set(services["standfast"]["environment"])
    assert named <= SETTINGS | LIBPQ
    run = str([containers, services["standfast"]["command"], services["standfast"]["healthcheck"]])
    found = commands_in(run) | {pods["initContainers"][0]["command"][1]}
    assert {"handover", "tokens", "up", "status"} <= found
    assert found <= COMMAND_NAMES


def test_secrets_come_as_files_and_are_declared() -> None:
    """Nothing secret stands in an environment; each file that is named is a key of the Secret, or one of compose's."""
    keys = set(manifests()["Secret"]["stringData"])
    text = "".join(path.read_text() for path in KUBERNETES.glob("*.yaml"))
    assert set(re.findall(r"/run/secrets/standfast/([\w.]+)", text)) == keys
    secrets = set(compose()["secrets"])
    assert set(re.findall(r"/run/secrets/(\w+)", (DOCKER / "compose.yaml").read_text())) == secrets
    for service in compose()["services"].values():
        assert set(service.get("secrets", ())) <= secrets
        assert "POSTGRES_PASSWORD" not in service.get("environment", {})


def test_probes_ask_what_the_service_answers() -> None:
    """Each probe's path is one that needs no token, and its port is where HTTP listens."""
    found = manifests()
    container = found["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    port = {one["name"]: one["containerPort"] for one in container["ports"]}["http"]
    assert str(port) == found["ConfigMap"]["data"]["STANDFAST_HTTP_PORT"]
    assert port == found["Service"]["spec"]["ports"][0]["port"]
    source = Path(health.__file__).read_text()
    for probe, path in (("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")):
        asked = container[probe]["httpGet"]
        assert asked == {"path": f"/health/{path}", "port": "http"}
        assert f'"/health/{path}",' in source


def test_manifests_mean_each_other() -> None:
    """Selectors find the pods, names are those that exist, and the two nodes cannot both be away by a drain."""
    found = manifests()
    stateful = found["StatefulSet"]["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    selectors = (
        stateful["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    )
    assert all(selector == labels for selector in selectors)
    assert stateful["serviceName"] == found["Service"]["metadata"]["name"]
    pod = stateful["template"]["spec"]
    assert pod["volumes"][0]["secret"]["secretName"] == found["Secret"]["metadata"]["name"]
    assert pod["containers"][0]["envFrom"] == [
        {"configMapRef": {"name": found["ConfigMap"]["metadata"]["name"]}}
    ]
    volumes = {one["name"] for one in pod["volumes"]}
    volumes |= {one["metadata"]["name"] for one in stateful["volumeClaimTemplates"]}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {one["name"] for one in container["volumeMounts"]} == volumes
    assert stateful["replicas"] - found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_pods_are_closed_off() -> None:
    """What the profile "restricted" asks for, and a root file system that nobody writes to."""
    pod = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("service", ["postgres", "standfast"])
def test_compose_keeps_and_restarts_what_it_runs(service: str) -> None:
    """State lies in declared volumes; a container that ends is started again; nothing listens beyond this machine."""
    found = compose()
    one = found["services"][service]
    assert one["restart"] == "unless-stopped"
    assert {volume.split(":")[0] for volume in one["volumes"]} <= set(found["volumes"])
    assert set(one["networks"]) <= set(found["networks"])
    assert all(port.startswith("127.0.0.1:") for port in one.get("ports", ()))
    assert "healthcheck" in one
