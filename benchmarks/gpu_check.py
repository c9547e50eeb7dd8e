"""Does everything work on this GPU, and what does it cost? All five scripts, a few steps each, on a model of real size.

    python benchmarks/gpu_check.py                  # Qwen2.5-0.5B's shape, some minutes; 1.5B with --shape 1.5B
    python benchmarks/gpu_check.py --shape tiny     # the same on a CPU, which tells nothing but that this file works

The model has random weights, so nothing is downloaded: its text is noise and its rewards are the toss of a coin (a
checksum of the response), which is all that timing, memory and precision need. A share of the vocabulary ends a
response, so that lengths differ and one in seven is cut.
Checks that the log-probs of policy and sampler agree in bfloat16 before and after weights are sent, that a run can be
resumed, and writes what it measured to results/gpu/DEVICE-SHAPE.md. Exits with 1 if a check fails.
"""

import json
import platform
import subprocess
import sys
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import transformers
import tyro

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import toy  # noqa: E402

SHAPES = {  # hidden, MLP, layers, heads, key-value heads, vocabulary
    "tiny": (128, 256, 2, 2, 1, 512),
    "0.5B": (896, 4864, 24, 14, 2, 151936),
    "1.5B": (1536, 8960, 28, 12, 2, 151936),
}
SCRIPTS = {
    "grpo": "",
    "grpo_n": "",
    "gspo_n": "",
    "guide_grpo": "--guidance always",
    "guide_ppo": "--guidance always",
}


@dataclass
class Args:
    """Runs all five scripts on a random model of real size and reports precision, speed and memory."""

    shape: Literal["tiny", "0.5B", "1.5B"] = "0.5B"
    """The model's size."""
    steps: int = 5
    """Steps of each script, at least 3. The first and the last, which grpo.py resumes for, do not count in timings."""
    problems: int = 32
    """Problems per step, with 8 responses each."""
    tokens: int = 512
    """Longest response; the mean is two fifths of it."""
    scripts: tuple[str, ...] = tuple(SCRIPTS)
    """Which scripts to run."""


def coin(response: str, answer: str) -> bool:
    return zlib.crc32(response.encode()) % 2 == 0


def make_model(folder: Path, hidden, mlp, layers, heads, kv_heads, vocabulary, length=0) -> int:
    """A model with random weights, one in `length` of whose tokens ends a response. Returns its parameters."""
    tokenizer = toy.make_tokenizer(vocabulary)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=4096,
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    model.generation_config.eos_token_id = list(range(1, vocabulary, length)) if length else None
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def main(args: Args):
    folder = ROOT / f"runs/gpu_check-{time.strftime('%Y%m%d-%H%M%S')}"
    parameters = make_model(folder / "model", *SHAPES[args.shape], length=args.tokens // 2)
    toy.write_problems(folder, toy.secrets()[0])
    flags = [
        f"--model={folder}/model", f"--dataset={folder}/train.jsonl", f"--problems={args.problems}",
        f"--verifier={__file__}:coin", "--max-prompt-tokens=128", f"--max-response-tokens={args.tokens}",
        "--eval-problems=8", "--eval-samples=1", "--lr=1e-4", f"--eval-every={args.steps}", "--gradient-checkpointing",
    ]
    rows, failures = {}, []
    for script in args.scripts:
        for steps in (args.steps - 1, args.steps) if script == "grpo" else (args.steps,):  # one of them resumes
            command = [sys.executable, str(ROOT / f"{script}.py"), *flags, *SCRIPTS[script].split(),
                       f"--steps={steps}", "--name=check", "--resume"]
            cwd = folder / script
            cwd.mkdir(exist_ok=True)
            clock = time.time()
            with open(cwd / "log.txt", "a") as log:
                code = subprocess.run(command, cwd=cwd, stdout=log, stderr=log).returncode
            print(f"{script}.py to step {steps}: exit {code} after {time.time() - clock:.0f} s", flush=True)
        if code:
            failures.append(f"{script}.py ended with {code}, see {cwd}/log.txt")
            continue
        metrics = [json.loads(line) for line in open(cwd / "runs/check/metrics.jsonl")][1:]
        timed = metrics[1 : args.steps - 1]  # without warm-ups, also that of the process that resumed
        mean = lambda name: sum(row[name] for row in timed) / len(timed)
        gaps = [row["sampler/logprob_gap_mean"] for row in metrics]
        if max(gaps) > 3 * gaps[0] + 1e-3:
            failures.append(f"{script}.py: the gap grows after a weight sync, {gaps}")
        rows[script] = [f"{max(gaps):.5f}", f"{max(row['sampler/logprob_gap_max'] for row in metrics):.3f}"]
        rows[script] += [f"{mean(f'perf/{phase}_s'):.2f}" for phase in ("sample", "train", "sync")]
        rows[script] += [f"{mean('perf/tokens_per_s'):.0f}", f"{max(r['perf/gpu_gib'] for r in metrics):.1f}"]

    import vllm

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    lines = [
        f"# {device}, {args.shape} ({parameters / 1e9:.2f}B parameters)", "",
        f"`python benchmarks/gpu_check.py --shape {args.shape} --steps {args.steps} --problems {args.problems} "
        f"--tokens {args.tokens}`: {args.problems} problems × 8 responses of at most {args.tokens} tokens, the guided "
        f"scripts twice as many; gradient checkpointing; mean of steps 2 to {args.steps - 1}.",
        f"torch {torch.__version__}, vLLM {vllm.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()}.", "",
        "| script | gap, mean (nats) | gap, max | sample (s) | train (s) | sync (s) | tokens/s | peak (GiB) |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(f"| `{script}.py` | " + " | ".join(row) + " |" for script, row in rows.items()), "",
        *(f"- FAILED: {failure}" for failure in failures),
    ]
    text = "\n".join(lines) + "\n"
    out = ROOT / "results/gpu" / f"{device.replace(' ', '_')}-{args.shape}.md"
    if args.shape != "tiny":
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)
    print(text)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main(tyro.cli(Args))
