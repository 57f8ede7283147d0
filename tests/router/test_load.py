"""Depths of queues, read from what servers of each kind really show."""

import pytest

from router.load import depth_of

TGI = b"""# TYPE tgi_queue_size gauge
tgi_queue_size 3
# TYPE tgi_batch_current_size gauge
tgi_batch_current_size 5
tgi_request_queue_duration_count 17
tgi_batch_current_max_tokens 9000
"""
VLLM = b"""# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a b"} 4.0
vllm:num_requests_running{engine="1",model_name="a b"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a b"} 12.0
vllm:num_requests_waiting_by_reason{reason="capacity"} 12.0
"""


@pytest.mark.parametrize(
    ("exposition", "expected"),
    [
        (TGI, 8.0),
        (VLLM, 17.0),
        (b"sglang:num_running_reqs{m=\"x\"} 2\nsglang:num_queue_reqs{m=\"x\"} 40.0\n", 42.0),
        (b"llamacpp:requests_processing 1\nllamacpp:requests_deferred 6\n", 7.0),
        (b"te_queue_size 2\n", 2.0),
        (b"backend_queue_size 1e1\n", 10.0),
        (b"tgi_queue_size 0\n", 0.0),
        (b"up 1\nprocess_cpu_seconds_total 3\n", None),
        (b"", None),
        (b"tgi_queue_size 1.2.3\n", None),
        (b"<html>tgi_queue_size 3</html>", None),
    ],
)  # fmt: skip
def test_what_a_server_says_of_its_queue_is_read(exposition: bytes, expected: float | None) -> None:
    assert depth_of(exposition) == expected
