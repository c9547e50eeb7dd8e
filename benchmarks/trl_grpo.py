"""TRL's GRPOTrainer on the steps that speed.py times; run by it, with the Python of TRL's own environment.

    PYTHON benchmarks/trl_grpo.py MODEL FILE PROBLEMS STEPS RESPONSE_TOKENS OUT

PROBLEMS of FILE x 8 responses a step, two optimizer steps, as grpo.py in speed.py. Writes seconds per step and of
`generate` in it, mean lengths and versions.
"""

import json
import sys
import time

import torch
import transformers
import trl
from datasets import load_dataset
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer

model, source, problems, steps, tokens, out = sys.argv[1:]
gpu = torch.cuda.is_available()
stamps, lengths, generating = [], [], []
generate = transformers.GenerationMixin.generate


def timed(*args, **kwargs):
    start = time.perf_counter()
    result = generate(*args, **kwargs)
    generating.append(time.perf_counter() - start)
    return result


transformers.GenerationMixin.generate = timed


class Clock(TrainerCallback):
    def on_train_begin(self, *_, **__):
        stamps.append(time.perf_counter())

    on_step_end = on_train_begin

    def on_log(self, *_, logs, **__):
        lengths.extend([logs["completions/mean_length"]] if "completions/mean_length" in logs else [])


def reward(completions, answer, **_):
    return [float(f"\\boxed{{{a}}}" in completion[-1]["content"]) for completion, a in zip(completions, answer)]


config = GRPOConfig(
    per_device_train_batch_size=4 * int(problems), steps_per_generation=2, max_steps=2 * int(steps), num_generations=8,
    max_completion_length=int(tokens), temperature=1.0, beta=0.0, loss_type="grpo", epsilon=0.2, learning_rate=1e-9,
    lr_scheduler_type="constant", gradient_checkpointing=False, use_cpu=not gpu, bf16=gpu, use_vllm=gpu,
    save_strategy="no", logging_steps=1, report_to=[], disable_tqdm=True, output_dir="trl",
)
dataset = load_dataset("json", data_files=source, split="train").select_columns(["prompt", "answer"])
GRPOTrainer(model, reward, config, dataset, callbacks=[Clock()]).train()
seconds = [later - earlier for earlier, later in zip(stamps[::2], stamps[2::2])]
with open(out, "w") as file:
    versions = f"TRL {trl.__version__}, transformers {transformers.__version__}"
    json.dump({"seconds": seconds, "generate": generating, "lengths": lengths, "versions": versions}, file)
