"""Text of a module -> SSA: of TTIR, or of the TTGIR that Gluon kernels are compiled to.

MLIR prints one operation a line and a region's braces at line ends, so the parser reads lines: what an operation
refers to, its attributes, its bare words and its types follow one grammar for nearly all operations. Those with a
grammar of their own (loops, branches, generic form) have a method each. Nothing is skipped: a line that fits no
grammar is an error that quotes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import UnsupportedError
from .expand import expand
from .ir import Block, Function, Location, Operation, Region, Type, Value
from .locations import Locations, call_within, unescaped
from .text import parse_attributes, split, split_attributes, split_types, unparenthesised, until_attributes
from .types import layout_aliases, parse_type

_RESULTS = re.compile(r"^(%[\w$.-]+(?::\d+)?(?:, %[\w$.-]+(?::\d+)?)*) = ")
_OPERAND = re.compile(r"%[\w$.-]+(?:#\d+)?")
_ARGUMENT = re.compile(r"(%[\w$.-]+): ([^%]+?)(?: \{[^%]*?\})?(?: loc\([^%]*)?(?=,? ?%|$)")
_BINDING = re.compile(r"(%[\w$.-]+) = (%[\w$.-]+(?:#\d+)?)")
_SUCCESSOR = re.compile(r"\^(bb\d+)(?:\(([^:()]*) : [^)]*\))?")
_ROLE = re.compile(r"(\w+) = \[([^\]]*)\]|(?:(\w+)(?: =)? )?%[\w$.-]+(?:#\d+)?")
_OFFSETS = re.compile(r"\[(-?\d+(?:, -?\d+)*)\]")
_NAME = re.compile(r'^"?([a-z_]+\.[\w.]+)"?')
_SYMBOL = re.compile(r'@("(?:[^"\\]|\\.)*"|[\w$.-]+)')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_INLINE = re.compile(r'constraints = "([^"]*)", packed_element = (\d+) : i32, pure = (\w+)')
_TARGET = re.compile(r'ttg\.target = "([^"]*)"')
_SCALED = re.compile(r"%\S+?( scale %\S+?)?, %\S+?( scale %\S+?)?, ")

#: Operations whose printed type is not their result's: how the result's type follows from the operands.
_RESULT_RULES: dict[str, Callable[[list[Type], str], Type]] = {
    "arith.cmpi": lambda types, printed: types[0].with_element("i1"),
    "arith.cmpf": lambda types, printed: types[0].with_element("i1"),
    "arith.select": lambda types, printed: types[1],
    "tt.addptr": lambda types, printed: types[0],
    "tt.load": lambda types, printed: types[0].with_element(types[0].pointee or ""),
    "tt.get_num_programs": lambda types, printed: Type("i32"),
    "tt.make_tensor_descriptor": lambda types, printed: parse_type("!tt.tensordesc" + split(printed)[-1]),
}

#: Operations with two results of one type, which is printed once.
_TWO_RESULTS = ("tt.split", "arith.mulsi_extended", "arith.mului_extended")

#: Operations whose result, if they print one, says only that they have begun: it has no printed type.
_TOKENS = (
    "amdg.async_copy_local_to_global",
    "amdg.async_tdm_copy_global_to_local",
    "amdg.async_tdm_copy_local_to_global",
    "amdg.async_tdm_intrinsic_wait",
    "amdg.async_tdm_wait",
    "amdg.async_wait",
    "amdg.buffer_load_to_local",
    "ttg.async_commit_group",
    "ttg.async_copy_global_to_local",
    "ttg.async_wait",
    "ttng.tc_gen5_mma",
    "ttng.tc_gen5_mma_scaled",
)

#: The dialects of TTGIR, whose operations say with words what some of their operands are.
_GPU_DIALECTS = ("amdg.", "ttg.", "ttng.")


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
        self._aliases = layout_aliases(text)
        target = _TARGET.search(text)
        self._target = target[1] if target else ""
        self._types: dict[str, Type] = {}
        self._scopes: list[dict[str, Value]] = [{}]
        self._count = 0

    def module(self) -> Function:
        heads = [i for i, line in enumerate(self._lines) if line.startswith("tt.func ")]
        functions = [self._function(at) for at in heads]
        kernel = next(f for f, at in zip(functions, heads) if not self._lines[at].startswith("tt.func private"))
        kernel.callees = {f.name: f for f in functions if f is not kernel}
        kernel.value_count = self._count
        expand(kernel, zero_fill=self._target.startswith("cuda"))
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
        if names and name.endswith("_alloc"):
            op.attributes["name"] = _source_name(names[0])
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

    def _type(self, text: str) -> Type:
        found = self._types.get(text)
        if found is None:
            found = self._types[text] = parse_type(text, self._aliases)
        return found

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
            value = self._new(self._type(until_attributes(type_text)))
            self._scopes[-1][name] = value
            values.append(value)
        return values

    def _results(self, types: str) -> tuple[Value, ...]:
        return tuple(self._new(self._type(t)) for t in split(unparenthesised(types)) if t)

    # -- grammars ----------------------------------------------------------------------------------------------

    def _plain(self, name: str, rest: str, location: Location, has_result: bool) -> Operation:
        """`name operands words {attributes} : types`, which is how most operations print.

        Of TTGIR's own, the attribute `roles` holds the word before each operand (`mask %2`, `stride = %3`,
        `set_bounds = [%4, %5]`), empty where there is none, and `offsets` integers in square brackets.
        """
        if rest.endswith("{"):
            raise UnsupportedError(name, self._end_of_regions(1))
        body, types = split_types(rest)
        body, attributes = split_attributes(body)
        operands = self._values(body)
        words = tuple(w for w in re.split(r"[\s,=]+", _OPERAND.sub(" ", body)) if w)
        results: tuple[Value, ...] = ()
        if has_result:
            rule = _RESULT_RULES.get(name)
            if name in _TOKENS:
                results = (self._new(Type("token")),)
            elif rule is not None:
                results = (self._new(rule([v.type for v in operands], types)),)
            else:
                arrow = re.split(r" -> | to ", types)
                results = self._results(arrow[-1])
                if name in _TWO_RESULTS:
                    results += self._results(arrow[-1])
        if name.startswith(_GPU_DIALECTS):
            attributes["roles"] = _roles(body)
            if literal := _OFFSETS.search(body):
                attributes["offsets"] = tuple(int(n) for n in literal[1].split(", "))
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
        operands, _, results = rest[options.end() :].rpartition(" -> ")
        attributes = {
            "code": unescaped(code[1]),
            "constraints": tuple(options[1].split(",")),
            "packed": int(options[2]),
            "pure": options[3] == "true",
        }
        values = self._values(operands.partition(" : ")[0])  # of which there may be none
        return Operation(name, values, self._results(results), location, attributes)

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
        return Operation(name, (), (self._new(self._type(type_text)),), location, {"value": literal})

    def _generic(self, name: str, rest: str, location: Location) -> Operation:
        """`"tt.reduce"(%x) <{axis = 1 : i32}> ({ ... }) : (types) -> types`."""
        operands = self._values(rest.split(")", 1)[0])
        properties = re.search(r"<\{(.*?)\}>", rest.partition(" : (")[0])
        attributes = parse_attributes(properties[1]) if properties is not None else {}
        regions: tuple[Region, ...] = ()
        if rest.endswith("({"):
            regions = (self._region([]),)
            rest, location = self._split_location(self._next())
        return Operation(name, operands, self._results(rest.split(" -> ")[-1]), location, attributes, (), regions)

    def _for(self, name: str, rest: str, location: Location) -> Operation:
        head, _, carried = rest.removesuffix("{").partition("iter_args(")
        induction, *bounds = _OPERAND.findall(head)
        pairs = _BINDING.findall(carried.partition(") -> ")[0])
        types = unparenthesised(carried.partition(") -> ")[2].rpartition(" : ")[0]) if pairs else ""
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

    def _execute(self, name: str, rest: str, location: Location) -> Operation:
        """`scf.execute_region no_inline -> types {`: a block that runs where it stands."""
        types = rest.removesuffix("{").replace(" no_inline", "").partition(" -> ")[2]
        region = self._region([])
        location = self._close(location)
        return Operation(name, (), self._results(types), location, {}, (), (region,))

    def _unknown_regions(self, name: str, rest: str, location: Location) -> Operation:
        raise UnsupportedError(name, call_within(self._end_of_regions(0), name.partition(".")[2]))

    def _end_of_regions(self, depth: int) -> Location:
        """The location of an operation whose regions cannot be read: it stands behind the last of them. `depth` of them
        are open.
        """
        for line in self._lines[self._at :]:
            depth -= line.startswith("}")
            if depth == 0 and line.startswith("}") and " loc(" in line:
                return self._split_location(line)[1]
            depth += line.endswith("{")
        return self._locations["unknown"]

    def _branch(self, name: str, rest: str, location: Location) -> Operation:
        successors = tuple((int(label[2:]), self._values(values)) for label, values in _SUCCESSOR.findall(rest))
        return Operation(name, self._values(rest.split("^")[0]), (), location, successors=successors)

    def _close(self, location: Location) -> Location:
        """Read `} loc(...)`; a region's location stands behind its end."""
        line = self._next()
        return self._split_location(line)[1] if " loc(" in line else location


def _roles(body: str) -> tuple[str, ...]:
    roles: list[str] = []
    for match in _ROLE.finditer(body):
        roles += [match[1]] * match[2].count("%") if match[1] else [match[3] or ""]
    return tuple(roles)


def _source_name(printed: str) -> str:
    """The variable that a value was first assigned to, as far as MLIR knows it: `%tiles_3` -> `tiles`; else empty."""
    name = re.sub(r"_\d+$", "", printed.removeprefix("%"))
    return "" if name.isdigit() or name == "cst" else name


_READERS = {
    "arith.constant": _Parser._constant,
    "scf.execute_region": _Parser._execute,
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
    "ttg.warp_specialize": _Parser._unknown_regions,
}
