"""TGI's own client, below a model's path and below TGI's. Prints what it got as one JSON object."""

import asyncio
import json
import os

from text_generation import AsyncClient, Client

URL = os.environ["ROUTER_URL"]
HEADERS = {"authorization": "Bearer " + os.environ["ROUTER_KEY"]}


async def main() -> None:
    found = {}
    for family in ("models", "tgi"):
        client = Client(f"{URL}/{family}/sandbox/echo", headers=HEADERS)
        answer = client.generate("one two three", max_new_tokens=8)
        events = list(client.generate_stream("one two three", max_new_tokens=8))
        found[family] = {
            "text": answer.generated_text,
            "tokens": answer.details.generated_tokens,
            "finish": answer.details.finish_reason.value,
            "streamed": "".join(each.token.text for each in events if not each.token.special),
            "last": events[-1].generated_text,
        }
    awaited = await AsyncClient(f"{URL}/models/sandbox/echo", headers=HEADERS).generate("four five", max_new_tokens=8)
    refused = {}
    for model in ("no/such", "sandbox/context-length"):
        try:
            Client(f"{URL}/models/{model}", headers=HEADERS).generate("x")
        except Exception as error:  # the client's own class is what the test is about
            refused[model] = f"{type(error).__name__}: {error}"
    print(json.dumps({**found, "awaited": awaited.generated_text, "refused": refused}))


asyncio.run(main())
