"""Hyperbolic. Its images take fields of their own, so chat is what it has here."""

from providers.openai_shaped import openai_shaped

PROVIDER = openai_shaped(
    "hyperbolic",
    "https://api.hyperbolic.xyz",
    env=("HYPERBOLIC_API_KEY",),
    lists_models=True,
)
