"""Every method of huggingface_hub's client that has a task, pointed straight at the sandbox."""

import pytest
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from router.sandbox import Sandbox
from tests.clients.hub_tasks import BYTES_AS_DATA, CHECKS, Check, Clients, checked
from tests.router.sandbox.wire import with_sandbox

pytestmark = BYTES_AS_DATA


def sandboxed(check: Check, **headers: str) -> None:
    async def run(sandbox: Sandbox) -> None:
        await checked(check, f"{sandbox.base_url}/pipeline/{{task}}", headers=headers)

    with_sandbox(run)


@pytest.mark.parametrize("check", CHECKS)
def test_the_client_reads_the_answer_of_every_task(check: Check) -> None:
    sandboxed(check)


def test_refusals_reach_the_client_as_its_own_exceptions() -> None:
    async def unmasked(client: Clients) -> None:
        with pytest.raises(BadRequestError, match="mask_token"):
            await client("fill-mask").fill_mask("no mask")

    async def loading(client: Clients) -> None:
        with pytest.raises(HfHubHTTPError, match="is currently loading"):
            await client("text-to-image").text_to_image("a cat")

    sandboxed(unmasked)
    sandboxed(loading, **{"x-sandbox-fault": "503-loading"})
