"""Which deployments may serve a call, in which order, and why the others may not. Pure: no clock, no socket, no key."""

from router.routing.order import plan
from router.routing.records import SERVES, Candidate, Deployment, Drop, Found, Place, Plan, Route
from router.routing.settings import DeploymentSettings, Policy, RouteSettings, Row, Rows, SpillSettings
from router.routing.table import Table, build

__all__ = [
    "SERVES",
    "Candidate",
    "Deployment",
    "DeploymentSettings",
    "Drop",
    "Found",
    "Place",
    "Plan",
    "Policy",
    "Route",
    "RouteSettings",
    "Row",
    "Rows",
    "SpillSettings",
    "Table",
    "build",
    "plan",
]
