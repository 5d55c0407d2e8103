"""Bugs, put into code one at a time: each is a small change of its syntax tree."""

import ast
from collections.abc import Callable, Iterator

_COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_OPERATORS = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Add,),
    ast.FloorDiv: (ast.Mod,),
    ast.Mod: (ast.FloorDiv,),
}
_NAMES = {"min": "max", "max": "min", "lower": "upper", "upper": "lower", "i": "j", "j": "i", "left": "right"}


def bugs(source: str) -> Iterator[str]:
    """Every version of a function with one bug, as source."""
    places = len(list(ast.walk(ast.parse(source))))
    for place in range(places):
        choice = 0
        while True:
            tree = ast.parse(source)
            changes = list(_changes(list(ast.walk(tree))[place]))
            if choice == len(changes):
                break
            changes[choice]()
            yield ast.unparse(tree) + "\n"
            choice += 1


def _changes(node: ast.AST) -> Iterator[Callable[[], None]]:
    """What can be done to one node in place."""
    match node:
        case ast.Compare():
            for other in _COMPARISONS.get(type(node.ops[0]), ()):
                yield lambda other=other: node.ops.__setitem__(0, other())
        case ast.BinOp() | ast.AugAssign():
            for other in _OPERATORS.get(type(node.op), ()):
                yield lambda other=other: setattr(node, "op", other())
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield lambda: setattr(node, "op", other())
        case ast.Constant(value=bool()):
            yield lambda: setattr(node, "value", not node.value)
        case ast.Constant(value=int() as number):
            yield lambda: setattr(node, "value", number + 1)
            yield lambda: setattr(node, "value", number - 1)
        case ast.IfExp():
            yield lambda: node.__dict__.update(body=node.orelse, orelse=node.body)
        case ast.Name(ctx=ast.Load()) if node.id in _NAMES:
            yield lambda: setattr(node, "id", _NAMES[node.id])
        case ast.Attribute() if node.attr in _NAMES:
            yield lambda: setattr(node, "attr", _NAMES[node.attr])
        case ast.Slice():
            yield lambda: node.__dict__.update(lower=node.upper, upper=node.lower)
        case _:
            return
