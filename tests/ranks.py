"""What test_ranks.py runs on each of two ranks under torchrun: one argument, a folder with what one rank computed."""

import copy
import dataclasses
import sys
from pathlib import Path

import torch
from conftest import TOY
from test_grpo import make_rollouts
from transformers import AutoTokenizer

import grpo

folder = Path(sys.argv[1])
assert grpo.WORLD == 2
grpo.join_ranks()
args = dataclasses.replace(grpo.Args(**TOY), **torch.load(folder / "flags.pt"))
tokenizer = AutoTokenizer.from_pretrained(args.model)
problems = grpo.load_problems(args.dataset, tokenizer, args)

# the same rollouts on one rank and on two: the same gradient, also where a rank has nothing but padding
policy = grpo.shard(grpo.Policy(args))
rollouts = make_rollouts(grpo.Policy(args), problems, 5)
optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
for name, expected in torch.load(folder / "expected.pt").items():
    count, budget = name
    still = torch.optim.SGD(policy.parameters(), lr=0.0)
    flags = dataclasses.replace(args, microbatch_tokens=budget)
    metrics = grpo.update(policy, None, still, [copy.deepcopy(rollouts[:count])], flags)
    gradient = torch.cat([grpo.full(p.grad).flatten() for p in policy.parameters()])
    assert (gradient - expected["gradient"]).abs().max() < 1e-6, name
    assert metrics.keys() == expected["metrics"].keys()
    for metric, value in expected["metrics"].items():
        assert abs(metrics[metric] - value) < 1e-4 * max(1, abs(value)), (name, metric)

# a checkpoint of two ranks is that of one, and the optimiser comes back in pieces
grpo.update(policy, None, optimizer, [rollouts], args)
state = grpo.optimizer_state(optimizer)
assert bool(state[0]) == (grpo.RANK == 0)
assert grpo.save_checkpoint(policy, tokenizer, {"optimizer": state}, folder, 1, args)
grpo.everyone("saved")
loaded, trainer = grpo.load_checkpoint(folder, args)
again = torch.optim.AdamW(grpo.shard(loaded).parameters(), lr=1e-3)
grpo.restore_optimizer(again, trainer["optimizer"])
for a, b in zip(again.state.values(), optimizer.state.values()):
    assert all(torch.equal(grpo.full(a[key]), grpo.full(b[key])) for key in ("step", "exp_avg", "exp_avg_sq"))

# one engine each: other samples of the same problem, and what each said reaches both
engine = grpo.start_engine(args)
grpo.seed_everything(0, 1, grpo.RANK)
groups = grpo.sample(engine, [problems[0], problems[0]], 4, args)
assert len(groups) == 2 and grpo.everyone(groups)[0] == grpo.everyone(groups)[1]
assert [r.token_ids for r in groups[0]] != [r.token_ids for r in groups[1]]
assert len(grpo.sample(engine, problems[:1], 2, args)) == 1  # one rank has nothing to do
print("rank 0 found nothing wrong")
