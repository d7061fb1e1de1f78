"""infra/deploy/kubernetes: both overlays render, are valid, and fit together and to the code."""

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from contracts.topology import WORK_QUEUES
from infra.settings import EdgeSettings, WorkerSettings
from tests.deploy.operators import KUBERNETES, SCHEMAS
from tests.deploy.processes import DEPLOY, ROOT, misfits, run, settings_of
from workers.__main__ import WORKERS

Manifest = dict[str, Any]

OVERLAYS = ("small", "production")
INSTALL = ROOT / "docs" / "install.md"
PERFORMANCE = ROOT / "docs" / "performance.md"
#: The Kubernetes that each is checked against: today's, and the oldest that can wait in `preStop`.
VERSIONS = {"production": "1.37", "small": "1.30"}
#: Seconds that a stopping edge may take beside WARREN_DRAIN_SECONDS.
FAREWELL = 15
#: Bytes of memory that an edge takes at rest: a fresh one's resident set, rounded up.
EDGE_AT_REST = 80_000_000


@cache
def rendered(overlay: str) -> list[Manifest]:
    """What `kubectl apply --kustomize` would send."""
    text = run("kubectl", "kustomize", DEPLOY / "kubernetes" / "overlays" / overlay)
    return list(yaml.safe_load_all(text))


def of(overlay: str, kind: str) -> list[Manifest]:
    return [manifest for manifest in rendered(overlay) if manifest["kind"] == kind]


def name_of(manifest: Manifest) -> str:
    name: str = manifest["metadata"]["name"]
    return name


def pods(overlay: str) -> Iterator[tuple[str, Manifest]]:
    """The name and the pod of everything of ours that runs."""
    for kind in ("Deployment", "Job"):
        for manifest in of(overlay, kind):
            yield name_of(manifest), manifest["spec"]["template"]


@cache
def registry() -> Registry[Any]:
    folder = files("kubernetes_validate").joinpath(
        "kubernetes-json-schema", f"v{VERSIONS['production']}.0-local-strict"
    )
    definitions = json.loads(folder.joinpath("_definitions.json").read_text())
    empty: Registry[Any] = Registry()
    found: Registry[Any] = empty.with_resource(KUBERNETES, Resource.from_contents(definitions))
    return found


# --- Validity ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_kubernetes_own_is_valid(overlay: str) -> None:
    for manifest in rendered(overlay):
        if manifest["kind"] not in SCHEMAS:
            kubernetes_validate.validate(manifest, VERSIONS[overlay], strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("kind", SCHEMAS)
def test_what_is_an_operators_is_valid(overlay: str, kind: str) -> None:
    validator = Draft202012Validator(SCHEMAS[kind], registry=registry())
    manifests = of(overlay, kind)
    assert manifests
    wrong = [
        f"{name_of(manifest)}: {error.json_path}: {error.message}"
        for manifest in manifests
        for error in validator.iter_errors(manifest)
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_field_that_an_operator_does_not_know_is_found(kind: str) -> None:
    manifest = of("small", kind)[0]
    wrong = {**manifest, "spec": {**manifest["spec"], "replicass": 3}}
    assert not Draft202012Validator(SCHEMAS[kind], registry=registry()).is_valid(wrong)


# --- Processes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting_and_none_is_missing(overlay: str, secrets: Path) -> None:
    shared = {name_of(manifest): manifest["data"] for manifest in of(overlay, "ConfigMap")}
    for name, pod in pods(overlay):
        (container,) = pod["spec"]["containers"]
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        for source in container.get("envFrom", ()):
            environment |= shared[source["configMapRef"]["name"]]
        folder = next(volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume)
        # In the image; a pod has no other way to say where it listens.
        environment |= {"WARREN_EDGE_HOST": "0.0.0.0"} if settings_of(container["args"]) is EdgeSettings else {}
        assert misfits(container["args"], environment, secrets / folder.removeprefix("warren-")) == [], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_secret_is_one_that_is_written(overlay: str, secrets: Path) -> None:
    text = yaml.safe_dump_all(m for m in rendered(overlay) if m["kind"] != "Ingress")
    named = set(re.findall(r"secretName: warren-(\S+)", text))
    named |= {
        reference["name"].removeprefix("warren-")
        for manifest in of(overlay, "TriggerAuthentication")
        for reference in manifest["spec"]["secretTargetRef"]
    }
    assert named == {"edge", "worker", "topology", "recount", "canary", "operator", "rabbitmq", "autoscaler"}
    assert named <= {folder.name for folder in secrets.iterdir()}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_process_is_there(overlay: str) -> None:
    commands = [pod["spec"]["containers"][0]["args"] for _, pod in pods(overlay)]
    assert [kind for kind in WORKERS if ["python", "-m", "workers", kind] not in commands] == []
    assert ["python", "-m", "edge"] in commands


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_pods_keep_the_strict_rules(overlay: str) -> None:
    for name, pod in pods(overlay):
        # Given any pod of ours
        spec = pod["spec"]
        (container,) = spec["containers"]

        # Then it can gain nothing, write nothing, and takes what it says
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert spec["automountServiceAccountToken"] is False, name
        assert {"requests", "limits"} <= set(container["resources"]), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whoever_stops_has_the_time_that_it_needs(overlay: str) -> None:
    (edges,) = [manifest["data"] for manifest in of(overlay, "ConfigMap") if name_of(manifest).startswith("edge-")]
    drain = float(edges.get("WARREN_DRAIN_SECONDS", EdgeSettings.model_fields["drain_seconds"].default))
    found = dict(pods(overlay))
    edge = found["edge"]["spec"]
    waits = edge["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert edge["terminationGracePeriodSeconds"] >= waits + drain + FAREWELL
    stop = WorkerSettings.model_fields["stop_timeout"].default
    for kind in WORKERS:
        assert found[f"worker-{kind}"]["spec"]["terminationGracePeriodSeconds"] >= stop + 5


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_edge_has_memory_for_all_the_sockets_that_it_takes(overlay: str) -> None:
    (kilobytes,) = re.findall(r"(\d+) KB of the edge's memory each", PERFORMANCE.read_text())
    (edges,) = [manifest["data"] for manifest in of(overlay, "ConfigMap") if name_of(manifest).startswith("edge-")]
    sockets = int(edges.get("WARREN_MAX_CONNECTIONS", EdgeSettings.model_fields["max_connections"].default))
    requested: str = dict(pods(overlay))["edge"]["spec"]["containers"][0]["resources"]["requests"]["memory"]
    assert int(requested.removesuffix("Mi")) << 20 >= EDGE_AT_REST + sockets * int(kilobytes) * 1000


# --- What fits together -----------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_the_pods_that_it_means(overlay: str) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(overlay)}
    labels["warren-rabbitmq"] = {"app.kubernetes.io/name": "warren-rabbitmq"}

    def found(selector: dict[str, str]) -> list[str]:
        return [name for name, theirs in labels.items() if selector.items() <= theirs.items()]

    for manifest in (*of(overlay, "Deployment"), *of(overlay, "PodDisruptionBudget")):
        assert found(manifest["spec"]["selector"]["matchLabels"]) == [name_of(manifest)]
    for manifest in of(overlay, "Service"):
        assert found(manifest["spec"]["selector"]) == [name_of(manifest)]
    for manifest in of(overlay, "NetworkPolicy"):
        assert found(manifest["spec"]["podSelector"].get("matchLabels", {})), name_of(manifest)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_edges_and_workers_are_scaled_by_what_they_have_to_do(overlay: str) -> None:
    # Given what is scaled
    scaled = {manifest["spec"]["scaleTargetRef"]["name"]: manifest["spec"] for manifest in of(overlay, "ScaledObject")}
    assert set(scaled) == {"edge", *(f"worker-{kind}" for kind in WORKERS)}

    # Then each worker is scaled by the age and the length of its queues
    kinds = {queue.name: kind for kind, consumed in WORKERS.items() for queue, _ in consumed}
    for queue in WORK_QUEUES:
        age, *depths = scaled[f"worker-{kinds[queue.name]}"]["triggers"]
        assert queue.name in [depth["metadata"]["queueName"] for depth in depths]
        assert re.search(rf'worker=~?"[^"]*\b{queue.name}\b', age["metadata"]["query"])
    for target, spec in scaled.items():
        assert 0 < spec["minReplicaCount"] < spec["maxReplicaCount"], target
        # One patch changes the address of Prometheus in all of them.
        assert spec["triggers"][0]["metadata"]["serverAddress"].startswith("http"), target
    # Applying the manifests again must not undo what KEDA did.
    fixed = [name_of(manifest) for manifest in of(overlay, "Deployment") if "replicas" in manifest["spec"]]
    assert not set(fixed) & set(scaled)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_network_lets_everybody_reach_what_they_need_and_edges_no_store(overlay: str) -> None:
    # Given who may reach which port
    allowed: dict[int, set[str]] = {}
    for manifest in of(overlay, "NetworkPolicy"):
        selector = manifest["spec"]["podSelector"]
        wanted = selector.get("matchLabels", {})
        components = [value for part in selector.get("matchExpressions", ()) for value in part["values"]]
        for name, pod in pods(overlay):
            labels = pod["metadata"]["labels"]
            if wanted.items() <= labels.items() and (
                not components or labels["app.kubernetes.io/component"] in components
            ):
                for rule in manifest["spec"].get("egress", ()):
                    for port in rule["ports"]:
                        allowed.setdefault(port["port"], set()).add(name)

    # Then nobody reaches more than they need
    everybody = {name for name, _ in pods(overlay)}
    assert allowed[5672] == everybody - {"canary", "recount"}
    assert allowed[27017] == everybody - {"edge", "topology"}
    assert allowed[8001] == {"canary", "operator"}
    assert allowed[15672] == {"operator"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_process_mounts_the_secrets_of_its_own_kind(overlay: str) -> None:
    for name, pod in pods(overlay):
        mounted = [volume["secret"]["secretName"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert mounted == [f"warren-{'worker' if name.startswith('worker-') else name}"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_with_every_right_does_not_run_unless_somebody_starts_it(overlay: str) -> None:
    (operator,) = [manifest for manifest in of(overlay, "Deployment") if name_of(manifest) == "operator"]
    assert operator["spec"]["replicas"] == 0


def test_production_has_nothing_once() -> None:
    (broker,) = of("production", "RabbitmqCluster")
    assert broker["spec"]["replicas"] == 3
    assert all(manifest["spec"]["minReplicaCount"] >= 3 for manifest in of("production", "ScaledObject"))
    for name, pod in pods("production"):
        spread = pod["spec"].get("topologySpreadConstraints", ())
        zones = [part["whenUnsatisfiable"] for part in spread if part["topologyKey"].endswith("/zone")]
        assert name in ("canary", "recount", "topology", "operator") or zones == ["DoNotSchedule"], name


def test_the_overlay_that_the_documents_show_names_what_is_ones_own(tmp_path: Path) -> None:
    # Given the overlay that the page shows
    (shown,) = re.findall(
        r"^```yaml\n# kustomization.yaml.*?\n(.*?)^```", INSTALL.read_text(), re.MULTILINE | re.DOTALL
    )
    here = shown.replace("[warren/", f"[{os.path.relpath(ROOT, tmp_path.resolve())}/")
    (tmp_path / "kustomization.yaml").write_text(here)

    # When it is rendered
    found = run("kubectl", "kustomize", tmp_path)

    # Then it has what it says, and nothing of the example below it
    for mine in (
        "image: registry.you.example/warren:",
        "host: chat.you.example",
        "http://prometheus.monitoring.svc:9090",
        "you.example",
    ):
        assert mine in found
    for other in ("registry.example.com", "chat.example.com", "prometheus-operated"):
        assert other not in found
