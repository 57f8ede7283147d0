"""`python -m router` is `inference-router`."""

from router.cli import main

main(prog_name="inference-router")
