"""Each detail of docs/details.md is looked at: without it, the test that the page names fails."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs/details.md").read_text()
NAMED = {int(number): test for number, test in re.findall(r"(?ms)^(\d+)\. .*?· `(test_\w+)`", PAGE)}
WITHOUT = {  # number: file, what stands there, and the mistake
    1: ("grpo.py", "[step[token].logprob for", "[-1.0 for"),
    2: ("grpo.py", "require(gap <= args.max_logprob_gap,", "require(True,"),
    3: ("grpo.py", "logprobs = (logits / self.temperature).log", "logprobs = logits.log"),
    4: ("grpo.py", "logprobs=0,", "logprobs=0, top_p=0.5,"),
    6: ("grpo.py", "if not r.truncated]", "]"),
    7: ("grpo.py", "hash((seed, step, engine))", "hash((seed, step))"),
    8: ("grpo.py", "engine.reset_prefix_cache()", "True"),
    9: ("grpo.py", "in state.items() for", "in [*state.items()][2:] for"),
    12: ("grpo.py", "if step == done + 1 else", "if True else"),
    13: ("grpo.py", "dtype=torch.float32, attn", "dtype=torch.bfloat16, attn"),
    14: ("grpo.py", "cap * (logits / cap).tanh() if cap else logits", "logits"),
    15: ("grpo.py", "        if args.gradient_checkpointing:\n", "        if args.gradient_checkpointing:\n"
         "            self.lm.config.attention_dropout = 0.1\n            self.lm.train()\n"),
    16: ("grpo.py", "mask.bool(), old_logprobs",
         "mask.bool() & (nn.utils.rnn.pad_sequence(ids, batch_first=True)[:, 1:] != 0), old_logprobs"),
    17: ("grpo.py", "pad_sequence(ids, batch_first=True)", 'pad_sequence(ids, batch_first=True, padding_side="left")'),
    19: ("grpo.py", "/ len(minibatch)", "/ len(batch)"),
    20: ("grpo.py", "/ len(minibatch)", "/ len(trained)"),
    21: ("grpo.py", "if not trained:", "if False:"),
    22: ("grpo.py", "for group in groups[k :: args.minibatches] for r in group]",
         "for group in groups for r in group[k :: args.minibatches]]"),
    23: ("grpo.py", "torch.min(ratio * advantage, clipped_ratio * advantage)", "(clipped_ratio * advantage)"),
    24: ("grpo.py", "1 + args.clip_high)\n    loss", "1 + args.clip_low)\n    loss"),
    25: ("gspo_n.py", "clip_low: float = 3e-4", "clip_low: float = 0.2"),
    26: ("grpo.py", '"policy/ratio_max": ratio[mask]', '"policy/ratio_max": clipped_ratio[mask]'),
    27: ("grpo.py", "kl = log_ratio.exp() - 1 - log_ratio", "kl = -log_ratio"),
    28: ("grpo.py", "np.isfinite(norms[-1])", "True"),
    29: ("guide_grpo.py", "    weight = ratio\n", "    weight = torch.where(guided, 1.0, ratio)\n"),
    30: ("verifiers.py", 'verdict = "error"\n', 'verdict = "wrong"\n'),
    31: ("verifiers.py", "if not final or not readable(final):", "if False:"),
    32: ("verifiers.py", "if difference.is_Float:\n", "if abs(sympy.N(a - b)) < 1e-15:\n            return True\n"
         "        if difference.is_Float:\n"),
    33: ("reading.py", "[problem, *options, ", "[problem, "),
    34: ("grpo.py", "Hasher.hash(key)", "Hasher.hash(time.time())"),
    35: ("grpo.py", "0 < len(problem.prompt_ids) <= args.max_prompt_tokens", "True"),
    36: ("grpo.py", "if done == 0:", "if False:"),
    37: ("grpo.py", 'if "optimizer" in trainer:', "if False:"),
    38: ("grpo.py", '06d}", run / "unfinished"', '06d}", run / f"step_{step:06d}"'),
    39: ("grpo.py", "(loss * WORLD).backward()", "loss.backward()"),
    40: ("grpo.py", "metrics, groups[-1])", "metrics, [])"),
}  # without 5, 10 and 18 no value changes; 11 takes families that are tested with --slow only


@pytest.mark.slow
@pytest.mark.parametrize("number", WITHOUT)
def test_the_named_test_fails_without_the_detail(tmp_path, number):
    name, there, mistake = WITHOUT[number]
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "results", "__pycache__"))
    source = (copy / name).read_text()
    assert source.count(there) == 1
    (copy / name).write_text(source.replace(there, mistake))
    file, = [path.name for path in (copy / "tests").glob("test_*.py") if f"def {NAMED[number]}(" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-xq", "-p", "no:cacheprovider", f"tests/{file}", "-k", NAMED[number]]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout[-2000:]  # 2 and 5 of pytest are other mistakes than a failed test
