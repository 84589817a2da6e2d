import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("readme", Path(__file__).with_name("readme.py"))
readme = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readme)

OUTPUTS = {output["command"]: output["shown"] for output in readme.outputs()}


@pytest.mark.parametrize("command", [c for c in OUTPUTS if readme.compared(c)])
def test_output_is_what_the_command_prints(command):
    assert readme.comparable(OUTPUTS[command]) == readme.comparable(readme.run(command))


def test_first_screen_has_the_two_commands():
    first_screen = readme.README.read_text().split("## ")[0]
    commands = [line.strip() for line in first_screen.splitlines() if line.startswith("    ")]
    assert commands == ['pip install -e ".[test]" -c constraints.txt && fp4guard fuzz', "pytest -n auto"]
