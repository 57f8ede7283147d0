"""What one replica has kept another answers with, and what operators see of upstreams and their keys."""

from pathlib import Path

import httpx2

from tests.router.stores.redis_server import RedisServer
from tests.running import KEY, serving

CONFIG = """
stores: {{shared: "{redis}", ledger: "off"}}
virtual_keys: [{{name: alice, key: {key}}}]
upstreams:
  sandbox: {{provider: sandbox, limits: {{requests: 1000/hour}}}}
  other:
    {{provider: openai, base_url: "http://127.0.0.1:9", keys: [{{key: sk-CanaryOne000000000, name: one, weight: 2}}]}}
tables: []
"""


def test_two_replicas_share_what_they_keep_and_agree_on_their_configuration(tmp_path: Path) -> None:
    redis = RedisServer()
    redis.start()
    try:
        text = CONFIG.format(redis=redis.url, key=KEY)
        here, there = tmp_path / "one", tmp_path / "two"
        here.mkdir()
        there.mkdir()
        headers = {"authorization": f"Bearer {KEY}"}
        with serving(text, here) as one, serving(text, there) as two:
            asked = {"inputs": "is it kept?"}
            made = httpx2.post(f"{one.base}/models/sandbox/echo", json=asked, headers=headers)
            kept = httpx2.post(f"{two.base}/models/sandbox/echo", json=asked, headers=headers)
            assert made.status_code == kept.status_code == 200
            assert made.headers.get("x-compute-type") != "cache"
            assert kept.headers["x-compute-type"] == "cache" and kept.content == made.content
            digests = {
                line for each in (one, two) for line in httpx2.get(f"{each.base}/metrics").text.splitlines()
                if line.startswith("router_config_info{")
            }  # fmt: skip
            assert len(digests) == 1
            seen = httpx2.get(f"{two.base}/admin/upstreams").json()
            assert seen["other"]["keys"][0]["name"] == "other/…one" and seen["other"]["keys"][0]["weight"] == 2.0
            assert seen["sandbox"]["limits"][0]["limit"] == "requests"
            assert httpx2.get(f"{one.base}/admin/upstreams").json()["sandbox"]["limits"][0]["used"] >= 1
    finally:
        redis.close()
