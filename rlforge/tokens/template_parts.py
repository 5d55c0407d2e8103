"""Chat templates that write each message alone, told from their programs: their text grows without a look back.

Such a template is one loop over the messages whose body knows nothing but the message at hand. What it writes for a
conversation is what it writes for the messages one by one, so a further message costs the same in the hundredth turn as
in the first. Nothing is tried out: a program that does anything else is no such template.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.defaults import DEFAULT_NAMESPACE

_MESSAGES = "messages"
_LOOK_AROUND = (
    nodes.Assign,
    nodes.AssignBlock,
    nodes.Block,
    nodes.Break,
    nodes.CallBlock,
    nodes.ContextReference,
    nodes.DerivedContextReference,
    nodes.Extends,
    nodes.FromImport,
    nodes.Import,
    nodes.Include,
    nodes.Macro,
)
"""What can keep something from one message for the next, or end the loop before its end."""
_FILTERS = frozenset({"capitalize", "default", "first", "items", "join", "last", "length", "lower", "replace", "string",
                      "title", "tojson", "trim", "upper"})  # fmt: skip
"""Filters that know nothing but what they are given."""


_CHANGING = frozenset({_MESSAGES, "tools", "loop", "self", "strftime_now", *DEFAULT_NAMESPACE})
"""Names that mean other things at other times; none may be hidden by a name of the template's own."""


class Parts(NamedTuple):
    """Programs whose texts, one behind the other, are the template's."""

    each: jinja2.Template
    """Its macro `each` writes a message: a call of it costs a third of a rendering."""
    behind: jinja2.Template
    """What is written behind them; it depends on `add_generation_prompt` alone."""


def parts_of(environment: jinja2.Environment, source: str, constants: Collection[str]) -> Parts | None:
    """The parts of a template that writes each message alone; None for any other. `constants` never change."""
    body = environment.parse(source).body
    places = [place for place, node in enumerate(body) if _target(node)]
    if len(places) != 1:
        return None
    before, loop, behind = body[: places[0]], body[places[0]], body[places[0] + 1 :]
    assert isinstance(loop, nodes.For)
    known = {*constants, "raise_exception", "add_generation_prompt"} - _CHANGING
    alone = (
        _knows_only(before, {*known, "tools"})
        and _knows_only(loop.body, {*known, _target(loop)})
        and _knows_only(behind, known)
    )
    if not alone:
        return None
    macro = nodes.Macro("each", [nodes.Name(_target(loop), "param")], [], loop.body, lineno=1)
    return Parts(each=_program(environment, [macro]), behind=_program(environment, behind))


def _target(node: nodes.Node) -> str:
    """What a plain loop over the messages calls the one at hand; empty for any other node."""
    if not isinstance(node, nodes.For) or node.else_ or node.test or node.recursive:
        return ""
    if not isinstance(node.iter, nodes.Name) or node.iter.name != _MESSAGES or not isinstance(node.target, nodes.Name):
        return ""
    return "" if node.target.name in _CHANGING else node.target.name


def _knows_only(part: list[nodes.Node], names: Collection[str]) -> bool:
    """Whether the nodes read nothing but these names and what their own inner loops go over."""
    whole = nodes.Template(part, lineno=1)
    own = {name.name for loop in whole.find_all(nodes.For) for name in _names(loop.target)}
    return (
        not own & _CHANGING
        and next(whole.find_all(_LOOK_AROUND), None) is None
        and all(name.name in names or name.name in own for name in whole.find_all(nodes.Name))
        and all(used.name in _FILTERS for used in whole.find_all(nodes.Filter))
    )


def _names(target: nodes.Node) -> list[nodes.Name]:
    return [target] if isinstance(target, nodes.Name) else list(target.find_all(nodes.Name))


def _program(environment: jinja2.Environment, part: list[nodes.Node]) -> jinja2.Template:
    whole = nodes.Template(part, lineno=1)
    whole.set_environment(environment)
    return jinja2.Template.from_code(environment, environment.compile(whole), dict(environment.globals))
