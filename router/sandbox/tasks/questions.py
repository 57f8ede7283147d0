"""Questions: about a text (the answer stands in it), a table (a cell), a picture, a document."""

import re
from typing import Any, Final

from router.sandbox import fields as read
from router.sandbox.exchange import Ask, Reply, seal
from router.sandbox.tasks import asked
from router.sandbox.tasks.labels import ranked
from router.sandbox.tasks.tables import columns

SENTENCE: Final = re.compile(r"[^.!?]+")
RUN: Final = re.compile(r"\b[A-Z0-9]\w*(?: [A-Z0-9]\w*)*|\w+")
REPLIES: Final = ("yes", "no", "two", "blue", "a cat")
TOP: Final = 5


def in_text(ask: Ask) -> Reply:
    """One answer as an object; a list where `top_k` asks for more. Several questions are a list too."""
    most = read.whole(asked.parameters(ask), "top_k", 1, 10_000) or 1
    pairs = ask.fields["inputs"] if asked.several(ask) else [asked.parts(ask)]
    if not pairs or not all(isinstance(pair, dict) for pair in pairs):
        raise read.wrong_type("inputs", "an object, or an array of them", pairs)
    answers = [_answers(read.text(pair, "question"), read.text(pair, "context")) for pair in pairs]
    found = [each[0] if most == 1 else each[:most] for each in answers]
    return asked.answer(found if asked.several(ask) else found[0])


def in_table(ask: Ask) -> Reply:
    """Several questions to one table are several answers."""
    within = asked.parts(ask)
    name = "query" if within.get("question") is None else "question"
    table = columns(read.need(within, "table"), "table")
    if isinstance(within.get(name), list):
        return asked.answer([_cell(question, table) for question in asked.strings(within, name)])
    return asked.answer(_cell(read.text(within, name), table))


def in_picture(ask: Ask) -> Reply:
    question = read.text(asked.parts(ask), "question")
    image = asked.file(ask, "image")
    most = read.whole(asked.parameters(ask), "top_k", 1, 10_000) or TOP
    found = ranked(REPLIES, seal(question, image))[:most]
    return asked.answer([{"answer": each["label"], "score": each["score"]} for each in found])


def in_document(ask: Ask) -> Reply:
    """What it reads in a document is how long it is."""
    read.text(asked.parts(ask), "question")
    said = f"{len(asked.file(ask, 'image'))} bytes"
    read.whole(asked.parameters(ask), "top_k", 1, 10_000)
    return asked.answer([{"answer": said, "score": 1.0, "start": 0, "end": 0}])


def _answers(question: str, context: str) -> list[dict[str, Any]]:
    """What the question does not say itself: first in the sentence that shares most with it, names before words."""
    asked_for = _words(question)
    runs = sorted(
        (bool(_words(run[0]) & asked_for), -len(asked_for & _words(sentence[0])), run[0].islower(), run.start(), run[0])
        for sentence in SENTENCE.finditer(context)
        for run in RUN.finditer(context, *sentence.span())
    )
    if not runs:
        return [{"score": 1.0, "start": 0, "end": len(context), "answer": context}]
    return [
        {"score": 0.5**at, "start": start, "end": start + len(said), "answer": said}
        for at, (_, _, _, start, said) in enumerate(runs[:100], 1)
    ]


def _cell(question: str, table: dict[str, list[Any]]) -> dict[str, Any]:
    """The row of which the question names a cell, and of its columns the one that the question names most."""
    names = list(table)
    asked_for = _words(question)
    named = [
        (row, at)
        for at, name in enumerate(names)
        for row, cell in enumerate(table[name])
        if _words(str(cell)) and _words(str(cell)) <= asked_for
    ]
    row, taken = named[0] if named else (0, -1)
    others = [at for at in range(len(names)) if at != taken] or [taken]
    at = max(others, key=lambda at: len(_words(names[at]) & asked_for))
    cell = str(table[names[at]][row])
    return {"answer": cell, "coordinates": [[row, at]], "cells": [cell], "aggregator": "NONE"}


def _words(said: str) -> set[str]:
    return set(re.findall(r"\w+", said.lower()))
