"""LlamaIndex as its users write it. Prints what it got as one JSON object."""

import asyncio
import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

BASE = os.environ["ROUTER_URL"] + "/v1"
KEY = os.environ["ROUTER_KEY"]


async def main() -> None:
    chats = OpenAILike(model="sandbox/echo", api_base=BASE, api_key=KEY, is_chat_model=True)
    completes = OpenAILike(model="sandbox/echo", api_base=BASE, api_key=KEY, is_chat_model=False)
    words = [ChatMessage(role="user", content="hello from the index")]
    awaited = await chats.astream_chat(words)
    print(
        json.dumps(
            {
                "chat": chats.chat(words).message.content,
                "streamed": [each.delta for each in chats.stream_chat(words) if each.delta],
                "awaited": [each.delta async for each in awaited if each.delta],
                "complete": completes.complete("finish this").text,
                "completed": [each.delta for each in completes.stream_complete("one two three") if each.delta],
            }
        )
    )


asyncio.run(main())
