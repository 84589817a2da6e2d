"""Keeps the README true: every shown output is what the command above it prints.

    python tests/readme.py [--write] [COMMAND]

An output follows a comment `<!-- output of: COMMAND -->`, a table one that says `table of`. Times differ from run to
run, and are not compared. With a COMMAND, its output alone is looked at.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from fp4guard.files import write_atomically
from fp4guard.ttir.compiler import VERSION

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

_OUTPUT = re.compile(r"<!-- output of: (?P<command>[^\n]*) -->\n```\n(?P<shown>.*?)```\n", re.S)
_TABLE = re.compile(r"<!-- table of: (?P<command>[^\n]*) -->\n(?P<shown>.*?)<!-- end of the table -->\n", re.S)
_FILE = re.compile(r"<!-- file: (?P<name>[^\n]*) -->\n```python\n(?P<text>.*?)```\n", re.S)
_TIME = re.compile(r"\d+(\.\d+)? s\b")
_COLUMN = re.compile(r"(?<=\.py:)(\d+):\d+")

#: Benchmarks print other figures each time; all defects together take a quarter of an hour, and are nightly's.
_NOT_COMPARED = ("tests/bench_interpreter.py", "fp4guard bench", "--markdown")


def outputs() -> list[re.Match[str]]:
    """Each shown output and table; `command` and `shown` are its groups."""
    text = README.read_text()
    return [*_OUTPUT.finditer(text), *_TABLE.finditer(text)]


def run(command: str) -> str:
    """What a command prints, with the README's files in the folder it runs in; of a failed assertion, what it says.

    The included kernels show as a user who stands in the project's folder sees them.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in _FILE.finditer(README.read_text()):
            (Path(folder) / file["name"]).write_text(file["text"])
        words = shlex.split(command)
        script = ["-m", "fp4guard.cli"] if words[0] == "fp4guard" else [_script(words.pop(1), Path(folder))]
        program = [sys.executable, *script, *words[1:]]
        done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False)
        failure = done.stderr.find("AssertionError: ")
        printed = done.stdout.replace(f"{ROOT}/", "") + (done.stderr[failure:] if failure >= 0 else "")
    prompt = "" if words[0] == "python" or "--markdown" in words else f"$ {command}\n"
    return prompt + printed


def _script(name: str, folder: Path) -> str:
    """A script that the README shows, or one of the project's."""
    return str(folder / name if (folder / name).exists() else ROOT / name)


def comparable(text: str) -> str:
    """A text without its times; and without columns where Triton, before 3.8, has others."""
    timeless = _TIME.sub("N s", text).strip()
    return timeless if VERSION >= (3, 8) else _COLUMN.sub(r"\1", timeless)


def compared(command: str) -> bool:
    """Whether a command prints the same each time."""
    return not any(name in command for name in _NOT_COMPARED)


def block(output: re.Match[str], printed: str) -> str:
    """The README's text for what a command prints now."""
    if output.re is _TABLE:
        return f"<!-- table of: {output['command']} -->\n{printed}<!-- end of the table -->\n"
    return f"<!-- output of: {output['command']} -->\n```\n{printed}```\n"


def main() -> None:
    wanted = [word for word in sys.argv[1:] if word != "--write"]
    text = README.read_text()
    for output in outputs():
        if wanted and output["command"] not in wanted:
            continue
        printed = run(output["command"])
        if comparable(printed) != comparable(output["shown"]):
            print(f"not as shown: {output['command']}")
            text = text.replace(output[0], block(output, printed))
    if "--write" in sys.argv:
        write_atomically(README, text)
    elif text != README.read_text():
        sys.exit(1)


if __name__ == "__main__":
    main()
