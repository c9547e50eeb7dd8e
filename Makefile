# make demo: train on the toy and watch.  make test: check everything.  Both set up .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
GPU := $(shell nvidia-smi -L 2>/dev/null | grep -q . && echo yes)
DEMO := demo-$(shell date +%Y%m%d-%H%M%S)
WORKERS := $(if $(GPU),0,2)# test files side by side; one GPU holds one engine
LONGEST := runs faults ranks models evaluate sandbox verifiers hints report# first, so that no core is idle at the end
TESTS := $(LONGEST:%=tests/test_%.py)
TESTS += $(filter-out $(TESTS),$(wildcard tests/test_*.py))

.PHONY: demo test test-slow setup

demo: setup
	@echo "Guide-GRPO on the toy: 24 problems x 8 responses a step, 160 steps, a few minutes on two CPU cores"
	$(BIN)/python guide_grpo.py --model toy/model --dataset toy/train.jsonl --eval-dataset toy/test.jsonl \
		--max-prompt-tokens 128 --max-response-tokens 64 --problems 24 --steps 160 --lr 2e-4 --name $(DEMO)
	$(BIN)/python report.py runs/$(DEMO)

test: setup
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS) -q --durations=10 -n $(WORKERS) \
		--dist loadfile --no-loadscope-reorder

test-slow: setup  # every model family, a run killed twenty times, and the mistakes that docs/details.md warns of
	KILLS=20 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q --slow -n $(WORKERS) --dist loadfile

setup: .venv/ready

.venv/ready: $(if $(GPU),requirements.txt,requirements-cpu.txt)
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) or sys.exit("Python 3.11 to 3.13 is needed, and \
	this is " + sys.version.split()[0] + ": make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
ifeq ($(GPU),yes)
	$(BIN)/pip install -r requirements.txt
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("nvidia-smi works, but torch finds no \
	GPU: this torch is built for CUDA 13, which wants a driver of version 580 or newer"); \
	torch.cuda.get_device_capability() >= (8, 0) or sys.exit("this GPU is older than compute capability 8.0 (A100, \
	RTX 30): it has no bfloat16 for the policy and the sampler")'
else
	$(BIN)/pip install torch==2.13.0+cpu || \
		$(BIN)/pip install torch==2.13.0+cpu --index-url https://download.pytorch.org/whl/cpu
	$(BIN)/pip install -r requirements-cpu.txt
	$(BIN)/pip uninstall -y torchvision torchaudio torchcodec
endif
	touch $@
