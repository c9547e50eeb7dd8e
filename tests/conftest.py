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

TOY = dict(
    model=str(ROOT / "toy/model"), dataset=str(ROOT / "toy/train.jsonl"), eval_dataset=str(ROOT / "toy/test.jsonl"),
    max_prompt_tokens=128, max_response_tokens=64, problems=24, lr=2e-4,
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
    return grpo.Policy(args)


@pytest.fixture(scope="session")
def engine():
    return grpo.start_engine(grpo.Args(**TOY))
