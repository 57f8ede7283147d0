"""Every query of the dashboard and of the alert rules, by where it stands."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "router.json"
ALERTS = DEPLOY / "alerts.yaml"

_VARIABLES = {"$__rate_interval": "5m", "$__range": "3h"}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def of_dashboard() -> dict[str, str]:
    found = {}
    row = ""
    for panel in panels():
        row = panel["title"] if panel["type"] == "row" else row
        for target in panel.get("targets", ()):
            query = target["expr"]
            for variable, value in _VARIABLES.items():
                query = query.replace(variable, value)
            found[f"{row}/{panel['title']}/{target['refId']}"] = query
    return found


def of_variables() -> dict[str, tuple[str, str]]:
    """The dashboard's choices: (metric, label) of each."""
    listed = json.loads(DASHBOARD.read_text())["templating"]["list"]
    found = {}
    for each in listed:
        query = re.fullmatch(r"label_values\((\w+), (\w+)\)", each["query"]["query"])
        assert query is not None, each["query"]
        found[str(each["name"])] = (query[1], query[2])
    return found


def of_rules() -> dict[str, str]:
    return {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules()}


def recorded() -> set[str]:
    """What rules themselves make; such a series has no label."""
    return {rule["record"] for rule in rules() if "record" in rule}


def everything() -> dict[str, str]:
    return of_dashboard() | of_rules()
