"""Does everything work on this GPU, and what does it cost? All five scripts, a few steps each, and one page to send us.

    python benchmarks/gpu_check.py                  # random weights in Qwen2.5-0.5B's shape, minutes; --shape 1.5B
    python benchmarks/gpu_check.py --model Qwen/Qwen2.5-1.5B-Instruct --dataset openai/gsm8k:main    # the real thing
    python benchmarks/gpu_check.py --shape tiny     # the same on a CPU, which tells nothing but that this file works

Random weights need no download: their text is noise and their rewards are the toss of a coin (a checksum of the
response), which is all that timing, memory and precision need. A share of the vocabulary ends a response, so that
lengths differ and one in seven is cut. A dataset without hints cannot do for the guided scripts: leave them out, with
--scripts grpo grpo_n gspo_n.
Checks that the log-probs of policy and sampler agree before and after weights are sent, and that a run can be resumed.
Writes results/gpu/DEVICE-MODEL.md, and exits with 1 if a check fails.
"""

import json
import os
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
    """Runs all five scripts for a few steps and reports precision, speed and memory on one page."""

    shape: Literal["tiny", "0.5B", "1.5B"] = "0.5B"  # The size of the model with random weights
    model: str = ""  # Instead of that, a real model: Hugging Face name or folder
    dataset: str = ""  # With --model: its problems
    steps: int = 5  # Of each script, at least 3. The first and the last, for which two scripts resume, are not timed
    problems: int = 32  # Problems per step, with 8 responses each
    tokens: int = 512  # Longest response. With random weights the mean is two fifths of it
    scripts: tuple[str, ...] = tuple(SCRIPTS)  # Which ones to run


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


def environment() -> list[str]:
    """What a reader of the page has to know of the machine."""
    import vllm

    lines = [f"- torch {torch.__version__}, vLLM {vllm.__version__}, transformers {transformers.__version__}, Python "
             f"{platform.python_version()}, {platform.platform()}"]
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        driver = subprocess.run(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
                                capture_output=True, text=True).stdout.split("\n")[0]
        lines.append(f"- {torch.cuda.device_count()} × {card.name}, {card.total_memory / 2**30:.0f} GiB, capability "
                     f"{card.major}.{card.minor}, driver {driver}, CUDA {torch.version.cuda}")
    variables = [f"{name}={value}" for name, value in sorted(os.environ.items())
                 if name.startswith(("VLLM_", "CUDA_", "NCCL_", "PYTORCH_", "OMP_"))]
    return [*lines, f"- set: {', '.join(variables) or 'no variable of VLLM_, CUDA_, NCCL_, PYTORCH_, OMP_'}"]


def prepare(args: Args, folder: Path) -> tuple[str, list[str]]:
    """What the model is called on the page, and the flags that name it and its problems."""
    if args.model:
        return args.model.rstrip("/").split("/")[-1], [f"--model={args.model}", f"--dataset={args.dataset}"]
    parameters = make_model(folder / "model", *SHAPES[args.shape], length=args.tokens // 2)
    toy.write_problems(folder, toy.secrets()[0])
    return f"{args.shape}, {parameters / 1e9:.2f}B random weights", [
        f"--model={folder}/model", f"--dataset={folder}/train.jsonl", f"--verifier={__file__}:coin", "--lr=1e-4"]


def run(script: str, folder: Path, flags: list[str], args: Args) -> list[dict] | None:
    """Rows of metrics of a run, None if it fails. Those of grpo.py and guide_ppo.py are resumed for the last step."""
    folder.mkdir(parents=True)
    for steps in (args.steps - 1, args.steps) if script in ("grpo", "guide_ppo") else (args.steps,):
        command = [sys.executable, str(ROOT / f"{script}.py"), *flags, *SCRIPTS[script].split(), f"--steps={steps}",
                   "--name=check", "--resume"]
        clock = time.time()
        with open(folder / "log.txt", "a") as log:
            code = subprocess.run(command, cwd=folder, stdout=log, stderr=log).returncode
        print(f"{script}.py to step {steps}: exit {code} after {time.time() - clock:.0f} s", flush=True)
        if code:
            return None
    return [json.loads(line) for line in open(folder / "runs/check/metrics.jsonl")][1:]


def main(args: Args):
    folder = ROOT / f"runs/gpu_check-{time.strftime('%Y%m%d-%H%M%S')}"
    name, flags = prepare(args, folder)
    flags += [f"--problems={args.problems}", "--max-prompt-tokens=512", f"--max-response-tokens={args.tokens}",
              "--eval-problems=8", "--eval-samples=1", f"--eval-every={args.steps}", "--gradient-checkpointing"]
    precision, speed, memory, failures = [], [], [], []
    for script in args.scripts:
        metrics = run(script, folder / script, flags, args)
        if metrics is None:
            tail = (folder / script / "log.txt").read_text().strip().splitlines()[-1]
            failures.append(f"{script}.py: {tail} ({folder.relative_to(ROOT) / script}/log.txt)")
            continue
        gaps = [row.get("sampler/logprob_gap_mean", 0.0) for row in metrics]
        if max(gaps) > 3 * gaps[0] + 1e-3:
            failures.append(f"{script}.py: the gap grows after weights are sent")
        timed = metrics[1 : args.steps - 1]  # without warm-ups, also that of the process that resumed
        mean = lambda column: sum(row[column] for row in timed) / len(timed)
        largest = max(row.get("sampler/logprob_gap_max", 0.0) for row in metrics)
        precision.append([script, ", ".join(f"{gap:.5f}" for gap in gaps), f"{largest:.3f}"])
        speed.append([script, *(f"{mean(f'perf/{phase}_s'):.2f}" for phase in ("sample", "train", "sync")),
                      f"{mean('perf/tokens_per_s'):.0f}", f"{mean('response/length'):.0f}"])
        memory.append([script, f"{max(row['perf/gpu_gib'] for row in metrics):.1f}"])

    def table(*rows):
        return ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    command = " ".join(sys.argv[1:])
    text = "\n".join([
        f"# {device}: {name}", "", f"`python benchmarks/gpu_check.py {command}`: {args.steps} steps of {args.problems} "
        f"problems × 8 responses of at most {args.tokens} tokens; the guided\nscripts sample twice as many; gradient "
        "checkpointing. " + ("**Checks failed.**" if failures else "All checks passed."), "",
        *(f"- FAILED: {failure}" for failure in failures), "## Versions", "", *environment(), "",
        "## Precision", "", "Mean |log π_trainer − log π_sampler| in nats per token at each step, all but the first "
        "after weights were sent,\nand the last of grpo.py and guide_ppo.py after a resume; the largest of any.", "",
        *table(["script", "mean gap by step", "largest"], *precision), "",
        "## Speed", "", f"Mean of steps 2 to {args.steps - 1}.", "",
        *table(["script", "sample, s", "train, s", "sync, s", "tokens/s", "tokens a response"], *speed), "",
        "## Memory", "", "In use on the card after an update, everybody's together; 0 on a CPU.", "",
        *table(["script", "GiB"], *memory)])
    out = ROOT / "results/gpu" / f"{device}-{name.split(',')[0]}.md".replace(" ", "_")
    if torch.cuda.is_available():
        out.parent.mkdir(exist_ok=True)
        out.write_text(text + "\n")
    print(text)
    sys.exit(bool(failures))


if __name__ == "__main__":
    args = tyro.cli(Args)
    if bool(args.model) != bool(args.dataset) or args.steps < 3:
        sys.exit("--model and --dataset go together, and --steps is at least 3")
    main(args)
