"""Who is compared: how each one is installed, and how it is started as one worker in front of one upstream.

Each is given what its own documents name for a plain proxy and nothing that costs it time: no keys, no log line a
request, no database. Versions are pinned, so that two runs compare the same programs. Nothing here measures.
"""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.bench import wire

HERE: Final = Path(__file__).parent
NGINX: Final = "/usr/sbin/nginx"
PROGRAM: Final = str(Path(sys.executable).with_name("inference-router"))  # what pip installed


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer runs: its port and a second one, that of the upstream, its files, a directory to write in."""

    port: int
    spare: int
    upstream: int
    installed: Path
    work: Path


def _nothing(_: Path) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Peer:
    """One program of the comparison."""

    name: str
    title: str
    command: Callable[[Place], list[str]]
    env: Callable[[Place], Mapping[str, str]] = lambda _: {}
    headers: Callable[[Place], Mapping[str, str]] = lambda _: {}  # that its callers must send
    install: Callable[[Path], None] = _nothing
    folder: str = ""  # below the cache, where two peers share what is installed
    version: str = ""

    def installed(self, cache: Path) -> Path:
        return cache / (self.folder or self.name)


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-800:]}")


def _once(folder: Path, wanted: str, install: Callable[[], None]) -> None:
    """Do it unless the folder says that exactly this was done."""
    mark = folder / ".installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    install()
    mark.write_text(wanted)


def _from_pypi(requirement: str) -> Callable[[Path], None]:
    def install(folder: Path) -> None:
        def pip() -> None:
            venv.create(folder, with_pip=True, clear=True)
            _run(folder / "bin/pip", "install", "--quiet", requirement)

        _once(folder, requirement, pip)

    return install


def _from_npm(package: Mapping[str, object]) -> Callable[[Path], None]:
    wanted = json.dumps(package)

    def install(folder: Path) -> None:
        def npm() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text(wanted)
            _run("npm", "install", "--no-audit", "--no-fund", "--prefix", folder)

        _once(folder, wanted, npm)

    return install


def nginx_conf(work: Path, http: str) -> Path:
    """A configuration file for one worker that keeps its files in `work`."""
    work.mkdir(parents=True, exist_ok=True)
    temp = "".join(f"{kind}_temp_path {work}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    conf = work / "nginx.conf"
    conf.write_text(
        f"{user} daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid {work}/nginx.pid;"
        f" error_log stderr error;\nevents {{ worker_connections 10000; }}\n"
        f"http {{ access_log off; {temp} keepalive_requests 1000000000; default_type application/json;\n{http}\n}}\n"
    )
    return conf


def _nginx(place: Place) -> list[str]:
    conf = nginx_conf(
        place.work,
        f"upstream mock {{ server 127.0.0.1:{place.upstream}; keepalive 512; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{place.port} backlog=4096; client_max_body_size 32m; location / {{\n"
        '  proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection "";\n'
        "  proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 600s; } }",
    )
    return [NGINX, "-e", "stderr", "-c", str(conf)]


def _ours(config: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        serve = [PROGRAM, "serve", "--config", str(HERE / config), "--host", "127.0.0.1"]
        return [*serve, "--port", str(place.port), "--workers", "1"]

    return command


def _our_env(place: Place) -> Mapping[str, str]:
    place.work.mkdir(parents=True, exist_ok=True)
    return {"BENCH_UPSTREAM": str(place.upstream), "BENCH_KEY": wire.KEY, "BENCH_PLACE": str(place.work)}


def our_version() -> str:
    """As it is installed, which tells whether it is native; the one in this directory is plain."""
    try:
        return subprocess.run([PROGRAM, "version"], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return "not installed"


def _sglang(place: Place) -> list[str]:
    return [
        str(place.installed / "bin/python"),
        "-m",
        "sglang_router.launch_router",
        *("--host", "127.0.0.1", "--port", str(place.port), "--worker-urls", f"http://127.0.0.1:{place.upstream}"),
        *("--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(place.spare)),
    ]


def _smg(place: Place) -> list[str]:
    return [
        str(place.installed / "bin/smg"),
        "launch",
        *("--host", "127.0.0.1", "--port", str(place.port), "--worker-urls", f"http://127.0.0.1:{place.upstream}"),
        *("--policy", "round_robin", "--log-level", "error", "--prometheus-port", str(place.spare)),
        "--disable-tokenizer-autoload",
    ]


def _litellm(place: Place) -> list[str]:
    params = {"model": f"openai/{wire.MODEL}", "api_base": f"http://127.0.0.1:{place.upstream}/v1", "api_key": "none"}
    config = {
        "model_list": [{"model_name": wire.MODEL, "litellm_params": params}],
        "litellm_settings": {"telemetry": False, "request_timeout": 600},
    }
    file = place.work / "litellm.yaml"
    file.write_text(json.dumps(config))
    serve = [str(place.installed / "bin/litellm"), "--config", str(file), "--host", "127.0.0.1"]
    return [*serve, "--port", str(place.port), "--num_workers", "1", "--telemetry", "False"]


def _portkey(place: Place) -> list[str]:
    script = place.installed / "node_modules/@portkey-ai/gateway/build/start-server.js"
    return ["node", str(script), f"--port={place.port}", "--headless"]


def _portkey_headers(place: Place) -> Mapping[str, str]:
    return {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{place.upstream}/v1"}


def _litellm_env(rust: str) -> Callable[[Place], Mapping[str, str]]:
    # It refuses to start without a key.
    quiet = {
        "LITELLM_MASTER_KEY": wire.KEY,
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
    }
    return lambda _: {**quiet, "LITELLM_RUST": rust}


# With the newest @hono/node-server that its own range allows (1.19), every stream is a 500, "TypeError: immutable".
_PORTKEY: Final = {
    "dependencies": {"@portkey-ai/gateway": "1.15.2"},
    "overrides": {"@hono/node-server": "1.13.8"},
}
_LITELLM_WHEEL: Final = "litellm[proxy]==1.106.2"

PEERS: Final = (
    Peer("nginx", "nginx", _nginx),
    Peer("us", "Inference Router", _ours("router.yaml"), env=_our_env),
    Peer("us-counted", "limits, budget and ledger on", _ours("counted.yaml"), env=_our_env),
    Peer(
        "sglang",
        "SGLang router (Rust)",
        _sglang,
        install=_from_pypi("sglang-router==0.3.2"),
        version="sglang-router 0.3.2",
    ),
    Peer("smg", "smg (Rust)", _smg, install=_from_pypi("smg==1.13.0"), version="smg 1.13.0"),
    Peer(
        "portkey",
        "Portkey (Node)",
        _portkey,
        headers=_portkey_headers,
        install=_from_npm(_PORTKEY),
        version="@portkey-ai/gateway 1.15.2",
    ),
    Peer(
        "litellm",
        "LiteLLM",
        _litellm,
        env=_litellm_env("false"),
        install=_from_pypi(_LITELLM_WHEEL),
        version="litellm 1.106.2",
    ),
    Peer(
        "litellm-rust",
        "LiteLLM, LITELLM_RUST",
        _litellm,
        env=_litellm_env("true"),
        install=_from_pypi(_LITELLM_WHEEL),
        folder="litellm",
        version="litellm 1.106.2",
    ),
)
