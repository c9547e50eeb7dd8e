# make demo: train on the toy and watch.  make test: check everything.  Both set up .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -q . && echo yes)
WORKERS := $(if $(GPU),0,2)# test files side by side; one GPU holds one engine

.PHONY: demo test setup

demo: setup
	@echo "Guide-GRPO on the toy: 24 problems x 8 responses a step, 160 steps, a few minutes on two CPU cores"
	$(BIN)/python guide_grpo.py --model toy/model --dataset toy/train.jsonl --eval-dataset toy/test.jsonl \
		--max-prompt-tokens 128 --max-response-tokens 64 --problems 24 --steps 160 --lr 2e-4

test: setup
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q --durations=10 -n $(WORKERS) --dist loadfile

setup: .venv/ready

ifeq ($(GPU),yes)
.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -r requirements.txt
	touch $@
else
.venv/ready: requirements-cpu.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install torch==2.13.0+cpu || { echo "pip finds no CPU build of torch: set PIP_EXTRA_INDEX_URL to PyTorch's index \
		of CPU wheels (pytorch.org, Get Started, Compute Platform: CPU) and run make again"; exit 1; }
	$(BIN)/pip install -r requirements-cpu.txt
	$(BIN)/pip uninstall -y torchvision torchaudio torchcodec
	touch $@
endif
