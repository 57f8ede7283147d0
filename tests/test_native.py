"""What may stand in the modules that are compiled (deploy/native.py), where mypyc means other things than Python.

Each rule was broken once, and each time only the compiled program was wrong. The same suite is run over the compiled
modules too, in a copy: `python deploy/native.py COPY`, then pytest there (.ci/run does so with the marked steps).
"""

import ast
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
MODULES: list[str] = TABLE["hooks"]["custom"]["modules"]

WAITS = ast.Await | ast.AsyncWith | ast.AsyncFor | ast.Yield | ast.YieldFrom
KEYWORDS = {"_thread", "_inline", "_asm", "_typeof", "_restrict", "_alignof", "_volatile", "_const", "_signed"}


def within(body: list[ast.stmt]) -> list[ast.AST]:
    return [node for each in body for node in ast.walk(each)]


def endless(tree: ast.AST) -> Iterator[ast.AST]:
    """A generator expression becomes a list: one over a counter never ends."""
    for node in ast.walk(tree):
        if isinstance(node, ast.GeneratorExp) and any("count(" in ast.unparse(each.iter) for each in node.generators):
            yield node


def waiting(tree: ast.AST) -> Iterator[ast.AST]:
    """What is handled is not put aside where a handler or a `finally` waits: `raise` would raise something else, and
    the exception would be the present one of all that runs meanwhile. Note it, and wait behind the `try`.
    """
    for node in ast.walk(tree):
        bodies = [node.body] if isinstance(node, ast.ExceptHandler) else []
        bodies += [node.finalbody] if isinstance(node, ast.Try) else []
        yield from (each for body in bodies for each in within(body) if isinstance(each, WAITS))


def structs(tree: ast.AST) -> Iterator[ast.AST]:
    """Keywords of a class are forgotten: a struct would no longer be frozen, an array, or outside the collector."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.keywords)


def defaults(tree: ast.AST) -> Iterator[ast.AST]:
    """`name: Some | None = None` in the body of a plain class may set nothing; a dataclass and a struct do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not (node.decorator_list or node.bases):
            for each in node.body:
                value = each.value if isinstance(each, ast.AnnAssign) else each
                if isinstance(value, ast.Constant) and value.value is None:
                    yield each


def names(tree: ast.AST) -> Iterator[ast.AST]:
    """An attribute becomes a field in C with one more underscore: `_thread` is C's `__thread`."""
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in KEYWORDS)


@pytest.mark.parametrize("rule", [endless, waiting, structs, defaults, names])
def test_what_is_compiled_means_what_python_means(rule: Callable[[ast.AST], Iterator[ast.AST]]) -> None:
    found = [
        f"{module}:{getattr(node, 'lineno', 0)}"
        for module in MODULES
        for node in rule(ast.parse((ROOT / module).read_text()))
    ]
    assert not found, f"{rule.__doc__} {found}"


BAD = """
names = (f"{each}" for each in itertools.count())
class Row(Struct, frozen=True): ...
class Plain:
    kept: Grip | None = None
    async def end(self):
        self._thread = 1
        try:
            await self.walk()
        except OSError:
            await self.close()
            raise
"""


@pytest.mark.parametrize("rule", [endless, waiting, structs, defaults, names])
def test_each_rule_finds_what_it_is_about(rule: Callable[[ast.AST], Iterator[ast.AST]]) -> None:
    assert len(list(rule(ast.parse(BAD)))) == 1


def test_all_that_is_named_is_there_and_named_once() -> None:
    assert sorted(set(MODULES)) == MODULES
    assert [each for each in MODULES if not (ROOT / each).is_file()] == []
