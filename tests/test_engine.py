"""The real vLLM engine: what it reports is what the policy computes, before and after new weights."""

import dataclasses

import pytest
import torch
from conftest import AS_ON_GPU, LARGEST_GAP

import grpo


def gap(engine, policy, problems, args, n=4):
    """Largest |log π_trainer − log π_sampler| over n responses to each problem."""
    torch.manual_seed(0)
    groups = grpo.sample(engine, problems, n, args)
    ids, mask, old_logprobs, _ = grpo.collate([r for group in groups for r in group])
    with torch.no_grad():
        logprobs, _ = policy(ids, mask)
    return (logprobs - old_logprobs)[mask].abs().max().item()


def test_parity_before_and_after_a_sync_of_every_weight(engine, policy, problems, args):
    grpo.sync_weights(policy, engine)
    assert gap(engine, policy, problems[:12], args) < LARGEST_GAP
    generator = torch.Generator(grpo.DEVICE).manual_seed(0)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.1 * p.std().nan_to_num(1) * torch.randn(p.shape, generator=generator, device=p.device) + 1e-3)
    assert gap(engine, policy, problems[:12], args) > 1  # the engine still has the old weights
    grpo.sync_weights(policy, engine)
    assert gap(engine, policy, problems[:12], args) < LARGEST_GAP


@pytest.mark.parametrize("moved", range(20))
def test_a_sync_moves_each_weight(engine, policy, problems, args, moved):
    """Each of the model's 20 tensors alone, so that no stale one can hide behind the others."""
    grpo.sync_weights(policy, engine)
    parameters = list(policy.parameters())
    assert len(parameters) == 20
    p = parameters[moved]
    with torch.no_grad():
        noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).to(p.device)
        p.add_(0.3 * p.abs().mean() * noise)
    stale = gap(engine, policy, problems[:4], args)
    grpo.sync_weights(policy, engine)
    assert gap(engine, policy, problems[:4], args) < max(stale / 50, LARGEST_GAP * AS_ON_GPU)


def test_temperature_is_in_both_log_probs(engine, policy, problems, args):
    grpo.sync_weights(policy, engine)
    args.temperature = policy.temperature = 0.6
    assert gap(engine, policy, problems[:8], args) < LARGEST_GAP
    policy.temperature = 1.0
    assert gap(engine, policy, problems[:8], args) > 0.6


def test_samples_repeat_with_the_seed_of_step_and_engine(engine, policy, problems, args):
    grpo.sync_weights(policy, engine)
    drawn = []
    for step, other in ((1, 0), (1, 0), (2, 0), (1, 1)):
        grpo.seed_everything(args.seed, step, other)
        drawn.append([r.token_ids for group in grpo.sample(engine, problems[:6], 4, args) for r in group])
    assert (drawn[0] == drawn[1] or AS_ON_GPU) and drawn[0] not in drawn[2:]


def test_old_prefixes_are_forgotten(engine, policy, problems, args):
    args.max_response_tokens = 16
    long = dataclasses.replace(problems[0], prompt_ids=(problems[0].prompt_ids * 20)[:160])  # vLLM caches whole blocks
    grpo.sync_weights(policy, engine)
    with torch.no_grad():
        policy.lm.model.embed_tokens.weight.mul_(1.5)
    stale = gap(engine, policy, [long], args)
    grpo.sync_weights(policy, engine)
    assert gap(engine, policy, [long], args) < max(stale / 50, LARGEST_GAP * AS_ON_GPU)


def test_rollouts_are_verified_and_truncation_is_known(engine, policy, problems, args):
    grpo.sync_weights(policy, engine)
    (whole,) = grpo.sample(engine, problems[:1], 8, args)
    for r in whole:
        assert r.truncated or r.token_ids[-1] == policy.lm.config.eos_token_id
        assert r.reward == (r.verdict == "right") == (f"\\boxed{{{r.problem.answer}}}" in r.text)
    args.max_response_tokens = 5
    (cut,) = grpo.sample(engine, problems[:1], 8, args)
    assert all(r.truncated and len(r.token_ids) == 5 and r.verdict == "unparsed" for r in cut)


def test_dynamic_sampling_replaces_groups_without_a_contrast(engine, policy, problems, args, tmp_path):
    grpo.sync_weights(policy, engine)
    even = "def verify(response, answer):\n    return answer == 'a' or response[-2:-1] in '02468'"
    (tmp_path / "mine.py").write_text(even)
    verifier = f"{tmp_path}/mine.py:verify"
    rows = [vars(dataclasses.replace(p, verifier=verifier, answer="ab"[i % 2])) for i, p in enumerate(problems[:24])]
    args.problems, args.group_size = 6, 4
    for args.dynamic_sampling in (False, True):
        order = iter(range(24))
        torch.manual_seed(0)
        groups, metrics = grpo.collect(engine, rows, order, args)
        shown = [group[0].problem.row for group in groups]
        uniform = [len({r.reward for r in group}) == 1 for group in groups]
        assert len(groups) == 6 and metrics["group/sampled"] == next(order)  # as many problems as the order gave
        if args.dynamic_sampling:
            assert not any(uniform) and all(row % 2 for row in shown) and metrics["group/sampled"] >= 12
        else:
            assert shown == [0, 1, 2, 3, 4, 5] and uniform[::2] == [True] * 3 and metrics["group/sampled"] == 6
        assert 0.5 < metrics["reward/mean"] < 1  # of all that was sampled, not of what is kept


def test_a_response_that_was_cut_is_never_right(engine, policy, problems, args, tmp_path):
    (tmp_path / "yes.py").write_text("def always(response, answer):\n    return True\n")
    praised = dataclasses.replace(problems[0], verifier=f"{tmp_path}/yes.py:always")
    args.max_response_tokens = 46  # what a solution of the base takes, its end included
    (group,) = grpo.sample(engine, [praised], 32, args)
    args.max_response_tokens = 45
    (cut,) = grpo.sample(engine, [praised], 32, args)
    assert {(r.truncated, r.verdict, r.reward) for r in group + cut} == {(False, "right", 1.0), (True, "unparsed", 0.0)}
