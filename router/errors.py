"""The one exception that carries a Fault, and the faults that more than one place raises.

A Fault is data (providers/spec.py); the dialect of the path called words it. Messages name the caller's things, never
an internal address, never a secret.
"""

from providers.spec import Fault


class Refused(Exception):
    """A request that ends in a fault. Raised anywhere below the pipeline, caught there once."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.code)
        self.fault = fault


def bad_request(message: str, param: str | None = None, code: str = "invalid_request") -> Refused:
    return Refused(Fault(400, code, message, param))


def not_found(message: str, param: str | None = None, code: str = "not_found") -> Refused:
    return Refused(Fault(404, code, message, param))


def unauthorized() -> Refused:
    """One generic answer for a key that is absent, unknown, revoked or malformed (FAULTS §3.1 A11)."""
    return Refused(Fault(401, "invalid_api_key", "Invalid credentials in Authorization header"))


def too_large(limit: int, param: str | None = None) -> Refused:
    return Refused(Fault(413, "request_too_large", f"The request body is larger than {limit} bytes.", param))
