"""Benches and examples import what the packages have: nobody runs all of them."""

import ast
import importlib.util


def test_scripts_beside_the_packages_import_what_is_there(repository):
    scripts = [*(repository / "bench").glob("*.py"), *(repository / "examples").glob("*.py")]
    assert scripts
    for path in [*scripts, repository / "docs" / "draw.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith(("hvlabel", "hvtrain")):
                continue
            module = importlib.import_module(node.module)
            for alias in node.names:
                known = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert known, f"{path.name}: {node.module} has no {alias.name}"
