"""What the README says of the code is true of the code."""

import importlib
import re
import subprocess

import numpy as np
import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [page for page in ROOT.rglob("*.md") if not {".venv", "runs", ".kit"} & set(page.relative_to(ROOT).parts)]


def numstat(old, new):
    command = ["git", "diff", "--no-index", "--numstat", old, new]
    added, dropped, _ = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split("\t")
    return f"+{added} −{dropped}"


@pytest.mark.parametrize("script", ["grpo", "grpo_n", "gspo_n", "guide_grpo", "guide_ppo"])
def test_table_and_picture_of_the_ladder(script):
    lines, changed = re.search(rf"^\| `{script}.py` \| (\d+) \| ([^|]*) \|", README, re.MULTILINE).groups()
    assert int(lines) == len((ROOT / f"{script}.py").read_text().splitlines())
    if script != "grpo":
        parent = re.search(r"from `(\w+).py`", changed)[1]
        assert changed == f"{numstat(f'{parent}.py', f'{script}.py')} from `{parent}.py`"
        picture = re.search(rf'    {parent} -- "([^"]*)" --> {script}\n', README)[1]
        assert picture.removesuffix(" lines") == numstat(f"{parent}.py", f"{script}.py")


def test_the_lines_of_code_that_are_the_algorithm_are_in_its_script():
    sections = re.findall(r"^### [^\n]*\(`(\w+\.py)`.*?```python\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    assert len(sections) == 5
    for script, code in sections:
        source = [line.strip() for line in (ROOT / script).read_text().splitlines()]
        assert all(line in source for line in code.splitlines()), script


def test_the_fork_is_what_the_readme_says(tmp_path, monkeypatch):
    source = (ROOT / "grpo.py").read_text()
    for hunk in re.search(r"```diff\n(.*?)```", README, re.DOTALL)[1].split("@@\n")[1:]:
        old, new = ("".join(line[1:] for line in hunk.splitlines(True) if line[0] == sign) for sign in "-+")
        assert source.count(old) == 1
        source = source.replace(old, new)
    (tmp_path / "dr_grpo.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    dr_grpo = importlib.import_module("dr_grpo")
    assert dr_grpo.advantages(np.array([1.0, 0, 0, 0])).tolist() == [0.75, -0.25, -0.25, -0.25]
    assert dr_grpo.Args("model", "dataset").loss_norm == "constant"


def test_flags_of_commands_exist():
    commands = re.findall(r"^ {4}(?:python|torchrun.*?)\s(\w+(?:/\w+)?\.py) ((?:.*\\\n)*.*)", README, re.MULTILINE)
    assert len(commands) > 8
    for script, flags in commands:
        source = (ROOT / script).read_text()
        for flag in re.findall(r"--([a-z-]+)", flags):
            assert re.search(rf"\b{flag.replace('-', '_')}: ", source), f"{script} --{flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    slug = lambda title: re.sub(r"[^\w -]", "", title.lower().strip()).replace(" ", "-")
    anchors = {slug(title) for title in re.findall(r"^#+ (.*)", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (page.parent / target.partition("#")[0]).exists(), target
