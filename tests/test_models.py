"""Tiny random models of each family go through three steps of grpo.py: sampler and trainer must agree at every one, or
a sentence must say what is not supported.

    python -m pytest tests/test_models.py           # a family of each kind
    python -m pytest tests/test_models.py --slow    # every family
    python tests/test_models.py                     # every family, into results/families.md

One process trains them one after another, without compiling: apart from the tests' own, which have another engine.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import AS_ON_GPU, MEAN_GAP, ROOT, TOY
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from vllm.distributed import cleanup_dist_env_and_memory

import grpo

# The sizes in the names of most families. A family's own come after them
TINY = dict(
    vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=64, max_position_embeddings=512, initializer_range=0.1,
    bos_token_id=None, eos_token_id=1, pad_token_id=0,
)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=128)
FAMILIES = {
    "Llama": ("llama", {}),
    "Llama, tied": ("llama", dict(tie_word_embeddings=True)),
    "Qwen2": ("qwen2", {}),
    "Qwen3": ("qwen3", dict(tie_word_embeddings=True)),
    "Mistral": ("mistral", {}),
    "Ministral": ("ministral", {}),
    "Ministral 3": ("ministral3", {}),
    "Gemma": ("gemma", {}),
    "Gemma 2": ("gemma2", dict(query_pre_attn_scalar=64, final_logit_softcapping=2.0, attn_logit_softcapping=5.0)),
    "Gemma 3, text": ("gemma3_text", dict(query_pre_attn_scalar=64)),
    "Gemma 4, text": ("gemma4_text", dict(
        final_logit_softcapping=2.0, global_head_dim=64, hidden_size_per_layer_input=0, vocab_size_per_layer_input=256,
    )),
    "Phi-3": ("phi3", dict(rope_scaling=None)),
    "Phi": ("phi", dict(num_key_value_heads=2)),
    "SmolLM3": ("smollm3", {}),
    "OLMo": ("olmo", {}),
    "OLMo-2": ("olmo2", {}),
    "OLMo-3": ("olmo3", {}),
    "GPT-NeoX": ("gpt_neox", dict(hidden_dropout=0.1, attention_dropout=0.1)),
    "GPT-2": ("gpt2", {}),
    "GPT-J": ("gptj", dict(rotary_dim=32)),
    "StarCoder": ("gpt_bigcode", {}),
    "OPT": ("opt", dict(ffn_dim=256, word_embed_proj_dim=128)),
    "StableLM": ("stablelm", {}),
    "Starcoder2": ("starcoder2", {}),
    "GLM": ("glm", {}),
    "GLM-4": ("glm4", {}),
    "EXAONE-4": ("exaone4", {}),
    "Granite": ("granite", dict(logits_scaling=4.0, residual_multiplier=0.5, embedding_multiplier=3.0,
                                attention_multiplier=0.1)),
    "Cohere": ("cohere", dict(logit_scale=0.25)),
    "Cohere 2": ("cohere2", dict(logit_scale=0.25)),
    "Nanochat": ("nanochat", {}),
    "Nemotron": ("nemotron", {}),
    "Seed-OSS": ("seed_oss", {}),
    "Apertus": ("apertus", {}),
    "Arcee": ("arcee", {}),
    "Hunyuan": ("hunyuan_v1_dense", {}),
    "Helium": ("helium", {}),
    "ERNIE 4.5": ("ernie4_5", {}),
    "Bloom": ("bloom", {}),
    "Falcon": ("falcon", dict(num_kv_heads=1)),
    "Mixtral": ("mixtral", dict(num_local_experts=4, num_experts_per_tok=2)),
    "Qwen2-MoE": ("qwen2_moe", EXPERTS | dict(shared_expert_intermediate_size=128)),
    "Qwen3-MoE": ("qwen3_moe", EXPERTS),
    "OLMoE": ("olmoe", EXPERTS),
    "Granite-MoE": ("granitemoe", dict(num_local_experts=4, num_experts_per_tok=2, logits_scaling=4.0)),
    "Granite 4, hybrid": ("granitemoehybrid", dict(
        layer_types=["mamba", "attention"], mamba_n_heads=4, mamba_d_head=64, num_local_experts=0,
        shared_intermediate_size=256, logits_scaling=4.0,
    )),
    "Hunyuan-MoE": ("hunyuan_v1_moe", dict(num_experts=4, moe_topk=2)),
    "Solar Open": ("solar_open", dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=128)),
    "ERNIE 4.5 MoE": ("ernie4_5_moe", dict(moe_num_experts=4, moe_k=2, moe_intermediate_size=128)),
    "GPT-OSS": ("gpt_oss", dict(num_local_experts=4, num_experts_per_tok=2)),
    "Falcon-H1": ("falcon_h1", dict(lm_head_multiplier=0.5)),
}
FAST = "Gemma 2", "OLMo-2", "GPT-2", "Cohere", "OLMoE", "Falcon-H1"
INEXACT = {"Apertus": "vLLM keeps the alphas of xIELU in bfloat16, the trainer in float32: a gap of 1e-4 to 1e-3"}
REFUSED = {
    "Falcon-H1": "FalconH1ForCausalLM changes its logits",
    "GPT-OSS": "the sync of weights fails",
    "ERNIE 4.5 MoE": "with the same weights, sampler and trainer differ",
    "Bloom": "vLLM does not take the weights of BloomForCausalLM in a sync",
}
VERIFIER = '''def even(response, answer):
    return "right" if len(response.encode()) % 2 == 0 else "wrong"
'''


def build(model_type: str, sizes: dict, folder: Path):
    """A random model of the family in a folder with the toy's tokenizer. No norm stays 1, and no bias or buffer 0."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type)
    known = config.to_dict() | config.attribute_map
    tiny = {name: value for name, value in TINY.items() if name in known}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **tiny | sizes))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
        for name, buffer in model.named_buffers():
            if name in model.state_dict() and buffer.is_floating_point():
                buffer.add_(0.05 * torch.randn_like(buffer))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TOY["model"]).save_pretrained(folder)


def train(family: str, work: Path) -> list[float] | str:
    """The mean gap at each of three steps, or the sentence that ended the run."""
    cleanup_dist_env_and_memory()  # of the engine before: a later garbage collection would take this one's groups
    os.chdir(work)
    build(*FAMILIES[family], work / "model")
    Path("verifier.py").write_text(VERIFIER)
    args = grpo.Args(
        **TOY | dict(model=str(work / "model"), problems=4, max_response_tokens=16, lr=1e-3), name="run",
        steps=3, group_size=4, verifier="verifier.py:even", eval_problems=2, eval_samples=1, kl_coef=0.01,
        gradient_checkpointing=True,
    )
    try:
        grpo.main(args)
    except SystemExit as e:
        return str(e)
    lines = Path("runs/run/metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["sampler/logprob_gap_mean"] for line in lines[1:]]


def marks(family: str) -> list:
    slow = [] if family in FAST else [pytest.mark.slow]
    return slow + ([pytest.mark.xfail(strict=True, reason=INEXACT[family])] if family in INEXACT else [])


@pytest.fixture(scope="module")
def results(request):
    """What `train` says of each family, and of Llama with a sync that does nothing."""
    families = FAMILIES if request.config.getoption("--slow") else FAST
    done = subprocess.run([sys.executable, __file__, *families, "no sync"], capture_output=True, text=True,
                          env=os.environ | {"TORCHDYNAMO_DISABLE": "1", "VLLM_USE_AOT_COMPILE": "0"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("family", [pytest.param(family, marks=marks(family)) for family in FAMILIES])
def test_sampler_and_trainer_agree_or_a_sentence_says_what_is_not_supported(family, results):
    if family in REFUSED:
        assert REFUSED[family] in results[family]
    else:
        assert len(results[family]) == 3 and max(results[family]) < (MEAN_GAP if AS_ON_GPU else 1e-4)


def test_weights_that_do_not_arrive_are_blamed_on_the_sync(results):
    assert "the sync of weights fails" in results["no sync"]


def test_a_checkpoint_holds_buffers_and_a_tied_weight_once(tmp_path):
    build(*FAMILIES["Gemma 4, text"], tmp_path / "model")
    args = grpo.Args(**TOY | dict(model=str(tmp_path / "model")))
    policy = grpo.Policy(args)
    grpo.save_checkpoint(policy, AutoTokenizer.from_pretrained(args.model), {}, tmp_path, 1, args)
    saved = load_file(tmp_path / "step_000001/model.safetensors")
    assert "model.layers.0.layer_scalar" in saved and "lm_head.weight" not in saved
    again = grpo.load_checkpoint(tmp_path, args)[0].lm.state_dict()
    assert all(torch.equal(w, again[name]) for name, w in policy.lm.state_dict().items())


def table():
    """Writes results/families.md, a row when a family is done."""
    with open(ROOT / "results/families.md", "w", buffering=1) as file:
        print("Mean |log π_trainer − log π_sampler| in nats per token at three steps of grpo.py at a learning rate of "
              "1e-3,\nin float32 on a CPU, for a random model of two layers of each family: "
              "`python tests/test_models.py`\n\n"
              "| family | model_type | step 1 | step 2 | step 3 |\n| --- | --- | --- | --- | --- |", file=file)
        for family, (model_type, _) in FAMILIES.items():
            gaps = train(family, Path(tempfile.mkdtemp()))
            cells = [f"{gap:.1e}" for gap in gaps] if isinstance(gaps, list) else [gaps.split(". ")[0], "", ""]
            print("|", " | ".join([family, model_type, *cells]), "|", file=file)


if __name__ == "__main__" and sys.argv[1:]:
    said = {family: train(family, Path(tempfile.mkdtemp())) for family in sys.argv[1:-1]}
    grpo.sync_weights = print
    print("\n" + json.dumps(said | {"no sync": train("Llama", Path(tempfile.mkdtemp()))}))
elif __name__ == "__main__":
    table()
