"""Two processes under torchrun, with gloo: the same training as one process, and no hang when one dies."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from conftest import ROOT, exact
from test_faults import SMALL, start
from test_grpo import make_rollouts
from test_models import FAMILIES, build

import grpo

pytestmark = pytest.mark.skipif(grpo.GPU and torch.cuda.device_count() < 2, reason="two ranks need two GPUs")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


def launch(script, cwd, **flags):
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in (SMALL | flags).items()]
    with open(cwd / "log.txt", "a") as log:
        return subprocess.Popen([*TORCHRUN, str(ROOT / script), *arguments], cwd=cwd, stdout=log, stderr=log)


def metrics(cwd):
    return [json.loads(line) for line in open(cwd / "runs/run/metrics.jsonl")]


@exact
def test_two_ranks_compute_what_one_does(tmp_path, problems, args):
    flags = dict(minibatches=1, max_grad_norm=1e9, max_logprob_gap=1e9)
    torch.save(flags, tmp_path / "flags.pt")
    args = dataclasses.replace(args, **flags)
    expected = {}
    for count, budget in ((5, 8192), (5, 100), (1, 8192)):  # one micro-batch, several, and a single rollout
        policy = grpo.Policy(args)
        rollouts = make_rollouts(policy, problems, 5)[:count]
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
        found = grpo.update(policy, None, optimizer, [rollouts], dataclasses.replace(args, microbatch_tokens=budget))
        gradient = torch.cat([p.grad.flatten() for p in policy.parameters()])
        expected[count, budget] = dict(gradient=gradient, metrics=found)
    torch.save(expected, tmp_path / "expected.pt")
    command = [*TORCHRUN, str(ROOT / "tests/ranks.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    assert "rank 0 found nothing wrong" in done.stdout


@exact
def test_a_run_may_go_on_with_another_number_of_ranks(tmp_path, script="guide_ppo.py"):
    """Two ranks share one engine (tp = 2), so that they draw what one process draws; then one process goes on."""
    alone, two = tmp_path / "alone", tmp_path / "two"
    alone.mkdir(), two.mkdir()
    assert start(script, alone, steps=3, eval_every=1).wait() == 0
    assert launch(script, two, steps=2, eval_every=1, vllm_tp=2).wait(300) == 0, (two / "log.txt").read_text()[-6000:]
    assert start(script, two, steps=3, eval_every=1).wait() == 0
    for one, other in zip(metrics(alone), metrics(two), strict=True):
        assert one["step"] == other["step"]
        for name in ("reward/mean", "eval/pass@1", "policy/grad_norm", "guide/right", "value/loss"):
            assert other.get(name, 0) == pytest.approx(one.get(name, 0), rel=1e-3, abs=1e-6), (one["step"], name)


def test_the_death_of_a_rank_ends_the_job_and_says_why(tmp_path):
    build(*FAMILIES["Gemma 4, text"], tmp_path / "model")  # its buffers stay whole where FSDP cuts the weights
    job = launch("grpo.py", tmp_path, steps=1000, model=tmp_path / "model")
    log = tmp_path / "runs/run/metrics.jsonl"
    while not log.exists() or log.read_text().count("\n") < 3:
        assert job.poll() is None, (tmp_path / "log.txt").read_text()[-3000:]
        time.sleep(0.05)
    children = psutil.Process(job.pid).children()
    ranks = [child for child in children if child.environ().get("RANK") == "1"]
    ranks[0].send_signal(signal.SIGKILL)
    clock = time.time()
    assert job.wait(timeout=120) != 0
    assert time.time() - clock < 60
    assert not psutil.wait_procs(children, timeout=10)[1]
    printed = (tmp_path / "log.txt").read_text()
    assert "Root Cause" in printed and "SIGKILL" in printed


def test_ranks_that_no_engine_can_share_are_refused(monkeypatch):
    monkeypatch.setattr(grpo, "WORLD", 2)
    with pytest.raises(SystemExit, match="--vllm-tp 3 does not divide the 2 ranks"):
        grpo.Args(**SMALL, vllm_tp=3)
