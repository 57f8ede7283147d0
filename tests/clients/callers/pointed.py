"""Runs a program with a huggingface_hub whose hosts are constants (0.29 and later) pointed at the router.

HF_ENDPOINT moves the look-ups; the rest of what moves the client is these two lines. The program is not changed.
"""

import os
import runpy
import sys

from huggingface_hub import constants

constants.INFERENCE_PROXY_TEMPLATE = os.environ["ROUTER_URL"] + "/{provider}"

from huggingface_hub.inference._providers import CONVERSATIONAL_AUTO_ROUTER  # noqa: E402, the template is read on import

CONVERSATIONAL_AUTO_ROUTER.base_url = os.environ["ROUTER_URL"]
runpy.run_path(sys.argv[1], run_name="__main__")
