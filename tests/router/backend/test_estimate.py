"""How long loading takes: what is known of it, and what is kept."""

from pathlib import Path

from router.backend import estimate
from router.backend.engine import Order

ORDER = Order("org/model", "text-to-image")


def test_it_takes_what_it_took(tmp_path: Path) -> None:
    cache, hub = tmp_path / "cache", tmp_path / "hub"
    assert estimate.expected(ORDER, cache, hub) == estimate.FETCHED
    estimate.learn(ORDER, cache, 12.34)
    estimate.learn(Order("org/model", "text-to-image", device="cpu"), cache, 90.0)
    assert estimate.expected(ORDER, cache, hub) == 12.3
    assert [each.name for each in cache.iterdir()] == ["loads.json"]


def test_what_is_not_known_is_guessed_from_the_size_of_the_weights(tmp_path: Path) -> None:
    model = tmp_path / "model" / "unet"
    model.mkdir(parents=True)
    with (model / "weights.safetensors").open("wb") as weights:
        weights.truncate(3_000_000_000)
    (model / "config.json").write_text("{}")
    assert estimate.guess(str(tmp_path / "model"), tmp_path) == estimate.LIBRARIES + 10.0


def test_a_model_in_the_hubs_cache_is_measured_there(tmp_path: Path) -> None:
    place = tmp_path / "models--org--model" / "snapshots" / "abc"
    place.mkdir(parents=True)
    (place / "weights.bin").write_bytes(b"0" * 3_000_000)
    assert estimate.guess("org/model", tmp_path) == round(estimate.LIBRARIES + 0.01, 1)


def test_a_file_that_cannot_be_read_or_written_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "loads.json").write_text("[1")
    assert estimate.expected(ORDER, tmp_path, tmp_path) == estimate.FETCHED
    (tmp_path / "file").touch()
    estimate.learn(ORDER, tmp_path / "file", 1.0)


def test_each_platform_has_its_place_for_what_can_be_found_out_again() -> None:
    home = Path.home()
    assert estimate.cache_directory({"XDG_CACHE_HOME": "/c"}, "linux") == Path("/c/inference-router")
    assert estimate.cache_directory({}, "linux") == home / ".cache" / "inference-router"
    assert estimate.cache_directory({}, "darwin") == home / "Library" / "Caches" / "inference-router"
    assert estimate.cache_directory({"LOCALAPPDATA": "/l"}, "win32") == Path("/l/inference-router")
    assert estimate.hub_directory({"HF_HOME": "/h"}) == Path("/h/hub")
    assert estimate.hub_directory({"HF_HOME": "/h", "HF_HUB_CACHE": "/x"}) == Path("/x")
