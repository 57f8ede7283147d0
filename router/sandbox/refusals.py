"""The error bodies that real servers send, in the words of the path: what the faults named by a status play."""

from typing import Final

from router.sandbox.exchange import Call, Reply, json_reply, openai_error

RETRY_AFTER: Final = ("retry-after", "2")
ELSEWHERE: Final = "https://elsewhere.invalid/v1/chat/completions"  # .invalid never resolves (RFC 2606)


def rate_limited(call: Call) -> Reply:
    if call.wording == "tgi":
        return json_reply({"error": "Model is overloaded", "error_type": "overloaded"}, 429, (RETRY_AFTER,))
    if call.wording == "huggingface":
        said = "Rate limit reached. Please log in or use a HF access token"
        return json_reply({"error": said}, 429, (RETRY_AFTER,))
    said = f"Rate limit reached for {call.model or 'this model'}. Please try again in 2s."
    return openai_error(429, said, "requests", "rate_limit_exceeded", headers=(RETRY_AFTER,))


def server_error(call: Call) -> Reply:
    if call.wording == "tgi":
        return json_reply({"error": "Incomplete generation", "error_type": "incomplete_generation"}, 500)
    if call.wording == "huggingface":
        return json_reply({"error": "unknown error"}, 500)
    return openai_error(500, "The server had an error while processing your request.", "server_error")


def unavailable(call: Call) -> Reply:
    if call.wording == "tgi":
        return json_reply({"error": "unhealthy", "error_type": "healthcheck"}, 503)
    if call.wording == "huggingface":
        return json_reply({"error": "Model too busy, unable to get response in less than 60 second(s)"}, 503)
    return openai_error(503, "The engine is currently overloaded, please try again later.", "server_error")


def loading(call: Call) -> Reply:
    model = call.model or "sandbox/503-loading"
    return json_reply({"error": f"Model {model} is currently loading", "estimated_time": 20.0}, 503)


def unauthorized(call: Call) -> Reply:
    if call.wording == "tgi":
        return Reply(b"", 401, content_type="")  # as TGI does with --api-key
    if call.wording == "huggingface":
        return json_reply({"error": "Invalid credentials in Authorization header"}, 401)
    return openai_error(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")


def no_credit(call: Call) -> Reply:
    said = "You have depleted your monthly included credits."
    return json_reply({"error": said}, 402)


def forbidden(call: Call) -> Reply:
    return json_reply({"error": "This authentication method does not have sufficient permissions."}, 403)


def no_model(call: Call) -> Reply:
    if call.wording == "tgi":
        return json_reply({"error": f"Model {call.model} does not exist", "error_type": "validation"}, 404)
    if call.wording == "huggingface":
        return json_reply({"error": f"Model {call.model} does not exist"}, 404)
    said = f"The model '{call.model}' does not exist or you do not have access to it."
    return openai_error(404, said, "invalid_request_error", "model_not_found", "model")


def too_long(call: Call) -> Reply:
    if call.wording == "tgi":
        said = "Input validation error: `inputs` must have less than 8 tokens. Given: 9"
        return json_reply({"error": said, "error_type": "validation"}, 422)
    if call.wording == "huggingface":
        return json_reply({"error": "Token indices sequence length is longer than the model's maximum (9 > 8)"}, 400)
    said = "This model's maximum context length is 8 tokens. However, your messages resulted in 9 tokens."
    return openai_error(400, said, "invalid_request_error", "context_length_exceeded", "messages")


def filtered(call: Call) -> Reply:
    said = "Your request was rejected as a result of our safety system."
    if call.wording == "tgi":
        return json_reply({"error": said, "error_type": "validation"}, 400)
    if call.wording == "huggingface":
        return json_reply({"error": said}, 400)
    return openai_error(400, said, "invalid_request_error", "content_policy_violation")


def redirected(call: Call) -> Reply:
    return Reply(b"", 307, content_type="", headers=(("location", ELSEWHERE),))


def html(call: Call) -> Reply:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
    return Reply(page, 502, "text/html")
