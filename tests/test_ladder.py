"""The scripts repeat each other on purpose. This keeps the copies equal, and the differences short and known."""

import ast

import pytest
from conftest import ROOT

# What a script changes in, adds to (+) or drops from (-) the script that it derives from. All else is byte-identical.
LADDER = {
    ("grpo.py", "grpo_n.py"): "Args advantages main",
    ("grpo.py", "gspo_n.py"): "Args advantages policy_loss main",
    ("grpo.py", "guide_grpo.py"):
        "Args Problem +add_hint prepare load_problems Rollout +guide policy_loss +reshape_gamma update "
        "collect main",
    ("guide_grpo.py", "guide_ppo.py"):
        "import Args Rollout +Critic collate -advantages +gae +estimate +value_loss update main",
}  # fmt: skip


def parts(script):
    """Name to source text of each top-level definition, in order; everything else but the docstring as `import`."""
    source = (ROOT / script).read_text()
    named, rest = {}, []
    for node in ast.parse(source).body[1:]:
        text = ast.get_source_segment(source, node)
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            named[node.name] = "\n".join(ast.unparse(d) for d in node.decorator_list) + "\n" + text
        else:
            rest.append(text)
    return {"import": "\n".join(rest)} | named


@pytest.mark.parametrize("parent, child", LADDER, ids=lambda name: name)
def test_copies_are_identical_except_where_the_algorithm_differs(parent, child):
    old, new = parts(parent), parts(child)
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    changed |= {f"+{name}" for name in new.keys() - old.keys()} | {f"-{name}" for name in old.keys() - new.keys()}
    assert changed == set(LADDER[parent, child].split())
    shared = [name for name in new if name in old]
    assert shared == [name for name in old if name in new]  # in the same order


def test_the_scripts_share_only_the_verifiers():
    for script in {script for arrow in LADDER for script in arrow}:
        imported = set()
        for node in ast.walk(ast.parse((ROOT / script).read_text())):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
        own = {path.stem for path in ROOT.glob("*.py")}
        assert imported & own == {"verifiers"}
