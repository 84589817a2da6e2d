"""Text of a TTIR module -> SSA.

MLIR prints one operation a line and a region's braces at line ends, so the parser reads lines: what an operation
refers to, its attributes, its bare words and its types follow one grammar for nearly all operations. Those with a
grammar of their own (loops, branches, generic form) have a method each. Nothing is skipped: a line that fits no
grammar is an error that quotes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ..errors import UnsupportedError
from .ir import Block, Function, Location, Operation, Region, Type, Value
from .locations import Locations, unescaped

_RESULTS = re.compile(r"^(%[\w$.-]+(?::\d+)?(?:, %[\w$.-]+(?::\d+)?)*) = ")
_OPERAND = re.compile(r"%[\w$.-]+(?:#\d+)?")
_ARGUMENT = re.compile(r"(%[\w$.-]+): ([^%]+?)(?: \{[^%]*?\})?(?: loc\([^%]*)?(?=,? ?%|$)")
_BINDING = re.compile(r"(%[\w$.-]+) = (%[\w$.-]+(?:#\d+)?)")
_SUCCESSOR = re.compile(r"\^(bb\d+)(?:\(([^:()]*) : [^)]*\))?")
_NAME = re.compile(r'^"?([a-z_]+\.[\w.]+)"?')
_TENSOR = re.compile(r"^tensor<((?:\d+x)*)(.*)>$")
_SYMBOL = re.compile(r'@("(?:[^"\\]|\\.)*"|[\w$.-]+)')
_MARK = re.compile(r"[()\[\]{}<>,:]")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_INLINE = re.compile(r'constraints = "([^"]*)", packed_element = (\d+) : i32, pure = (\w+)')
_SCALED = re.compile(r"%\S+?( scale %\S+?)?, %\S+?( scale %\S+?)?, ")
_DESCRIPTOR = re.compile(r"^!?(?:tt\.tensordesc)?<(?:tensor<)?([^<>]*)>?>$")

#: Operations whose printed type is not their result's: how the result's type follows from the operands.
_RESULT_RULES: dict[str, Callable[[list[Type], str], Type]] = {
    "arith.cmpi": lambda types, printed: types[0].with_element("i1"),
    "arith.cmpf": lambda types, printed: types[0].with_element("i1"),
    "arith.select": lambda types, printed: types[1],
    "tt.addptr": lambda types, printed: types[0],
    "tt.load": lambda types, printed: types[0].with_element(types[0].pointee or ""),
    "tt.get_num_programs": lambda types, printed: Type("i32"),
    "tt.make_tensor_descriptor": lambda types, printed: parse_type("!tt.tensordesc" + _split(printed)[-1]),
}

#: Operations with two results of one type, which is printed once.
_TWO_RESULTS = ("tt.split", "arith.mulsi_extended", "arith.mului_extended")


def parse_type(text: str) -> Type:
    """Parse `i32`, `!tt.ptr<f16>`, `tensor<4x8xbf16>`, with or without a layout.

    >>> parse_type("tensor<32x64x!tt.ptr<i8>>")
    Type(element='ptr', shape=(32, 64), pointee='i8')
    """
    text = text.strip()
    if match := _TENSOR.match(text):
        element = parse_type(_split(match[2])[0])
        return Type(element.element, tuple(int(n) for n in match[1].split("x")[:-1]), element.pointee)
    if text.startswith("!tt.tensordesc") and (match := _DESCRIPTOR.match(text)):
        return Type("tensordesc", (), f"tensor<{match[1]}>")  # the block's type, which Triton 3.8 prints in short
    if text.startswith("!tt.ptr<"):
        return Type("ptr", (), _split(text[len("!tt.ptr<") : -1])[0])
    return Type(text)


def parse_module(text: str, first_column: int) -> Function:
    """Parse the kernel of a module, its public function, and the functions that it calls.

    Raises UnsupportedError when the module holds a line that fits no grammar.
    """
    return _Parser(text, first_column).module()


class _Parser:
    def __init__(self, text: str, first_column: int) -> None:
        self._lines = [line.strip() for line in text.splitlines()]
        self._at = 0
        self._locations = Locations(text, first_column)
        self._scopes: list[dict[str, Value]] = [{}]
        self._count = 0

    def module(self) -> Function:
        heads = [i for i, line in enumerate(self._lines) if line.startswith("tt.func ")]
        functions = [self._function(at) for at in heads]
        kernel = next(f for f, at in zip(functions, heads) if not self._lines[at].startswith("tt.func private"))
        kernel.callees = {f.name: f for f in functions if f is not kernel}
        kernel.value_count = self._count
        return kernel

    def _function(self, at: int) -> Function:
        self._at = at
        head = self._next()
        symbol = _SYMBOL.search(head)
        assert symbol is not None
        self._scopes = [{}]
        arguments = self._arguments(head[symbol.end() + 1 :].split(") attributes")[0].rstrip("{ "))
        return Function(symbol[1].strip('"'), arguments, self._region(arguments), self._count)

    # -- lines -------------------------------------------------------------------------------------------------

    def _next(self) -> str:
        self._at += 1
        return self._lines[self._at - 1]

    def _region(self, arguments: list[Value]) -> Region:
        """Read up to the line that closes the region; that line stays unread."""
        blocks = [Block(arguments)]
        self._scopes.append({})
        while not (line := self._lines[self._at]).startswith("}"):
            self._at += 1
            if line.startswith("^"):
                label = line.split("//")[0].rstrip(" :")
                inner = label.split("(", 1)[1].removesuffix(")") if "(" in label else ""
                block = Block(self._arguments(inner))
                if blocks[0].operations or len(blocks) > 1:
                    blocks.append(block)
                else:
                    blocks[0] = block
            elif line:
                blocks[-1].operations.append(self._operation(line))
        self._scopes.pop()
        return Region(blocks)

    def _operation(self, line: str) -> Operation:
        names: list[str] = []
        if match := _RESULTS.match(line):
            for printed in match[1].split(", "):
                name, _, several = printed.partition(":")
                names += [f"{name}#{i}" for i in range(int(several))] if several else [name]
            line = line[match.end() :]
        head = _NAME.match(line)
        if head is None:
            raise UnsupportedError("a line of TTIR that fits no grammar", detail=line)
        line, location = self._split_location(line)
        name, rest = head[1], line[head.end() :]
        reader = _READERS.get(name)
        if reader is not None:
            op = reader(self, name, rest, location)
        elif head[0].startswith('"'):
            op = self._generic(name, rest, location)
        else:
            op = self._plain(name, rest, location, bool(names))
        if len(names) != len(op.results):
            raise UnsupportedError(f"{name} with {len(op.results)} results", location, detail=line)
        for printed, value in zip(names, op.results):
            self._scopes[-1][printed] = value
        return op

    def _split_location(self, line: str) -> tuple[str, Location]:
        at = line.rfind(" loc(")
        if at < 0:
            return line, self._locations["unknown"]
        return line[:at], self._locations[line[at + 5 : -1]]

    # -- values ------------------------------------------------------------------------------------------------

    def _new(self, type_: Type) -> Value:
        self._count += 1
        return Value(self._count - 1, type_)

    def _look_up(self, name: str) -> Value:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        raise UnsupportedError("a value that is used before it is defined", detail=name)

    def _values(self, text: str) -> tuple[Value, ...]:
        return tuple(self._look_up(name) for name in _OPERAND.findall(text))

    def _arguments(self, text: str) -> list[Value]:
        """Define block or function arguments: `%a: i32 loc(...), %b: f32`."""
        values = []
        for name, type_text in _ARGUMENT.findall(text):
            value = self._new(parse_type(_until_attributes(type_text)))
            self._scopes[-1][name] = value
            values.append(value)
        return values

    def _results(self, types: str) -> tuple[Value, ...]:
        return tuple(self._new(parse_type(t)) for t in _split(_unparenthesised(types)) if t)

    # -- grammars ----------------------------------------------------------------------------------------------

    def _plain(self, name: str, rest: str, location: Location, has_result: bool) -> Operation:
        """`name operands words {attributes} : types`, which is how most operations print."""
        body, types = _split_types(rest)
        body, attributes = _split_attributes(body)
        operands = self._values(body)
        words = tuple(w for w in re.split(r"[\s,=]+", _OPERAND.sub(" ", body)) if w)
        results: tuple[Value, ...] = ()
        if has_result:
            rule = _RESULT_RULES.get(name)
            if rule is not None:
                results = (self._new(rule([v.type for v in operands], types)),)
            else:
                arrow = re.split(r" -> | to ", types)
                results = self._results(arrow[-1])
                if name in _TWO_RESULTS:
                    results += self._results(arrow[-1])
        return Operation(name, operands, results, location, attributes, words)

    def _call(self, name: str, rest: str, location: Location) -> Operation:
        """`tt.call @"helper"(%a) : (types) -> types`."""
        symbol = _SYMBOL.search(rest)
        assert symbol is not None
        operands, _, types = rest[symbol.end() :].partition(" : (")
        attributes = {"callee": symbol[1].strip('"')}
        return Operation(name, self._values(operands), self._results(types.split(" -> ")[-1]), location, attributes)

    def _assembly(self, name: str, rest: str, location: Location) -> Operation:
        """`tt.elementwise_inline_asm "code" {constraints = "=r,r", ...} %a : types -> types`."""
        code, options = _STRING.search(rest), _INLINE.search(rest)
        if code is None or options is None:
            raise UnsupportedError("a line of TTIR that fits no grammar", location, detail=name + rest)
        operands, _, types = rest[options.end() :].partition(" : ")
        attributes = {
            "code": unescaped(code[1]),
            "constraints": tuple(options[1].split(",")),
            "packed": int(options[2]),
            "pure": options[3] == "true",
        }
        results = self._results(types.split(" -> ")[-1])
        return Operation(name, self._values(operands), results, location, attributes)

    def _message(self, name: str, rest: str, location: Location) -> Operation:
        """`tt.assert %ok, "text" : type` and `tt.print "text" {...} : %a : type`, whose text may hold anything."""
        text = _STRING.search(rest)
        if text is None:
            raise UnsupportedError("a line of TTIR that fits no grammar", location, detail=name + rest)
        operands = self._values(rest[: text.start()] + rest[text.end() :])
        return Operation(name, operands, (), location, {"message": unescaped(text[1])})

    def _dot_scaled(self, name: str, rest: str, location: Location) -> Operation:
        """`tt.dot_scaled %a scale %sa, %b, %c lhs = e4m3 rhs = bf16 {...} : ...`: either scale may lack."""
        op = self._plain(name, rest, location, True)
        scaled = _SCALED.match(rest.strip())
        assert scaled is not None
        op.attributes["scaled"] = (scaled[1] is not None, scaled[2] is not None)
        return op

    def _constant(self, name: str, rest: str, location: Location) -> Operation:
        literal, _, type_text = rest.strip().rpartition(" : ")
        if not literal:  # `arith.constant true`
            literal, type_text = rest.strip(), "i1"
        return Operation(name, (), (self._new(parse_type(type_text)),), location, {"value": literal})

    def _generic(self, name: str, rest: str, location: Location) -> Operation:
        """`"tt.reduce"(%x) <{axis = 1 : i32}> ({ ... }) : (types) -> types`."""
        operands = self._values(rest.split(")", 1)[0])
        attributes = _attributes(re.search(r"<\{(.*?)\}>", rest)[1]) if "<{" in rest else {}  # type: ignore[index]
        regions: tuple[Region, ...] = ()
        if rest.endswith("({"):
            regions = (self._region([]),)
            rest, location = self._split_location(self._next())
        return Operation(name, operands, self._results(rest.split(" -> ")[-1]), location, attributes, (), regions)

    def _for(self, name: str, rest: str, location: Location) -> Operation:
        head, _, carried = rest.removesuffix("{").partition("iter_args(")
        induction, *bounds = _OPERAND.findall(head)
        pairs = _BINDING.findall(carried.partition(") -> ")[0])
        types = _unparenthesised(carried.partition(") -> ")[2].rpartition(" : ")[0]) if pairs else ""
        operands = tuple(self._look_up(b) for b in bounds) + tuple(self._look_up(init) for _, init in pairs)
        words = ("unsigned",) if "unsigned" in head.split() else ()
        self._scopes.append({})
        arguments = [self._new(operands[0].type)] + [self._new(v.type) for v in operands[3:]]
        for printed, value in zip([induction, *(p for p, _ in pairs)], arguments):
            self._scopes[-1][printed] = value
        region = self._region(arguments)
        self._scopes.pop()
        location = self._close(location)
        return Operation(name, operands, self._results(types), location, {}, words, (region,))

    def _if(self, name: str, rest: str, location: Location) -> Operation:
        condition, _, types = rest.removesuffix("{").partition(" -> ")
        then = self._region([])
        regions = [then]
        if self._lines[self._at].startswith("} else {"):
            self._at += 1
            regions.append(self._region([]))
        location = self._close(location)
        return Operation(name, self._values(condition), self._results(types), location, {}, (), tuple(regions))

    def _while(self, name: str, rest: str, location: Location) -> Operation:
        carried, _, types = rest.removesuffix("{").partition(" : ")
        pairs = _BINDING.findall(carried)
        operands = tuple(self._look_up(init) for _, init in pairs)
        self._scopes.append({})
        arguments = [self._new(v.type) for v in operands]
        for (printed, _), value in zip(pairs, arguments):
            self._scopes[-1][printed] = value
        before = self._region(arguments)
        self._scopes.pop()
        self._at += 1  # `} do {`
        after = self._region([])
        location = self._close(location)
        return Operation(name, operands, self._results(types.split(" -> ")[-1]), location, {}, (), (before, after))

    def _branch(self, name: str, rest: str, location: Location) -> Operation:
        successors = tuple((int(label[2:]), self._values(values)) for label, values in _SUCCESSOR.findall(rest))
        return Operation(name, self._values(rest.split("^")[0]), (), location, successors=successors)

    def _close(self, location: Location) -> Location:
        """Read `} loc(...)`; a region's location stands behind its end."""
        line = self._next()
        return self._split_location(line)[1] if " loc(" in line else location


_READERS = {
    "arith.constant": _Parser._constant,
    "scf.for": _Parser._for,
    "scf.if": _Parser._if,
    "scf.while": _Parser._while,
    "cf.br": _Parser._branch,
    "cf.cond_br": _Parser._branch,
    "tt.call": _Parser._call,
    "tt.elementwise_inline_asm": _Parser._assembly,
    "tt.assert": _Parser._message,
    "tt.print": _Parser._message,
    "tt.dot_scaled": _Parser._dot_scaled,
}


# -- text ------------------------------------------------------------------------------------------------------


def _brackets(text: str) -> Iterator[tuple[int, str, int]]:
    """Each bracket, comma, colon with the depth of the brackets around it; the `>` of an arrow is none."""
    depth = 0
    for match in _MARK.finditer(text):
        i, char = match.start(), match[0]
        closes = char in ")]}" or (char == ">" and text[i - 1] != "-")
        depth -= closes
        yield i, char, depth
        depth += char in "([{<"


def _split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket."""
    parts, start = [], 0
    for i, char, depth in _brackets(text):
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def _unparenthesised(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _split_types(text: str) -> tuple[str, str]:
    """Split `operands : types` at the first ` : ` outside brackets."""
    for i, char, depth in _brackets(text):
        if char == ":" and depth == 0 and text[i - 1 : i + 2] == " : ":
            return text[:i].strip(), text[i + 1 :].strip()
    return text.strip(), ""


def _split_attributes(text: str) -> tuple[str, dict[str, object]]:
    for i, char, depth in _brackets(text):
        if char == "{" and depth == 0:
            return text[:i], _attributes(text[i + 1 : text.rindex("}")])
    return text, {}


def _until_attributes(text: str) -> str:
    return text.split(" {")[0].split(" loc(")[0].rstrip(" ,")


def _attributes(text: str) -> dict[str, object]:
    """`axis = 1 : i32, order = array<i32: 1, 0>, fast` -> {"axis": 1, "order": (1, 0), "fast": True}."""
    found: dict[str, object] = {}
    for part in _split(text):
        key, equals, value = part.partition(" = ")
        if key:
            found[key] = _attribute(value) if equals else True
    return found


def _attribute(text: str) -> object:
    if match := re.match(r"^(-?\d+)(?: : \w+)?$", text):
        return int(match[1])
    if match := re.match(r"^array<\w+(?:: (.*))?>$", text):
        return tuple(int(n) for n in (match[1] or "").split(", ") if n)
    if text in ("true", "false"):
        return text == "true"
    return text.strip('"')
