"""The algorithm: advantages, loss and gradients against hand computations and brute force. No engine needed."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

import grpo
from grpo import Problem, Rollout

total_tokens = lambda r: len(r.problem.prompt_ids + r.token_ids)
ONE = torch.ones(1, 1, dtype=torch.bool)  # the mask of a single token


def make_rollouts(policy, problems, count, seed=0, noise=0.3):
    """Random responses of random lengths, whose sampler log-probs are the policy's with noise."""
    rng = np.random.default_rng(seed)
    rollouts = []
    for i in range(count):
        tokens = rng.integers(0, 256, rng.integers(1, 40)).tolist()
        problem = problems[int(rng.integers(len(problems)))]
        rollouts.append(Rollout(problem, tokens, [0.0] * len(tokens), "", False, "wrong", 0.0, float(rng.normal())))
        ids, mask, _, _ = grpo.collate(rollouts[-1:])
        with torch.no_grad():
            logprobs = policy(ids, mask)[0][mask] + noise * torch.from_numpy(rng.normal(size=len(tokens)))
        rollouts[-1].logprobs = logprobs.tolist()
    return rollouts


def gradients(policy, rollouts, args):
    """The gradient of one whole mini-batch, by `update` itself."""
    args = dataclasses.replace(args, minibatches=1, max_grad_norm=1e9, max_logprob_gap=1e9)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    metrics = grpo.update(policy, None, optimizer, [rollouts], args)
    return torch.cat([p.grad.flatten() for p in policy.parameters()]), metrics


def relative_error(gradient, expected):
    return ((gradient - expected).norm() / expected.norm()).item()


def brute_force_gradient(policy, rollouts, weights, args):
    """The same by the definition: one rollout and one token at a time, no padding, no chunks, autograd throughout."""
    policy.zero_grad()
    for r, weight in zip(rollouts, weights):
        ids = torch.tensor([r.problem.prompt_ids + r.token_ids])
        logits = policy.lm(ids).logits[0] / args.temperature
        start = len(r.problem.prompt_ids)
        objective = 0
        for t, token in enumerate(r.token_ids):
            ratio = torch.exp(logits[start + t - 1].log_softmax(-1)[token] - r.logprobs[t])
            clipped = ratio.clamp(1 - args.clip_low, 1 + args.clip_high)
            objective = objective + torch.min(ratio * r.advantage, clipped * r.advantage)
        (-weight * objective).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters()])


@pytest.mark.parametrize(
    "rewards, expected",
    [
        ([1, 0], [1, -1]),
        ([1, 0, 0, 0], [math.sqrt(3), *[-1 / math.sqrt(3)] * 3]),  # p = 1/4: (1 − p)/√(p(1−p)), −p/√(p(1−p))
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_advantages(rewards, expected):
    assert grpo.advantages(np.array(rewards, float)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "ratio, advantage, objective, gradient, clipped",
    [
        # gradient is d objective / d log π: ratio · A where the clip does not bind, else 0
        (1.0, +2.0, 2.0, 2.0, None),
        (1.0, -2.0, -2.0, -2.0, None),
        (1.5, +2.0, 1.2 * 2, 0.0, "policy/clip_high"),  # already more likely: no further pull
        (1.5, -2.0, 1.5 * -2, 1.5 * -2, None),  # a bad token that became likelier is still pushed
        (0.5, +2.0, 0.5 * 2, 0.5 * 2, None),  # a good token that became rarer is still pulled
        (0.5, -2.0, 0.8 * -2, 0.0, "policy/clip_low"),  # already rarer: no further push
        (1.1, +2.0, 2.2, 2.2, None),
        (0.9, -2.0, -1.8, -1.8, None),
    ],
)
def test_clipped_loss(args, ratio, advantage, objective, gradient, clipped):
    logprobs = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss, stats = grpo.policy_loss(logprobs, torch.zeros(1, 1), torch.tensor([[advantage]]), ONE, args)
    loss.sum().backward()
    assert -loss.item() == pytest.approx(objective)
    assert -logprobs.grad.item() == pytest.approx(gradient)
    assert stats["policy/ratio_max"].item() == pytest.approx(ratio)  # before the clip
    assert {name for name in ("policy/clip_low", "policy/clip_high") if stats[name].item()} == {clipped} - {None}


def test_asymmetric_clip(args):
    args.clip_low, args.clip_high = 0.1, 0.5
    for ratio, advantage, objective in ((1.4, 1, 1.4), (1.6, 1, 1.5), (0.95, -1, -0.95), (0.85, -1, -0.9)):
        logprobs, advantage = torch.tensor([[math.log(ratio)]]), torch.tensor([[float(advantage)]])
        loss, _ = grpo.policy_loss(logprobs, torch.zeros(1, 1), advantage, ONE, args)
        assert -loss.item() == pytest.approx(objective)


@pytest.mark.parametrize("loss_norm", ["sequence", "token", "constant"])
def test_gradient_is_the_definition_and_independent_of_microbatches(policy, problems, args, loss_norm):
    args.loss_norm = loss_norm
    rollouts = make_rollouts(policy, problems, 6)
    rollouts[3].advantage = 0.0  # no gradient, but counted in the denominators
    lengths = [len(r.token_ids) for r in rollouts]
    weights = {
        "sequence": [1 / 6 / n for n in lengths],
        "token": [1 / sum(lengths)] * 6,
        "constant": [1 / 6 / args.max_response_tokens] * 6,
    }[loss_norm]
    expected = brute_force_gradient(policy, rollouts, weights, args)
    one, two = 1, 2 * max(total_tokens(r) for r in rollouts)
    assert [len(b) for b in grpo.microbatches(rollouts, one)] == [1] * 6
    assert max(len(b) for b in grpo.microbatches(rollouts, two)) >= 2
    for budget in (one, two, 10**6):
        args.microbatch_tokens = budget
        gradient, _ = gradients(policy, rollouts, args)
        assert relative_error(gradient, expected) < 1e-5  # float32


def test_microbatches_hold_every_rollout_once_within_budget_and_padding():
    rng = np.random.default_rng(0)
    problem = Problem(0, "", [1] * 20, "", "math", "")
    lengths = [0, 0, *np.clip(rng.lognormal(4, 1, 500), 1, 2000).astype(int)]
    rollouts = [Rollout(problem, [3] * n, [0.0] * n, "", False, "wrong", 0.0) for n in lengths]
    batches = grpo.microbatches(rollouts, 1500)
    assert sorted(id(r) for batch in batches for r in batch) == sorted(id(r) for r in rollouts)
    wasted = 0
    for batch in batches:
        padded, tokens = len(batch) * max(total_tokens(r) for r in batch), sum(total_tokens(r) for r in batch)
        assert len(batch) == 1 or padded <= 1500 and padded <= 1.2 * tokens
        wasted += padded - tokens
    for batch, following in zip(batches, batches[1:]):  # none was cut too early
        longest = total_tokens(batch[0])
        assert (len(batch) + 1) * longest > 1500 or total_tokens(following[0]) <= 0.85 * longest
    assert wasted < 0.1 * sum(total_tokens(r) for r in rollouts)


def test_uniform_groups_change_nothing(policy, problems, args):
    rollouts = make_rollouts(policy, problems, 4)
    for r in rollouts:
        r.advantage = 0.0
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1.0)
    before = copy.deepcopy(policy.state_dict())
    assert grpo.update(policy, None, optimizer, [rollouts[:2], rollouts[2:]], args) == {}
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())


def test_minibatches_are_optimizer_steps_over_whole_groups(policy, problems, args):
    groups = [make_rollouts(policy, problems, 2, seed=i, noise=0.0) for i in range(4)]
    steps = []
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    args.minibatches = 4
    metrics = grpo.update(policy, None, optimizer, groups, args)
    assert len(steps) == 4
    assert metrics["policy/ratio_mean"] == pytest.approx(1, abs=1e-5)
    assert metrics["sampler/logprob_gap_max"] < 1e-5


def test_mask_comes_from_lengths_even_if_pad_is_eos():
    eos = 0  # `collate` pads with 0
    short = Rollout(Problem(0, "", [5, 6, 7], "", "math", ""), [8, eos], [-0.1, -0.2], "", False, "right", 1, 2)
    long = Rollout(Problem(0, "", [5], "", "math", ""), [eos, 9, eos, 9, eos], [-1.0] * 5, "", False, "wrong", 0, -2)
    ids, mask, old_logprobs, advantage = grpo.collate([short, long])
    assert ids.tolist() == [[5, 6, 7, 8, 0, 0], [5, 0, 9, 0, 9, 0]]
    # position t predicts token t + 1, so the responses' EOS are trained and the pads after them are not
    assert mask.tolist() == [[False, False, True, True, False], [True] * 5]
    assert old_logprobs[0].tolist() == pytest.approx([0, 0, -0.1, -0.2, 0])
    assert advantage.tolist() == [[0, 0, 2, 2, 0], [-2] * 5]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_and_entropy_are_exact_across_chunks_and_padding(policy, problems, temperature):
    policy.temperature = temperature
    rollouts = make_rollouts(policy, problems, 80)  # about 1,600 response tokens: more than one chunk
    ids, mask, _, _ = grpo.collate(rollouts)
    assert mask.sum() > 1024
    with torch.no_grad():
        logprobs, entropy = policy(ids, mask)
        for i in (0, 79):
            alone = torch.tensor([rollouts[i].problem.prompt_ids + rollouts[i].token_ids])
            start = len(rollouts[i].problem.prompt_ids) - 1
            expected = (policy.lm(alone).logits[0] / temperature).log_softmax(-1)[start:]
            chosen = expected[torch.arange(len(rollouts[i].token_ids)), rollouts[i].token_ids]
            assert torch.allclose(logprobs[i][mask[i]], chosen, atol=1e-5)
            assert torch.allclose(entropy[i][mask[i]], -(expected.exp() * expected).sum(-1)[:-1], atol=1e-5)
    assert not logprobs[~mask].any() and not entropy[~mask].any()


def test_gradient_checkpointing_changes_memory_and_not_gradients(policy, problems, args):
    rollouts = make_rollouts(policy, problems, 3)
    expected, _ = gradients(policy, rollouts, args)
    args.gradient_checkpointing = True
    recomputing, calls = grpo.Policy(args), []
    recomputing.lm.model.layers[0].mlp.register_forward_hook(lambda *_: calls.append(1))
    assert relative_error(gradients(recomputing, rollouts, args)[0], expected) < 1e-6
    assert len(calls) == 2 and not recomputing.lm.training  # once more in the backward pass, and dropout stays off


def test_kl_is_zero_at_the_start_and_pulls_back(policy, problems, args):
    args.kl_coef, args.minibatches, args.max_logprob_gap = 0.5, 1, 1e9
    reference = grpo.Policy(args).requires_grad_(False)
    rollouts = make_rollouts(policy, problems, 4)
    for r in rollouts:
        r.advantage = 0.0  # the KL term alone
    optimizer = torch.optim.SGD(policy.parameters(), lr=1e-3)
    assert grpo.update(policy, reference, optimizer, [rollouts], args)["policy/kl"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    kls = [grpo.update(policy, reference, optimizer, [rollouts], args)["policy/kl"] for _ in range(5)]
    assert kls[0] > 1e-3 and kls[-1] < kls[0]
