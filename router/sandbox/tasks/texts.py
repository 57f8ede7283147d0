"""Texts out of texts: entities are words with a capital, a summary is the first sentence, a translation the text."""

import re
from collections.abc import Iterator
from typing import Any, Final

from router.sandbox import fields as read
from router.sandbox import words
from router.sandbox.exchange import Ask, Reply, seal
from router.sandbox.tasks import asked

NAMES: Final = re.compile(r"\b[A-Z]\w*(?: [A-Z]\w*)*")
GROUPS: Final = ("PER", "ORG", "LOC", "MISC")
MASK: Final = re.compile(r"\[MASK\]|<mask>")
FILLERS: Final = (" life", " time", " love", " work", " peace")
SENTENCE: Final = re.compile(r".*?[.!?](?=\s|$)", re.S)
TRUNCATIONS: Final = ("do_not_truncate", "longest_first", "only_first", "only_second")


def entities(ask: Ask) -> Reply:
    given = asked.parameters(ask)
    strategy = read.choice(given, "aggregation_strategy", "simple", "none", "first", "average", "max")
    ignored = asked.strings(given, "ignore_labels") if given.get("ignore_labels") else []
    find = _tokens if strategy == "none" else _groups
    found = [[each for each in find(said) if _label(each) not in ignored] for said in asked.texts(ask)]
    return asked.answer(found if asked.several(ask) else found[0])


def fill_mask(ask: Ask) -> Reply:
    """A list of candidates; a list of such lists where there is more than one mask."""
    given = asked.parameters(ask)
    fillers = asked.strings(given, "targets") if given.get("targets") is not None else list(FILLERS)
    most = read.whole(given, "top_k", 1, 10_000) or 5
    found = []
    for said in asked.texts(ask):
        filled = [_filled(said, mask, fillers)[:most] for mask in MASK.finditer(said)]
        if not filled:
            raise read.invalid("inputs", "no mask_token ([MASK]) found.")
        found.append(filled if len(filled) > 1 else filled[0])
    return asked.answer(found if asked.several(ask) else found[0])


def summarise(ask: Ask) -> Reply:
    _checked(ask)
    return asked.answer([{"summary_text": _first_sentence(said)} for said in asked.texts(ask)])


def translate(ask: Ask) -> Reply:
    given = _checked(ask)
    if (given.get("src_lang") is None) != (given.get("tgt_lang") is None):
        missing = "src_lang" if given.get("src_lang") is None else "tgt_lang"
        raise read.invalid(missing, "src_lang and tgt_lang go together.")
    return asked.answer([{"translation_text": said} for said in asked.texts(ask)])


def rewrite(ask: Ask) -> Reply:
    return asked.answer([{"generated_text": said} for said in asked.texts(ask)])


def _checked(ask: Ask) -> dict[str, Any]:
    given = asked.parameters(ask)
    read.choice(given, "truncation", *TRUNCATIONS)
    read.flag(given, "clean_up_tokenization_spaces")
    return given


def _first_sentence(said: str) -> str:
    found = SENTENCE.match(said)
    return (found[0] if found else said).strip()


def _groups(said: str) -> Iterator[dict[str, Any]]:
    for name in NAMES.finditer(said):
        group = GROUPS[words.token_id(name[0]) % len(GROUPS)]
        yield {
            "entity_group": group,
            "score": _score(name[0]),
            "word": name[0],
            "start": name.start(),
            "end": name.end(),
        }


def _tokens(said: str) -> Iterator[dict[str, Any]]:
    index = 0
    for group in _groups(said):
        start = group["start"]
        for at, word in enumerate(group["word"].split(" ")):
            index += 1
            entity = f"{'I' if at else 'B'}-{group['entity_group']}"
            yield {
                "entity": entity,
                "score": group["score"],
                "index": index,
                "word": word,
                "start": start,
                "end": start + len(word),
            }
            start += len(word) + 1


def _label(found: dict[str, Any]) -> str:
    return str(found.get("entity_group") or found["entity"])


def _score(seed: str) -> float:
    """Between 0.5 and 1."""
    return 0.5 + int(seal(seed)[:4], 16) / 131_072


def _filled(said: str, mask: re.Match[str], fillers: list[str]) -> list[dict[str, Any]]:
    found = [
        {
            "score": _score(f"{said} {mask.start()} {filler}") / len(fillers),
            "token": words.token_id(filler),
            "token_str": filler,
            "sequence": said[: mask.start()] + filler.strip() + said[mask.end() :],
        }
        for filler in fillers
    ]
    return sorted(found, key=lambda each: -each["score"])
