"""Public AI: public and sovereign models, such as Apertus."""

from providers.openai_shaped import openai_shaped

PROVIDER = openai_shaped(
    "publicai",
    "https://api.publicai.co",
    env=("PUBLICAI_API_KEY",),
    lists_models=True,
)
