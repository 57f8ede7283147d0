"""Reads deploy/ with the real things: Helm's own engine, Kubernetes' schemas, a PromQL parser, a Compose parser.

Run by an interpreter that has them, with what is wanted as JSON on standard input; says what it found as JSON.
"""

import json
import sys
from typing import Any

import compose_spec
import kubernetes_validate
import promql_parser
import yaml
from helm_python.chart import Chart, lint

KUBERNETES = ("1.27", "1.34")


def chart(path: str, values: dict[str, Any]) -> dict[str, Any]:
    """Linted, rendered, and each object held against the schema of the oldest and a new Kubernetes."""
    rendered = Chart.load(path).render(values, name="r", namespace="ns")
    texts = [text for name, text in rendered.items() if not name.endswith(".txt")]
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each]
    wrong, unknown = {}, []
    for each in objects:
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.SchemaNotFoundError:
                unknown.append(each["kind"])
            except kubernetes_validate.ValidationError as error:
                wrong[f"{each['kind']} {version}"] = str(error)[:500]
    return {"lint": lint(path, values)["errors"], "objects": objects, "wrong": wrong, "unknown": sorted(set(unknown))}


def refusal(path: str, values: dict[str, Any]) -> str:
    try:
        Chart.load(path).render(values, name="r")
    except Exception as error:
        return str(error)
    return ""


def promql(queries: dict[str, str]) -> dict[str, str]:
    found = {}
    for place, query in queries.items():
        try:
            promql_parser.parse(query)
        except Exception as error:
            found[place] = str(error)
    return found


def compose(text: str) -> list[str]:
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(yaml.safe_load(text)))  # it knows no merge of a merge
    parsed.validate()
    return sorted(parsed.service_names())


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    does = {"chart": chart, "refusal": refusal, "promql": promql, "compose": compose}[asked.pop("do")]
    json.dump(does(**asked), sys.stdout)
