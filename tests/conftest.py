"""What the tests share: the toy's problems, its policy, and one real vLLM engine for the whole session."""

import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import grpo  # noqa: E402

TOY = dict(
    model=str(ROOT / "toy/model"), dataset=str(ROOT / "toy/train.jsonl"), eval_dataset=str(ROOT / "toy/test.jsonl"),
    max_prompt_tokens=128, max_response_tokens=64, problems=24, lr=2e-4,
)


@pytest.fixture
def args():
    return grpo.Args(**TOY)


@pytest.fixture(scope="session")
def tokenizer():
    return AutoTokenizer.from_pretrained(TOY["model"])


@pytest.fixture(scope="session")
def problems(tokenizer):
    return grpo.load_problems(TOY["dataset"], tokenizer, grpo.Args(**TOY))


@pytest.fixture
def policy(args):
    return grpo.Policy(args)


@pytest.fixture(scope="session")
def engine():
    return grpo.start_engine(grpo.Args(**TOY))
