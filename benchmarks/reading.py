"""How long a dataset takes to read, at first and from the cache, and what it takes of memory.

    python benchmarks/reading.py          # 5,000 and 500,000 rows with LaTeX answers; a gigabyte of disk, for a while
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def read(path: str):
    """One reading in a process of its own: seconds, and the memory it takes beyond the imports', in MiB."""
    sys.path.insert(0, str(ROOT))
    import grpo

    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    args = grpo.Args(str(ROOT / "toy/model"), path)
    tokenizer, before, start = grpo.AutoTokenizer.from_pretrained(args.model), peak(), time.time()
    problems = grpo.load_problems(path, tokenizer, args)
    batch = [grpo.Problem(**problems[i]) for i in range(0, len(problems), max(1, len(problems) // 128))]
    print(json.dumps([len(problems), len(batch), time.time() - start, peak() - before]))


def main():
    print("| rows | reading | seconds | MiB |\n| --- | --- | --- | --- |")
    for count in (5_000, 500_000):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/rows.jsonl"
            with open(path, "w") as file:
                for i in range(count):
                    answer = rf"\frac{{{i + 1}}}{{7}} + \sqrt{{{i}}}"
                    problem = f"Let $a = {i}$. " + "Show every step of it. " * 10 + "What is $(a + 1)/7 + \\sqrt{a}$?"
                    file.write(json.dumps({"problem": problem, "answer": answer}) + "\n")
            for which in ("first", "from the cache"):
                env = os.environ | {"HF_HOME": f"{folder}/cache"}
                done = subprocess.run([sys.executable, __file__, path], env=env, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr[-2000:]
                rows, _, seconds, memory = json.loads(done.stdout.splitlines()[-1])
                print(f"| {rows:,} | {which} | {seconds:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    read(sys.argv[1]) if sys.argv[1:] else main()
