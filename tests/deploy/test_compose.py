"""infra/deploy/compose.yaml: valid, complete, and with no variable that nobody reads."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.settings import EdgeSettings, WorkerSettings
from tests.deploy.processes import DEPLOY, ROOT, misfits, run
from workers.__main__ import WORKERS

FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(
    # As Docker does when nothing is set: the default of each variable.
    re.sub(r"(?<!\$)\$\{\w+:-([^}]*)\}", r"\1", FILE.read_text())
)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: Services of our own image.
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("warren:")}
#: Seconds that a stopping edge may take beside WARREN_DRAIN_SECONDS: its last replies, its farewell, its tasks' end.
FAREWELL = 20


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_it_is_valid_by_the_schema_of_compose() -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE)


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_and_none_is_missing(name: str, secrets: Path) -> None:
    environment: dict[str, str] = OURS[name].get("environment", {})
    folder = environment.get("WARREN_SECRETS_DIR")
    assert misfits(OURS[name]["command"], environment, secrets / Path(folder).name if folder else None) == []


@pytest.mark.parametrize("name", OURS)
def test_secrets_are_files_and_each_process_sees_its_own_alone(name: str) -> None:
    environment: dict[str, str] = OURS[name].get("environment", {})
    assert [key for key, value in environment.items() if re.search(r"://|PASSWORD|JWT_SECRET", f"{key}={value}")] == []
    mounted = {volume.split(":")[1] for volume in OURS[name].get("volumes", ())}
    if name != "secrets":
        assert mounted == ({environment["WARREN_SECRETS_DIR"]} if "WARREN_SECRETS_DIR" in environment else set())


def test_every_folder_of_secrets_has_a_volume(secrets: Path) -> None:
    volumes = {volume.split(":")[1] for volume in SERVICES["secrets"]["volumes"]}
    assert volumes == {f"/run/warren/{folder.name}" for folder in secrets.iterdir()}


def test_every_process_is_there_and_edges_three_times() -> None:
    commands = [service["command"] for service in OURS.values()]
    assert [kind for kind in WORKERS if ["python", "-m", "workers", kind] not in commands] == []
    assert commands.count(["python", "-m", "edge"]) == 3


def test_our_containers_can_write_nothing_and_gain_nothing() -> None:
    for name, service in OURS.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_whoever_stops_has_the_time_that_it_needs() -> None:
    drain = EdgeSettings.model_fields["drain_seconds"].default
    stop = WorkerSettings.model_fields["stop_timeout"].default
    for service in OURS.values():
        grace = seconds(service.get("stop_grace_period", "10s"))
        assert "edge" not in service["command"] or grace >= drain + FAREWELL
        assert "workers" not in service["command"] or grace >= stop + 5


def test_one_service_builds_the_image_and_none_pulls_it() -> None:
    assert [name for name, service in OURS.items() if "build" in service] == ["secrets"]
    assert {service["pull_policy"] for name, service in OURS.items() if name != "secrets"} == {"never"}


def test_development_mode_is_off_by_default() -> None:
    for name, service in OURS.items():
        environment: dict[str, str] = service.get("environment", {})
        switches = {key: value for key, value in environment.items() if key.startswith("WARREN_DEV")}
        assert set(switches.values()) <= {"false"}, f"{name} has {switches}"


def test_rabbitmq_is_told_the_limit_of_its_container() -> None:
    rabbitmq = SERVICES["rabbitmq"]
    arguments = rabbitmq["environment"]["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]
    assert arguments == f"-rabbit total_memory_available_override_value {rabbitmq['mem_limit']}"


def test_nobody_outside_this_machine_is_let_in_by_default() -> None:
    for name, service in SERVICES.items():
        assert [port for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")] == [], name


def test_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), name


def test_every_file_that_is_mounted_exists() -> None:
    files = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert [file for file in files if file.startswith("./") and not (DEPLOY / file).exists()] == []
    assert (DEPLOY / "compose.yaml").resolve() == FILE
    build = OURS["secrets"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).exists()


def test_every_volume_and_network_is_declared_and_used() -> None:
    named = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert {name for name in named if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert {network for service in SERVICES.values() for network in service.get("networks", ())} == set(
        COMPOSE["networks"]
    )


def test_edges_cannot_reach_the_store() -> None:
    store = set(SERVICES["mongodb"]["networks"])
    assert [
        name for name, service in OURS.items() if "edge" in service["command"] and store & {*service["networks"]}
    ] == []


def test_prometheus_asks_every_process_of_ours() -> None:
    # Given every address that Prometheus asks
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    found = {
        target.split(":")[0]
        for job in configuration["scrape_configs"]
        for kind in ("static_configs", "dns_sd_configs")
        for targets in job.get(kind, ())
        for target in (*targets.get("targets", ()), *targets.get("names", ()))
    }

    # Then each process that stays is among them, and nothing is that does not exist
    steps = {name for name, service in OURS.items() if service["restart"] == "no"}
    assert set(OURS) - steps <= found
    assert found - {"localhost"} <= set(SERVICES)
    assert "prometheus" in SERVICES["prometheus"]["volumes"][0]


def test_the_balancer_gets_every_address_that_its_configuration_asks_for() -> None:
    asked = set(re.findall(r'"\$\{(BALANCER_\w+)\}"', (DEPLOY / "haproxy.cfg").read_text()))
    given: dict[str, str] = SERVICES["balancer"]["environment"]
    assert asked - {"BALANCER_CERTIFICATE", "BALANCER_LISTEN_TLS"} == set(given)
    edges = {f"{name}:8001" for name, service in OURS.items() if "edge" in service["command"]}
    assert {address for key, address in given.items() if key.startswith("BALANCER_EDGE_")} == edges
