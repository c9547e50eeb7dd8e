"""Nothing trained is lost: real kills, signals, full disks and broken files. KILLS=20 makes the kill test thorough."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import AS_ON_GPU, ROOT, TOY
from test_grpo import make_rollouts
from test_runs import command_line, comparable

import grpo
import guide_ppo

SMALL = TOY | dict(name="run", problems=4, group_size=4, eval_problems=12, eval_samples=2, eval_every=4, save_every=3)


def start(script, cwd, **flags):
    arguments = command_line(SMALL | flags)
    with open(cwd / "log.txt", "a") as log:
        command = [sys.executable, str(ROOT / script), *arguments, "--resume"]
        return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)


def lines(cwd):
    metrics = cwd / "runs/run/metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def wait_for(process, condition):
    while not condition():
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.02)


def folder(path):
    path.mkdir()
    return path


def contents(run_folder, name):
    """Metrics but for times, the last group of rollouts, and the final weights; on a GPU the steps alone."""
    metrics = comparable([json.loads(line) for line in open(run_folder / "metrics.jsonl")])
    if AS_ON_GPU:
        return [row["step"] for row in metrics]
    return metrics, (run_folder / "rollouts.jsonl").read_text(), (run_folder / name / "model.safetensors").read_bytes()


def test_a_run_killed_again_and_again_is_the_run_never_killed(tmp_path):
    kills, rng = int(os.environ.get("KILLS", 2)), random.Random(0)
    steps = 4 * kills
    whole, killed = folder(tmp_path / "whole"), folder(tmp_path / "killed")
    assert start("grpo.py", whole, steps=steps).wait() == 0
    for kill in range(kills):
        process = start("grpo.py", killed, steps=steps)
        target = 1 + kill * 3 + rng.randrange(3)  # three steps on, and a checkpoint in between
        wait_for(process, lambda: lines(killed) > target)
        time.sleep(rng.random() * 0.6)  # sampling, training, writing: whatever it is doing
        process.kill()
        process.wait()
    assert start("grpo.py", killed, steps=steps).wait() == 0
    final = f"step_{steps:06d}"
    assert contents(killed / "runs/run", final) == contents(whole / "runs/run", final)
    assert len(grpo.checkpoints(killed / "runs/run")) == 2  # --keep
    assert not (killed / "runs/run/unfinished").exists()


def test_a_signal_finishes_the_step_saves_and_exits_0(tmp_path):
    """guide_ppo.py has the most to save: the critic and a second optimiser, and at first a policy without updates."""
    whole, stopped = folder(tmp_path / "whole"), folder(tmp_path / "stopped")
    flags = dict(steps=6, save_every=100, dynamic_sampling=True, critic_warmup_steps=3)
    assert start("guide_ppo.py", whole, **flags).wait() == 0
    for number, rows in ((signal.SIGTERM, 2), (signal.SIGINT, 4)):
        process = start("guide_ppo.py", stopped, **flags)
        wait_for(process, lambda: lines(stopped) >= rows)
        process.send_signal(number)
        assert process.wait() == 0
        checkpoint = grpo.checkpoints(stopped / "runs/run")[-1]
        assert rows - 1 <= int(checkpoint.name[5:]) == lines(stopped) - 1 < 6
    assert (stopped / "log.txt").read_text().count("the same command with --resume goes on") == 2
    assert start("guide_ppo.py", stopped, **flags).wait() == 0
    assert contents(stopped / "runs/run", "step_000006") == contents(whole / "runs/run", "step_000006")
    last = json.loads((whole / "runs/run/metrics.jsonl").read_text().splitlines()[-1])
    assert {"value/loss", "value/explained_variance", "guide/right"} <= last.keys()


def test_a_full_disk_harms_no_checkpoint(tmp_path):
    """A disk of 6 MB: room for one checkpoint of 4 MB."""
    arguments = command_line(SMALL | dict(steps=2, save_every=1))
    script = f"""mkdir runs; mount -t tmpfs -o size=6m tmpfs runs || exit 99
        {sys.executable} {ROOT}/grpo.py {" ".join(f"'{a}'" for a in arguments)}
        echo exit $?; ls runs/run; wc -l runs/run/metrics.jsonl
        {sys.executable} -c "import torch; print(torch.load('runs/run/step_000001/trainer.pt')['step'])" """
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    if done.returncode in (1, 99) and "exit" not in done.stdout:
        pytest.skip("this kernel lets no user mount a disk of their own")
    assert "cannot write runs/run/step_000002, so nothing older is deleted" in done.stderr
    after = done.stdout.partition("exit ")[2].split()
    assert after[0] == "1" and "step_000001" in after and "step_000002" not in after
    assert after[-3:] == ["3", "runs/run/metrics.jsonl", "1"]  # both steps were trained and logged


def test_unreadable_checkpoints_are_named_and_half_written_ones_ignored(tmp_path, policy, tokenizer, args):
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    sum(p.sum() for p in policy.parameters()).backward()
    optimizer.step()
    policy.lm.generation_config.temperature = 0.7  # some models have one, which must not keep them from being saved
    for step in (1, 2, 3):
        trainer = {"optimizer": grpo.dcp.get_optimizer_state_dict(policy, optimizer, options=grpo.WHOLE)}
        grpo.save_checkpoint(policy, tokenizer, trainer, tmp_path, step, args)
    assert [path.name for path in grpo.checkpoints(tmp_path)] == ["step_000002", "step_000003"]
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/stale").touch()
    loaded, trainer = grpo.load_checkpoint(tmp_path, args)
    assert trainer["step"] == 3
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), policy.parameters()))
    fresh = torch.optim.AdamW(loaded.parameters(), lr=5e-4)
    grpo.dcp.set_optimizer_state_dict(loaded, fresh, trainer["optimizer"], options=grpo.WHOLE)
    for a, b in zip(fresh.state.values(), optimizer.state.values()):
        assert all(torch.equal(a[name], b[name]) for name in ("step", "exp_avg", "exp_avg_sq"))

    for broken in ("trainer.pt", "model.safetensors"):
        file = tmp_path / "step_000003" / broken
        intact = file.read_bytes()
        file.write_bytes(intact[: len(intact) // 2])
        with pytest.raises(SystemExit, match="step_000003 cannot be read; if it is a checkpoint, move it away"):
            grpo.load_checkpoint(tmp_path, args)
        file.write_bytes(intact)
    grpo.save_checkpoint(policy, tokenizer, {}, tmp_path, 5, args)
    assert not (tmp_path / "unfinished").exists() and not (tmp_path / "step_000005/stale").exists()


@pytest.mark.parametrize("module", [grpo, guide_ppo])
def test_an_update_that_is_not_finite_is_not_made(module, problems):
    args = module.Args(**TOY | dict(minibatches=1, max_logprob_gap=10))
    policy = module.Policy(args)
    rollouts = make_rollouts(policy, problems, 4)
    for r in rollouts:
        r.advantage, r.guided = np.nan, False
        if module is guide_ppo:
            r.advantage, r.values, r.returns = ([x] * len(r.token_ids) for x in (np.nan, 0.0, 1.0))
    before = [p.detach().clone() for p in policy.parameters()]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    with pytest.raises(SystemExit, match="a gradient is not finite: its update was not made"):
        if module is guide_ppo:
            critic = module.Critic(args)
            critic_optimizer = torch.optim.AdamW(critic.parameters(), lr=1e-3)
            module.update(policy, None, optimizer, critic, critic_optimizer, [rollouts], 1, args)
        else:
            module.update(policy, None, optimizer, [rollouts], args)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters()))


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (dict(max_logprob_gap=1e-12), "with the same weights, sampler and trainer differ by"),
        # at this temperature half of the responses are cut, and so not verified
        (dict(verifier="broken.py:verify", temperature=2), "the verifier failed on every response of this step"),
        (dict(lr=1e30, problems=24, group_size=8), "a gradient is not finite: its update was not made"),
    ],
)
def test_a_step_that_cannot_be_trusted_is_neither_logged_nor_saved(tmp_path, flags, sentence):
    (tmp_path / "broken.py").write_text("def verify(response, answer):\n    raise RuntimeError('never works')\n")
    assert start("grpo.py", tmp_path, steps=4, save_every=1, **flags).wait() == 1
    assert sentence in (tmp_path / "log.txt").read_text()
    assert lines(tmp_path) == 1 and not grpo.checkpoints(tmp_path / "runs/run")
