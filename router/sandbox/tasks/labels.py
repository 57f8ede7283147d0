"""Classification of everything: the labels of a model that never was, or the caller's own, scored by a hash."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply, seal
from router.sandbox.tasks import asked

FEELINGS: Final = ("POSITIVE", "NEGATIVE")
THINGS: Final = ("tabby cat", "golden retriever", "sports car", "teapot", "lighthouse", "daisy")
SOUNDS: Final = ("speech", "music", "rain", "dog bark", "silence")
DEEDS: Final = ("walking", "cooking", "juggling", "playing chess", "riding a bike")
TOP: Final = 5


def text(ask: Ask) -> Reply:
    """One list of labels for each text, as the Serverless API nests them; a pair of texts is one."""
    value = read.need(ask.fields, "inputs")
    pairs = value if isinstance(value, list) else [value]
    if pairs and all(isinstance(pair, dict) for pair in pairs):
        said = [f"{read.text(pair, 'text')} {pair.get('text_pair') or ''}" for pair in pairs]
    else:
        said = asked.texts(ask)
    return asked.answer([_top(ask, FEELINGS, each) for each in said])


def picture(ask: Ask) -> Reply:
    return asked.answer(_top(ask, THINGS, asked.file(ask)))


def sound(ask: Ask) -> Reply:
    return asked.answer(_top(ask, SOUNDS, asked.file(ask)))


def film(ask: Ask) -> Reply:
    return asked.answer(_top(ask, DEEDS, asked.file(ask)))


def zero_shot(ask: Ask) -> Reply:
    """A label that stands in the text wins. Several texts get a list each."""
    labels = asked.labels(ask)
    alone = read.flag(asked.parameters(ask), "multi_label")
    found = [ranked(labels, said, alone=alone, favoured=_named(labels, said)) for said in asked.texts(ask)]
    return asked.answer(found if asked.several(ask) else found[0])


def zero_shot_picture(ask: Ask) -> Reply:
    return asked.answer(ranked(asked.labels(ask), asked.file(ask, "image")))


def ranked(
    labels: Sequence[str], seed: str | bytes, *, alone: bool = False, favoured: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Labels with their scores, best first. The scores add up to one unless each label stands `alone`."""
    noise = {label: int(seal(seed, label)[:4], 16) + 1 for label in labels}
    weights = {label: weight + 65_536 * (label in favoured) for label, weight in noise.items()}
    whole = 131_072 if alone else sum(weights.values())
    best_first = sorted(weights.items(), key=lambda each: -each[1])
    return [{"label": label, "score": weight / whole} for label, weight in best_first]


def _top(ask: Ask, labels: Sequence[str], seed: str | bytes) -> list[dict[str, Any]]:
    given = asked.parameters(ask)
    alone = read.choice(given, "function_to_apply", "softmax", "sigmoid", "none") != "softmax"
    return ranked(labels, seed, alone=alone)[: read.whole(given, "top_k", 1, 10_000) or TOP]


def _named(labels: Iterable[str], said: str) -> frozenset[str]:
    return frozenset(label for label in labels if label.lower() in said.lower())
