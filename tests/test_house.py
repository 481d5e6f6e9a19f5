"""The house itself: packaging, style, who imports whom, what may stand where."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="Python 3.10 has no TOML reader")

ROOT = Path(__file__).parent.parent
ROOMS = ("edgepose", "converters", "runtimes")
SOURCES = sorted(p for room in ROOMS for p in (ROOT / room).rglob("*.py"))


def test_every_package_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(settings["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in SOURCES if p.name == "__init__.py"}
    renamed = {re.sub(r"^(converters|runtimes)", r"edgepose_\1", name) for name in found}
    assert listed == renamed


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\s<>=!\[;~]", d)[0] for group in groups for d in group} - {"edgepose"}
    text = (ROOT / "docs" / "dependencies.md").read_text()
    assert [n for n in sorted(names) if not re.search(rf"\b{re.escape(n)}\b", text)] == []


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join
)
def test_style_and_types(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def imported(path: Path) -> set[str]:
    """Absolute names of what a module imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names.add(".".join((*base, *(node.module or "").split("."))).strip("."))
    return names


def test_the_core_imports_no_plugin_and_plugins_do_not_import_each_other() -> None:
    for path in SOURCES:
        room = path.relative_to(ROOT).parts[0]
        others = {"converters", "runtimes", "edgepose_converters", "edgepose_runtimes"} - {room}
        wrong = {n for n in imported(path) if n.split(".")[0] in others}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_imports_run_one_way() -> None:
    lower = {
        "edgepose.spec": ("edgepose.errors", "edgepose.keypoints"),
        "edgepose.keypoints": ("edgepose.errors",),
        "edgepose.errors": (),
    }
    for module, allowed in lower.items():
        path = ROOT / (module.replace(".", "/") + ".py")
        own = {n for n in imported(path) if n.startswith("edgepose")}
        assert own <= set(allowed)
    for path in SOURCES:
        if path.relative_to(ROOT).parts[:2] != ("edgepose", "cli") and path.name != "__main__.py":
            assert not any(n.startswith("edgepose.cli") for n in imported(path)), path


def test_no_vendor_outside_their_rooms() -> None:
    vendors = re.compile(r"\b(nvidia|tensorrt|cuda|jetson|ascend|huawei|davinci|iluvatar|ixrt|mr-v100)", re.IGNORECASE)
    # PyTorch's file format has names of devices in it.
    allowed = {ROOT / "edgepose" / "devices.py", ROOT / "edgepose" / "checkpoints" / "pickle_records.py"}
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] == "edgepose" and path not in allowed:
            code = "\n".join(_code_lines(path))
            assert not vendors.search(code), f"{path.relative_to(ROOT)} names {vendors.search(code)}"


def _code_lines(path: Path) -> list[str]:
    """Source without docstrings and comments: what the code does, not what it explains."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).splitlines()


def test_readme_begins_with_the_two_commands() -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks[:2]] == ["sh", "sh"]
    assert "edgepose run examples/" in blocks[0][1]
    assert "pytest" in blocks[1][1]
