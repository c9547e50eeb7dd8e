"""What README.md and docs/ say of the code is true of the code."""

import ast
import dataclasses
import importlib
import itertools
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, TOY
from test_runs import command_line

import grpo
import grpo_n
import gspo_n
import guide_grpo
import guide_ppo

README = (ROOT / "README.md").read_text()
DOCS = {page.stem: page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))}
LESSON = {"README": README} | DOCS
PAGES = [page for page in ROOT.rglob("*.md") if not {".venv", "runs", ".kit"} & set(page.relative_to(ROOT).parts)]
SCRIPTS = {"grpo": None, "grpo_n": grpo, "gspo_n": grpo, "guide_grpo": grpo, "guide_ppo": guide_grpo}  # and parents
MODULES = dict(grpo=grpo, grpo_n=grpo_n, gspo_n=gspo_n, guide_grpo=guide_grpo, guide_ppo=guide_ppo)


def tables(page):
    """Each table of a page as a list of rows, a row as a dictionary from its header."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", LESSON[page] + "\n", re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def flag(name):
    return "--" + name.replace("_", "-")


def numstat(old, new):
    command = ["git", "diff", "--no-index", "--numstat", old, new]
    added, dropped, _ = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.split("\t")
    return f"+{added} −{dropped}"


# ----------------------------------------------------------------------------------------- lengths, links, code, flags


@pytest.mark.parametrize("page", LESSON)
def test_a_page_is_read_in_one_sitting(page):
    text = LESSON[page]
    assert text.count("\n") <= (170 if page == "README" else 199)
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120
    if page != "README":
        assert f"docs/{page}.md" in README


@pytest.mark.parametrize("script", SCRIPTS)
def test_table_and_picture_of_the_ladder(script):
    lines, changed = re.search(rf"^\| `{script}.py` \| (\d+) \| ([^|]*) \|", README, re.MULTILINE).groups()
    assert int(lines) == len((ROOT / f"{script}.py").read_text().splitlines())
    if script != "grpo":
        parent = re.search(r"from `(\w+).py`", changed)[1]
        assert changed == f"{numstat(f'{parent}.py', f'{script}.py')} from `{parent}.py`"
        picture = re.search(rf'    {parent} -- "([^"]*)" --> {script}\n', README)[1]
        assert picture.removesuffix(" lines") == numstat(f"{parent}.py", f"{script}.py")


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_lines_of_code_that_are_the_algorithm_are_in_its_script(script):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS[script], re.DOTALL)
    source = [line.strip() for line in (ROOT / f"{script}.py").read_text().splitlines()]
    assert all(line in source for line in code.splitlines())


def test_flags_of_commands_exist():
    pattern = r"^ {4}(?:python|torchrun.*?)\s(\w+(?:/\w+)?\.py) ((?:.*\\\n)*.*)"
    commands = [found for text in LESSON.values() for found in re.findall(pattern, text, re.MULTILINE)]
    assert len(commands) > 15
    for script, flags in commands:
        source = (ROOT / script).read_text()
        for name in re.findall(r"--([a-z-]+)", flags):
            assert re.search(rf"\b{name.replace('-', '_')}: ", source), f"{script} --{name}"


OTHERS = {"--shutdown-timeout", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint",  # torchrun's
          "--no-index", "--slow"}  # git's and pytest's


@pytest.mark.parametrize("page", LESSON)
def test_flags_in_the_text_exist(page):
    files = [*ROOT.glob("*.py"), *ROOT.glob("theory/*.py"), *ROOT.glob("benchmarks/*.py")]
    source = "\n".join(file.read_text() for file in files)
    for name in {name for name in re.findall(r"(?<![\w-])--[a-z][a-z-]*", LESSON[page])} - OTHERS:
        plain = name.removeprefix("--").removeprefix("no-").replace("-", "_")
        assert re.search(rf"\b{plain}: |{name}\b", source), name


def test_every_flag_of_an_algorithm_is_on_its_page():
    for script, parent in SCRIPTS.items():
        fields = {field.name: field.default for field in dataclasses.fields(MODULES[script].Args)}
        if parent:
            theirs = {field.name: field.default for field in dataclasses.fields(parent.Args)}
            own = [name for name, default in fields.items() if name not in theirs or theirs[name] != default]
        else:
            names = list(fields)
            own = names[names.index("steps") : names.index("temperature") + 1]
        (table,) = [rows for rows in tables(script) if "flag" in rows[0]]
        said = {row["flag"].strip("`"): row["default"] for row in table}
        assert said == {flag(name): str(fields[name]) for name in own}, script


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    slug = lambda title: re.sub(r"[^\w -]", "", title.lower().strip()).replace(" ", "-")
    anchors = lambda file: {slug(title) for title in re.findall(r"^#+ (.*)", file.read_text(), re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def test_figures_with_a_spread_are_those_of_a_committed_table():
    committed = "\n".join(page.read_text() for page in (ROOT / "results").rglob("*.md"))
    for page, text in LESSON.items():
        for figure in re.findall(r"-?\d[\d.]* ± \d[\d.]*\d", text):
            assert figure in committed, f"{page}: {figure}"


# ------------------------------------------------------------------------------------------------ examples in numbers


def example(script, number=0):
    """Columns of a page's table of numbers, as lists of texts."""
    rows = [rows for rows in tables(script) if "response" in rows[0] or "V_old" in rows[0]][number]
    return {name: [row[name] for row in rows] for name in rows[0]}


def numbers(column):
    return [[float(x) for x in cell.split(",")] for cell in column]


def terms(module, logratios, advantage, *extra):
    """Mean over tokens of −policy_loss and its derivative by each log-prob, of one response."""
    logprobs = torch.tensor([logratios], requires_grad=True)
    zeros, mask = torch.zeros(logprobs.shape), torch.ones(logprobs.shape, dtype=torch.bool)
    args = module.Args(**TOY | extra[-1] if extra else TOY)
    loss, _ = module.policy_loss(logprobs, zeros, zeros + advantage, mask, *extra[:-1], args)
    (-loss.mean()).backward()
    return -loss.mean().item(), logprobs.grad[0].tolist()


def same(said, computed, digits=3):
    assert said == [f"{round(x, digits) + 0.0:.{digits}f}" for x in computed]


def test_example_of_grpo():
    page = example("grpo")
    w = [float(x) for x in page["w"]]
    advantages = grpo.advantages(np.array([float(r) for r in page["r"]]))
    same(page["A"], advantages)
    same(page["clipped w"], [min(max(x, 1 - grpo.Args.clip_low), 1 + grpo.Args.clip_high) for x in w], 2)
    found = [terms(grpo, [np.log(x)], A) for x, A in zip(w, advantages)]
    same(page["term"], [term for term, _ in found])
    same(page["gradient"], [gradient[0] for _, gradient in found])
    assert f"{grpo.advantages(np.eye(8)[0])[0]:.3f}" in DOCS["grpo"]  # one of eight


def test_example_of_grpo_n():
    page = example("grpo_n")
    rewards = np.array([float(r) for r in page["r"]])
    for weight in ("1", "0.1", "0"):
        same(page[f"A⁻ at λ = {weight}"], grpo_n.advantages(rewards, float(weight)))
    found = [terms(grpo_n, [np.log(float(w))], A) for w, A in zip(page["w"], grpo_n.advantages(rewards, 0.0))]
    same(page["term at λ = 0"], [term for term, _ in found])
    same(page["gradient at λ = 0"], [gradient[0] for _, gradient in found])
    assert f"A = {grpo_n.advantages(np.array([1.0, 1, 1, 0]), 0.0)[3]:.3f}" in DOCS["grpo_n"]


def test_example_of_gspo_n():
    page = example("gspo_n")
    advantages = gspo_n.advantages(np.array([float(r) for r in page["r"]]), gspo_n.Args.positive_weight)
    same(page["A⁻"], advantages)
    ratios = numbers(page["w of its tokens"])
    same(page["s"], [np.exp(np.log(w).mean()) for w in ratios], 4)
    found = [terms(gspo_n, np.log(w).tolist(), A) for w, A in zip(ratios, advantages)]
    same(page["term"], [term for term, _ in found])
    same(page["gradient, each token"], [gradient[0] for _, gradient in found])
    assert all(gradient[0] == pytest.approx(gradient[1]) for _, gradient in found)


def test_example_of_guide_grpo():
    page = example("guide_grpo")
    advantages = guide_grpo.advantages(np.array([float(r) for r in page["r"]]))
    same(page["A"], advantages)
    columns = {
        "gradient": {},
        "`--no-clip-guided`": dict(clip_guided=False),
        "`--no-guided-ratio`": dict(guided_ratio=False),
        "`--reshape constant --no-clip-guided`": dict(reshape="constant", clip_guided=False),
    }
    for name, flags in columns.items():
        gamma = guide_grpo.reshape_gamma(None, [], guide_grpo.Args(**TOY | flags))
        found = []
        for guided, w, A in zip(page["guided"], page["w"], advantages):
            guided = torch.tensor([[guided == "yes"]])
            found.append(terms(guide_grpo, [np.log(float(w))], A, guided, gamma, flags)[1][0])
        same(page[name], found)


def test_example_of_guide_ppo():
    page = example("guide_ppo")
    values, rewards = numbers(page["V before its tokens"]), [float(r) for r in page["r"]]
    critic = lambda ids, mask: torch.zeros(mask.shape).masked_scatter(mask, torch.tensor(sum(values, [])))
    problem = guide_ppo.Problem(0, "", [1, 2], [], "", "math", "")
    for weight, column in ((1.0, "Â at λ = 1"), (0.0, "Â at λ = 0")):
        group = [guide_ppo.Rollout(problem, [3, 4], [0.0, 0.0], "", False, reward=r) for r in rewards]
        guide_ppo.estimate(critic, [group], guide_ppo.Args(**TOY | dict(gae_lambda=weight)))
        raw = [[R - V for R, V in zip(r.returns, r.values)] for r in group]
        assert numbers(page[column]) == [pytest.approx(A, abs=5e-4) for A in raw]
        if weight == 1:
            assert numbers(page["A, whitened"]) == [pytest.approx(r.advantage, abs=5e-4) for r in group]
    page = example("guide_ppo", 1)
    for old, new, target, loss, gradient in zip(*page.values()):
        value = torch.tensor(float(new), requires_grad=True)
        old, target = torch.tensor(float(old)), torch.tensor(float(target))
        found = guide_ppo.value_loss(value, old, target, guide_ppo.Args(**TOY))
        found.backward()
        assert (loss, gradient) == (f"{found.item():.3f}", f"{value.grad.item():.3f}")


# ---------------------------------------------------------------------------------------------- exercises and details


def fork(number, folder, name):
    """A copy of grpo.py with the edit of an exercise in it."""
    source = (ROOT / "grpo.py").read_text()
    for hunk in re.findall(r"```diff\n(.*?)```", DOCS["exercises"], re.DOTALL)[number].split("@@\n")[1:]:
        for edit in re.findall(r"(?:^-.*\n)+(?:^\+.*\n)+", hunk, re.MULTILINE):
            old, new = ("".join(line[1:] for line in edit.splitlines(True) if line[0] == sign) for sign in "-+")
            assert source.count(old) == 1
            source = source.replace(old, new)
    (folder / f"{name}.py").write_text(source)


@pytest.mark.parametrize("number, name", [(0, "dr_grpo"), (1, "rloo")])
def test_the_forks_train(tmp_path, number, name):
    fork(number, tmp_path, name)
    small = dict(steps=1, problems=2, group_size=4, eval_problems=2, eval_samples=1, name="run")
    command = [sys.executable, f"{name}.py", *command_line(TOY | small)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "runs/run/step_000001/model.safetensors").exists()


def test_the_forks_are_what_the_exercises_say(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    fork(0, tmp_path, "dr_grpo")
    dr_grpo = importlib.import_module("dr_grpo")
    assert dr_grpo.advantages(np.array([1.0, 0, 0, 0])).tolist() == [0.75, -0.25, -0.25, -0.25]
    assert dr_grpo.Args("model", "dataset").loss_norm == "constant"
    fork(1, tmp_path, "rloo")
    rloo = importlib.import_module("rloo")
    args = rloo.Args("model", "dataset")
    assert (args.minibatches, args.loss_norm) == (1, "constant")
    assert rloo.advantages(np.array([1.0, 0, 0, 0])) == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    # its expected gradient, over all groups of three from a policy over three tokens, is that of the success rate
    logits, rewards = torch.tensor([0.5, -1.0, 0.2], requires_grad=True), np.array([1.0, 0, 1])
    logprobs, total = logits.log_softmax(-1), 0
    for group in itertools.product(range(3), repeat=3):
        members = list(group)
        taken = logprobs[members][:, None]
        advantage = torch.tensor(rloo.advantages(rewards[members]), dtype=torch.float32)[:, None]
        loss, _ = rloo.policy_loss(taken, taken.detach(), advantage, torch.ones(3, 1, dtype=torch.bool), args)
        total = total - taken.detach().exp().prod() * loss.mean()
    (gradient,) = torch.autograd.grad(total, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(logprobs.exp() @ torch.tensor(rewards, dtype=torch.float32), logits)
    assert torch.allclose(gradient, expected, atol=1e-6)


# ------------------------------------------------------------------------------------------------------- arithmetic


def test_arithmetic_of_scaling():
    """16 bytes a parameter in training, 12 + vLLM's 2 while sampling; 3 float32 copies of the weights on the wire."""
    estimates, memory, nodes = tables("scaling")
    for row in memory:
        P = float(row["parameters"].split()[0]) * 1e9
        gpus, tp = (int(re.search(r"\d+", row[name])[0]) for name in ("80-GiB GPUs, at least", "vLLM"))
        assert row["training, all GPUs"] == f"{16 * P / 2**30:.0f} GiB"
        sampling = (12 * P / gpus + 2 * P / tp) / 2**30
        assert row["per GPU: training / sampling"] == f"{16 * P / gpus / 2**30:.0f} / {sampling:.0f} GiB + cache"
    for row in estimates:
        P, rate = (1.54e9, 20_000) if row["recipe"].startswith("1.5B") else (7.62e9, 6_000)
        gpus, guided = int(row["GPUs"]), 1.5 if "guided" in row["tokens per step, assumed"] else 1
        tokens = int(re.search(r"× ([\d,]+)", row["tokens per step, assumed"])[1].replace(",", ""))
        sampling = 1024 * tokens * guided / rate / gpus
        training = 8 * P * 1024 * (tokens + 100) * guided / 350e12 / gpus
        assert (row["sampling"], row["training"]) == (f"{sampling:.0f} s", f"{training:.0f} s")
        assert row["200 steps"] == f"{(sampling + training) * 200 / 3600:.1f} h"
    said = {row.pop(""): row for row in nodes}
    for column in said["training memory per GPU"]:
        P, gpus = re.match(r"([\d.]+) B, (\d+) GPUs", column).groups()
        P, gpus = float(P) * 1e9, int(gpus)
        traffic = 12 * P * (gpus - 1) / gpus
        expected = {
            "training memory per GPU": f"{16 * P / gpus / 2**30:.0f} GiB",
            "traffic of a rank per micro-batch": f"{traffic / 1e9:.0f} GB",
            "at NVLink's 400 GB/s": f"{traffic / 400e9:.1f} s" if gpus == 8 else "–",
            "at PCIe's 25 GB/s": f"{traffic / 25e9:.1f} s" if gpus == 8 else "–",
            "at 50 GB/s between nodes": f"{traffic / 50e9:.1f} s" if gpus > 8 else "–",
            "8,192 tokens of training at 350 TFLOP/s": f"{8 * P * 8192 / 350e12:.1f} s",
            "full weights through a rank in a sync": f"{4 * P / 1e9:.0f} GB",
            "checkpoint on the disk": f"{12 * P / 1e9:.0f} GB",
        }
        assert {name: row[column] for name, row in said.items()} == expected


def test_what_a_language_model_learnt_is_what_the_table_says():
    table = (ROOT / "results/lm.md").read_text().partition("Seconds of a step")[0]
    rows = {cells[0]: cells[3:] for cells in (line[2:].split(" | ") for line in table.splitlines() if line[:2] == "| ")}
    last, pass_at_16, unparsed = 0, 3, 4
    said = (f"{rows['before training'][last]} before, {rows['GRPO'][last]} after GRPO, where guessing one of them is "
            f"{rows['chance'][last]}. At four times that learning rate it was {rows['GRPO-2e-5'][last]}")
    assert said in " ".join(README.split())
    assert rows["GRPO-3.2e-4"][unparsed] == "1.00"
    said = f"{rows['GRPO-8e-5'][pass_at_16]} against {rows['before training'][pass_at_16]}"
    assert f"fewer problems within 16 tries than before training, {said}" in DOCS["theory"]


def test_families_are_counted():
    rows = [re.findall(r"\d\.\de-\d\d", line) for line in open(ROOT / "results/families.md") if line.startswith("| ")]
    gaps = [[float(gap) for gap in row] for row in rows if row]
    same, total = sum(max(gap) < 3e-6 for gap in gaps), len(rows) - 2  # less the two of the header
    said = re.search(r"Of each of (\d+) families[^.]*:\n(\d+) had", DOCS["data-and-models"]).groups()
    assert (str(total), str(same)) == said


def test_steps_under_guidance_are_those_of_the_simulation():
    simulated = (ROOT / "results/theory/guide.md").read_text()
    (table,) = [rows for rows in tables("theory") if "token ratio" in rows[0]]
    for row in table:
        cells = re.search(rf"^\| {row['L']} \| (.*) \|$", simulated, re.MULTILINE)[1].split(" | ")
        assert [cell.split()[0] for cell in cells] == [row[name] for name in list(row)[1:]]
    rare = re.search(r"^\| 0.003 \| (.*) \|$", simulated, re.MULTILINE)[1].split(" | ")
    said = re.search(r"GRPO (\d+) steps, and (\d+) with a clipped ratio \((\d+) [^)]*\)\. Only weight 1 is fast: (\d+)",
                     DOCS["theory"]).groups()
    assert said == tuple(rare[i].split()[0] for i in (0, 2, 1, 4))


def test_details_name_functions_and_tests_that_exist():
    pattern = r"^(\d+)\. \*\*[^`]*?\n {4}`([\w.]+)(?:\(\))?` · `(\w+)`"
    rows = re.findall(pattern, DOCS["details"], re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1)) and len(rows) >= 30
    names, tests = set(), set()
    for files, found in ((ROOT.glob("*.py"), names), ((ROOT / "tests").glob("test_*.py"), tests)):
        for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
    for number, where, test in rows:
        assert set(where.split(".")) <= names and test in tests, number
