"""report.py on a real run, in a real browser where there is one."""

import html
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import tyro
from conftest import ROOT
from test_runs import run
from tokenizers import Tokenizer, decoders, models

import guide_grpo
import report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("report")
    run("guide_grpo.py", cwd, steps=4, problems=8, minibatches=2, eval_problems=9, eval_samples=1)
    write(cwd / "runs/run")
    return cwd / "runs/run"


def write(*arguments):
    done = subprocess.run([sys.executable, ROOT / "report.py", *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def data(page):
    return json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def look(page, at="", script=""):
    """The page as the browser shows it, after `script` has run in it as well, and what it had to complain of."""
    copy = page.with_name("copy.html")
    copy.write_text(page.read_text() + (f"<script>{script}</script>" if script else ""))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run([*command, f"file://{copy}#{at}"], capture_output=True, text=True, timeout=120)
    dom = done.stdout.partition("<script>")[0]
    return dom, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def shown(dom, name):
    """The text of an element."""
    inside = re.search(rf'id="{name}"[^>]*>(.*?)</(?:pre|b|tbody)>', dom, re.DOTALL)[1]
    return html.unescape(re.sub("<.*?>", "", inside, flags=re.DOTALL))


def test_weights_are_the_gradient_of_the_loss_that_trained(folder):
    flags = json.loads((folder / "args.json").read_text())
    args = guide_grpo.Args(**{name: value for name, value in flags.items() if name != "script"})
    groups, pushed = data(folder / "report.html")[0]["groups"], 0
    assert [group["step"] for group in groups] == [1, 2, 3, 4]
    for group in groups:
        advantages, weights = group["objectives"]["guide_grpo.py, as run"]
        kept = [{key: value for key, value in r.items() if key not in ("step", "pieces")} for r in group["responses"]]
        rollouts = [guide_grpo.Rollout(**r | {"problem": guide_grpo.Problem(**r["problem"])}) for r in kept]
        _, mask, old, A = guide_grpo.collate(rollouts)
        new = old.clone()
        for row, here, r in zip(new, mask, group["responses"]):
            row[here] = torch.tensor(r["trainer_logprobs"] or r["logprobs"])
        new.requires_grad_()
        guided = torch.tensor([[r.guided] for r in rollouts])
        loss, _ = guide_grpo.policy_loss(new, old, A, mask, guided, 0.0, args)
        (loss * mask / mask.sum(-1, keepdim=True)).sum().backward()
        for row, here, weight in zip(new.grad, mask, weights):
            np.testing.assert_allclose(-row[here], weight, atol=1e-6)
        pushed += np.abs(np.concatenate(weights)).sum()
        assert advantages == [r["advantage"] for r in group["responses"]]
    assert pushed > 1


def test_ratios_of_the_last_mini_batch_are_logged(folder):
    ratios = [np.exp(np.subtract(r["trainer_logprobs"], r["logprobs"])) for group in
              data(folder / "report.html")[0]["groups"] for r in group["responses"] if r["trainer_logprobs"]]
    assert ratios and 1e-4 < max(np.abs(ratio - 1).max() for ratio in ratios)


def test_the_switch_gives_each_algorithm_its_own_weights(folder):
    group = next(group for group in data(folder / "report.html")[0]["groups"] if len(group["responses"]) == 16)
    weights = {name: np.concatenate(w) for name, (_, w) in group["objectives"].items()}
    assert weights["GRPO-N"].max() == 0 and weights["GRPO-N"].min() < 0 < weights["GRPO"].max()
    assert not np.allclose(weights["Guide-GRPO"], weights["Guide-GRPO without ratio"])
    np.testing.assert_allclose(weights["Guide-GRPO"], weights["guide_grpo.py, as run"])


@needs_browser
def test_the_browser_shows_the_step_the_response_and_the_algorithm_asked_for(folder):
    page = folder / "report.html"
    groups = data(page)[0]["groups"]
    at = next(i for i, group in enumerate(groups) if len(group["responses"]) == 16)
    names = [*groups[at]["objectives"]]
    for name in ("guide_grpo.py, as run", "GRPO-N"):
        dom, complaints = look(page, f"step={at}&response=9&algorithm={names.index(name)}")
        assert not complaints and dom.count("<svg") == 1
        assert shown(dom, "at") == str(groups[at]["step"]) and "\nHint: " in shown(dom, "prompt").replace("\n\n", "\n")
        response, (advantages, weights) = groups[at]["responses"][9], groups[at]["objectives"][name]
        assert shown(dom, "text") == "".join(response["pieces"])
        assert [float(w) for w in re.findall(r'data-weight="(.*?)"', dom)] == weights[9]
        rows = re.findall(r"<tr class=\"(.*?)\">(.*?)</tr>", dom.partition('id="group"')[2])
        assert [row[0] for row in rows].index("on") == 9 and "guided" in rows[9][1]
        assert f"<td>{float(f'{advantages[9]:.3g}'):g}</td>" in rows[9][1].replace("-0<", "0<")


@needs_browser
def test_keys_and_choices_move(folder):
    press = "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'Arrow%s' }));"
    script = "".join(press % key for key in ("Left", "Left", "Right", "Down", "Down", "Up"))
    dom, complaints = look(folder / "report.html", "step=3&response=0", script)
    assert not complaints and shown(dom, "at") == "3"
    on = re.findall(r"<tr class=\"(.*?)\">", dom.partition('id="group"')[2])
    assert on.index("on") == 1
    choose = "$('algorithm').selectedIndex = 2; $('algorithm').dispatchEvent(new Event('change'))"
    dom, _ = look(folder / "report.html", "step=3&response=0", choose)
    weights = data(folder / "report.html")[0]["groups"][3]["objectives"]["GRPO-N"][1][0]
    assert [float(w) for w in re.findall(r'data-weight="(.*?)"', dom)] == weights


def changed_run(folder, tmp_path, change):
    """A copy of the run with other rows of rollouts and metrics."""
    copy = tmp_path / "other"
    shutil.copytree(folder, copy)
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        rows = [json.loads(line) for line in open(copy / name)]
        (copy / name).write_text("".join(json.dumps(row) + "\n" for row in change(name, rows)))
    return copy


@needs_browser
def test_what_a_model_writes_is_text(folder, tmp_path):
    attack = "</script><script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">"

    def change(name, rows):
        for row in rows if name == "rollouts.jsonl" else []:
            row["problem"] |= {"prompt": attack + " 数学 🙂 e\u0301", "answer": attack}
        return rows

    copy = changed_run(folder, tmp_path, change)
    write(copy)
    dom, complaints = look(copy / "report.html")
    assert not complaints and "<title>minRLVR</title>" in dom and "<img" not in dom
    assert shown(dom, "prompt").startswith(attack + " 数学 🙂 e\u0301")


def test_a_character_of_several_tokens_comes_with_its_last_one():
    class Bytes:
        def decode(self, ids):
            return bytes(ids).decode(errors="replace")

    assert report.pieces(list("a🙂b".encode()), Bytes()) == ["a", "", "", "", "🙂", "b"]


def test_words_keep_the_spaces_that_a_decoder_drops_at_the_start_of_a_text():
    words = Tokenizer(models.WordLevel({"▁the": 0, "▁answer": 1, "s": 2}, "s"))
    words.decoder = decoders.Metaspace()
    assert report.pieces([0, 1, 2], words) == ["the", " answer", "s"]


def test_a_run_that_is_still_going_and_lacks_metrics(folder, tmp_path):
    copy = changed_run(folder, tmp_path, lambda name, rows: [
        {key: value for key, value in row.items() if key != "sampler/entropy"} for row in rows][:-1])
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        with open(copy / name, "a") as file:
            file.write('{"step": 9, "respon')
    shutil.rmtree(next(copy.glob("step_*")))
    write(copy)
    groups = data(copy / "report.html")[0]["groups"]
    assert [group["step"] for group in groups] == [1, 2, 3]


def test_forks_runs_of_one_name_and_a_run_in_its_first_evaluation(folder, tmp_path):
    fork = changed_run(folder, tmp_path, lambda name, rows: [])
    flags = json.loads((fork / "args.json").read_text())
    (fork / "args.json").write_text(json.dumps(flags | {"script": "my_fork"}))
    same = shutil.copytree(folder, tmp_path / "same/run")
    (same / "args.json").write_text(json.dumps(flags | {"script": "my_fork"}))
    write(folder, fork, same, "--out", tmp_path / "three.html")
    runs = data(tmp_path / "three.html")
    assert [run["flags"]["run"] for run in runs] == [str(folder), "other", str(same)]
    assert [run["steps"] for run in runs] == [4, 0, 4]
    found = [list(run["groups"][0]["objectives"]) for run in (runs[0], runs[2])]
    assert found[0] == ["guide_grpo.py, as run", *found[1]]


def test_several_runs_and_long_ones(folder, tmp_path):
    def change(name, rows):
        return rows if name == "rollouts.jsonl" else [row | {"step": i} for row in rows[1:] for i in range(10_000)]

    copy = changed_run(folder, tmp_path, change)
    write(folder, copy, "--out", tmp_path / "both.html", "--steps", 2)
    page = tmp_path / "both.html"
    assert [run["flags"]["run"] for run in data(page)] == ["run", "other"]
    assert [len(run["groups"]) for run in data(page)][0] == 2 and page.stat().st_size < 5e6
    assert "run: reward/mean" in page.read_text() and "other: reward/mean" in page.read_text()


def test_bad_input_gets_a_sentence(folder, tmp_path):
    for arguments, sentence in [
        ([], "runs holds no run"), ([tmp_path], "holds no run"), ([tmp_path / "none"], "holds no run"),
        ([folder, "--out", tmp_path / "no/such/folder.html"], "cannot write"),
    ]:
        with pytest.raises(SystemExit, match=sentence):
            report.main(tyro.cli(report.Args, args=[*map(str, arguments)]))
