"""Pictures by diffusers: `inference-router backend --task text-to-image`, and Inference Endpoints of such models."""

from providers import toolkit
from providers.spec import IMAGE_TO_IMAGE, TEXT_TO_IMAGE, Provider

PROVIDER = Provider(
    name="diffusers",
    base_url=None,
    adapters=toolkit.adapters((TEXT_TO_IMAGE, IMAGE_TO_IMAGE)),  # the last by `inference-router backend` alone
    needs_key=False,
)
