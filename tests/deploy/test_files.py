"""What lies in deploy/ holds: for the router itself, and for the programs that read it (those, `pytest -m clients`)."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.drill.debian import Program
from router import config
from tests.deploy import queries
from tests.deploy.conftest import Reader
from tests.deploy.queries import DEPLOY

COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
CHART = DEPLOY / "helm" / "inference-router"
ROUTERS = ["router-1", "router-2", "router-3"]
ENV = {
    "ROUTER_KEY": "hf_a-key-for-the-check-00000",
    "POSTGRES_PASSWORD": "secret",
    "REDIS_URL": "redis://redis:6379/0",
    "DATABASE_URL": "postgresql://router:secret@postgres/router",
}
ALL_ON = {
    "autoscaling": {"inflight": {"enabled": True}},
    "monitoring": {name: {"enabled": True, "labels": {"a": "b"}} for name in ("podMonitor", "rules", "dashboard")},
    "podAnnotations": {"a": "b"},
    "networkPolicy": {"callers": [{"podSelector": {}}], "egress": [{"ports": [{"port": 8081}]}]},
}
ALL_OFF = {"autoscaling": {"enabled": False}, "spool": {"persistent": False}, "networkPolicy": {"enabled": False}}


def seconds(value: str) -> int:
    return int(value.removesuffix("s"))


def test_the_configuration_that_compose_mounts_holds() -> None:
    loaded = config.load(DEPLOY / "config.yaml", ENV)
    assert loaded.config.stores.shared.startswith("redis://redis:") and "@postgres:" in loaded.config.stores.ledger
    assert loaded.config.telemetry.listen == "0.0.0.0:9090"


def test_no_drain_is_cut_short_by_who_stops_the_container() -> None:
    drain = yaml.safe_load((DEPLOY / "config.yaml").read_text())["server"]
    for name in ROUTERS:
        assert seconds(COMPOSE["services"][name]["stop_grace_period"]) > seconds(drain["drain"])
    # HAProxy sees a 503 twice in a row, half a second apart, each look a second long at most.
    assert seconds(drain["drain_delay"]) > 2 * (0.5 + 1)


def test_every_container_is_pinned_bound_and_nobody_special() -> None:
    for name, service in COMPOSE["services"].items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"]), name
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["healthcheck"], name
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert not any("docker.sock" in str(each) for each in service.get("volumes", ())), name


def test_each_router_has_a_spool_of_its_own() -> None:
    spools = {each for name in ROUTERS for each in COMPOSE["services"][name]["volumes"] if "/var/lib/router" in each}
    assert len(spools) == len(ROUTERS)


def test_what_compose_asks_of_the_environment_stands_in_its_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text() + (DEPLOY / "config.yaml").read_text()))
    listed = set(re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert asked == listed


def test_prometheus_and_haproxy_know_every_router() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets["router"] == [f"{name}:9090" for name in ROUTERS]
    assert re.findall(r"^  server (\S+)", (DEPLOY / "haproxy.cfg").read_text(), re.MULTILINE) == ROUTERS


@pytest.mark.clients
def test_a_compose_parser_takes_the_file(reader: Reader) -> None:
    assert reader("compose", text=(DEPLOY / "compose.yaml").read_text()) == sorted(COMPOSE["services"])


@pytest.mark.clients
def test_a_real_parser_takes_every_query(reader: Reader) -> None:
    assert reader("promql", queries=queries.everything()) == {}


@pytest.mark.clients
def test_promtool_takes_rules_and_configuration(promtool: Program, tmp_path: Path) -> None:
    for name in ("prometheus.yaml", "alerts.yaml"):
        shutil.copy(DEPLOY / name, tmp_path)
    checked = promtool.run("check", "config", tmp_path / "prometheus.yaml")
    assert checked.returncode == 0 and "SUCCESS" in checked.stdout, checked.stdout + checked.stderr


@pytest.mark.clients
def test_haproxy_takes_its_configuration_without_a_warning(haproxy: Program) -> None:
    routers = {f"ROUTER_{nth}": f"127.0.0.1:{nth}" for nth in (1, 2, 3)}
    checked = haproxy.run("-c", "-f", DEPLOY / "haproxy.cfg", **routers)
    assert checked.returncode == 0 and "WARNING" not in checked.stderr, checked.stderr


def chart(reader: Reader, values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The objects by kind; of several of one kind, the first."""
    found = reader("chart", path=str(CHART), values=values)
    assert (found["lint"], found["wrong"]) == ([], {})
    assert set(found["unknown"]) <= {"PodMonitor", "PrometheusRule"}  # of Prometheus' operator: no schema here
    return {each["kind"]: each for each in reversed(found["objects"])}


@pytest.mark.clients
def test_the_chart_makes_what_kubernetes_takes_with_everything_on(reader: Reader) -> None:
    objects = chart(reader, ALL_ON)
    metrics = [each["type"] for each in objects["HorizontalPodAutoscaler"]["spec"]["metrics"]]
    assert metrics == ["Resource", "Pods"] and "replicas" not in objects["StatefulSet"]["spec"]
    assert objects["PrometheusRule"]["spec"] == yaml.safe_load(queries.ALERTS.read_text())


@pytest.mark.clients
def test_the_chart_makes_what_kubernetes_takes_with_everything_off(reader: Reader) -> None:
    objects = chart(reader, ALL_OFF)
    assert {"HorizontalPodAutoscaler", "NetworkPolicy", "PodMonitor"} & objects.keys() == set()
    volumes = objects["StatefulSet"]["spec"]["template"]["spec"]["volumes"]
    assert [each["name"] for each in volumes if "emptyDir" in each] == ["tmp", "spool"]


@pytest.mark.clients
def test_the_charts_pods_are_bound_and_drain_in_time_with_a_configuration_that_holds(
    reader: Reader, tmp_path: Path
) -> None:
    objects = chart(reader, {})
    pod = objects["StatefulSet"]["spec"]["template"]["spec"]
    made = tmp_path / "config.yaml"
    made.write_text(objects["ConfigMap"]["data"]["config.yaml"])
    loaded = config.load(made, ENV)
    stop = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > stop + loaded.config.server.drain
    assert pod["securityContext"]["runAsNonRoot"] and pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.clients
@pytest.mark.parametrize(
    ("values", "says"),
    [({"stopping": {"preStop": 8, "grace": 60}}, "cut short"), ({"replica": 3}, "replica"), ({"secret": ""}, "secret")],
)
def test_the_chart_refuses_what_would_not_hold(reader: Reader, values: dict[str, Any], says: str) -> None:
    assert says in reader("refusal", path=str(CHART), values=values)
