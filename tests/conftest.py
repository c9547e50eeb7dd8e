"""What the tests share: the toy's problems, its policy, and one real vLLM engine for the whole session."""

import os
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
# To compile the sampler takes longer than most runs here. test_grpo_learns_the_toy does without this, as users do.
EAGER = {"TORCHDYNAMO_DISABLE": "1", "VLLM_USE_AOT_COMPILE": "0"}
os.environ |= EAGER

import grpo  # noqa: E402

# On a GPU the sampler computes in bfloat16, and no two processes agree to the bit. AS_ON_GPU=1 tries that on a CPU.
AS_ON_GPU = grpo.GPU or os.environ.get("AS_ON_GPU") == "1"
MEAN_GAP, LARGEST_GAP = (0.05, 0.5) if AS_ON_GPU else (1e-5, 1e-5)  # nats per token, between sampler and trainer
exact = pytest.mark.skipif(AS_ON_GPU, reason="compares to the bit, or float32: a machine without a GPU runs it")

TOY = dict(
    model=str(ROOT / "toy/model"), dataset=str(ROOT / "toy/train.jsonl"), eval_dataset=str(ROOT / "toy/test.jsonl"),
    max_prompt_tokens=128, max_response_tokens=64, problems=24, lr=2e-4,
    vllm_memory=0.2,  # of a GPU, on which several engines may be at once
)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes, and runs with --slow only")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="--slow is not given"))


def read(script, dataset, tokenizer, args):
    """The problems of a dataset, as a script reads them."""
    return [script.Problem(**row) for row in script.load_problems(dataset, tokenizer, args)]


@pytest.fixture(autouse=True)
def device(request, monkeypatch):
    """Tests without the engine compute on the CPU, and so in float32, also where there is a GPU."""
    if "engine" not in request.fixturenames:
        for script in {"grpo", "grpo_n", "gspo_n", "guide_grpo", "guide_ppo"} & sys.modules.keys():
            monkeypatch.setattr(sys.modules[script], "GPU", False)
            monkeypatch.setattr(sys.modules[script], "DEVICE", "cpu")


@pytest.fixture
def args():
    return grpo.Args(**TOY)


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(TOY["model"])


@pytest.fixture(scope="session")
def problems(tokenizer):
    return read(grpo, TOY["dataset"], tokenizer, grpo.Args(**TOY))


@pytest.fixture
def policy(args):
    return grpo.Policy(args).to(grpo.DEVICE)


@pytest.fixture(scope="session")
def engine():
    return grpo.start_engine(grpo.Args(**TOY))
