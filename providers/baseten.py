"""Baseten's model APIs."""

from providers.openai_shaped import openai_shaped

PROVIDER = openai_shaped(
    "baseten",
    "https://inference.baseten.co",
    env=("BASETEN_API_KEY",),
    lists_models=True,
)
