"""Every sentence with which the package refuses something, read off its source, class by class."""

import ast
import html
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "dspa_nn"
GAP = "…"


class Sentence(NamedTuple):
    text: str
    file: str


def sentences() -> dict[str, list[Sentence]]:
    """Class of error -> what it says; a gap stands for what the code fills in."""
    classes = error_classes()
    found: dict[str, dict[str, Sentence]] = defaultdict(dict)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            kind, told = called, node.args[0]
            if called == "refuse" and len(node.args) > 1 and isinstance(node.args[0], ast.Name):
                kind, told = node.args[0].id.replace("Refusal", "Error"), node.args[1]
            if kind in classes and (text := words(told)):
                text = " ".join(text.split())
                if len(text.replace(GAP, "").split()) > 2:
                    found[kind].setdefault(text, Sentence(text, str(path.relative_to(PACKAGE))))
    return {name: sorted(found[name].values()) for name in classes if name in found}


def error_classes() -> dict[str, str]:
    """Name -> first line of its docstring, in the order of errors.py."""
    tree = ast.parse((PACKAGE / "errors.py").read_text())
    return {
        node.name: (ast.get_docstring(node) or "").split("\n")[0]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }


def words(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        parts = (words(part) if isinstance(part, ast.Constant) else GAP for part in node.values)
        return re.sub(f"{GAP}(?:{GAP})+", GAP, "".join(parts))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (words(node.left) or GAP) + (words(node.right) or GAP)
    return ""


def errors_page() -> str:
    lines: list[str] = []
    for name, told in sentences().items():
        lines += [f"## {name} {{#{name.lower()}}}", "", error_classes()[name], ""]
        for number, each in enumerate(told, 1):
            text = html.escape(each.text, quote=False).replace("{", "&#123;").replace("}", "&#125;")
            text = re.sub(r"([*_`|\[\]~^])", r"\\\1", text)
            where = f"`{each.file}`{{ .said-in }}"
            lines.append(f'- <a id="{name.lower()}-{number}"></a>{text} {where}')
        lines.append("")
    return "\n".join(lines)
