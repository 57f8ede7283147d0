"""LangChain as its users write it. Prints what it got as one JSON object."""

import asyncio
import json
import os

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

BASE = os.environ["ROUTER_URL"] + "/v1"
KEY = os.environ["ROUTER_KEY"]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def main() -> None:
    chat = ChatOpenAI(model="sandbox/echo", base_url=BASE, api_key=KEY)
    invoked = chat.invoke("hello from langchain")
    streamed = list(chat.stream("one two three four"))
    counted = list(ChatOpenAI(model="sandbox/echo", base_url=BASE, api_key=KEY, stream_usage=True).stream("one two"))
    awaited = await chat.ainvoke([("system", "be brief"), ("human", "hello again")])
    called = chat.bind_tools([weather], tool_choice="any").invoke("weather in Paris?")
    completed = OpenAI(model="sandbox/echo", base_url=BASE, api_key=KEY).invoke("complete me")
    vectors = OpenAIEmbeddings(
        model="sandbox/echo", base_url=BASE, api_key=KEY, check_embedding_ctx_length=False
    ).embed_documents(["one", "two"])
    try:
        ChatOpenAI(model="sandbox/echo", base_url=BASE, api_key="sk-wrong", max_retries=0).invoke("x")
        refused = ""
    except Exception as error:  # the client's own class is what the test is about
        refused = type(error).__name__
    try:
        ChatOpenAI(model="no/such", base_url=BASE, api_key=KEY, max_retries=0).invoke("x")
        unknown = ""
    except Exception as error:
        unknown = f"{type(error).__name__}: {error}"
    print(
        json.dumps(
            {
                "invoked": invoked.content,
                "usage": invoked.usage_metadata,
                "streamed": [each.content for each in streamed if each.content],
                "counted": [each.usage_metadata for each in counted if each.usage_metadata],
                "awaited": awaited.content,
                "tools": [each["name"] for each in called.tool_calls],
                "completed": completed,
                "vectors": [len(each) for each in vectors],
                "refused": refused,
                "unknown": unknown,
            }
        )
    )


asyncio.run(main())
