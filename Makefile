# refdepth. `make` lists the targets; `make demo` and `make test` do all their own set-up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON_BOOT ?= python3
VENV ?= .venv
PYTHON := $(VENV)/bin/python
REFDEPTH := $(VENV)/bin/refdepth
# Idle OpenMP workers sleep instead of taking the cores from numba's kernels (pipeline/environment.py).
export OMP_WAIT_POLICY ?= passive
READY := $(VENV)/.refdepth-ready
# The GPU of gpu-check.
GPU ?= $(if $(filter Darwin,$(shell uname -s)),mps,cuda)
# One more than two cores: tests of signals, clusters and slow disks mostly wait.
TEST_PROCESSES ?= 3
SCENES_DIR ?= scenes/data
OUT ?= out

# Libraries of the system that Open3D loads when it is imported.
SYSTEM_PACKAGES := libusb-1.0-0 libegl1 libgl1 libx11-6 libudev1 libidn2-0
# Where there is no NVIDIA GPU, a torch without CUDA packages.
CONSTRAINTS := $(if $(shell command -v nvidia-smi 2>/dev/null),,-c constraints-cpu.txt)

SCENES := $(patsubst scenes/%.toml,%,$(wildcard scenes/*.toml))

##@ Start here
.PHONY: demo
demo: setup ## Make the synthetic photos, reconstruct them, print the depth errors
	$(REFDEPTH) demo $(OUT)/demo

.PHONY: test
test: setup ## Run the tests (some 10 minutes on two cores)
	$(PYTHON) -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(TEST_ARGS)

.PHONY: setup
setup: $(READY) ## Virtual environment, packages and system libraries (done by the others)

$(READY): pyproject.toml constraints-cpu.txt
	@$(PYTHON_BOOT) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON_BOOT=/path/to/python3.11"; exit 1; }
	@test -x $(PYTHON) || $(PYTHON_BOOT) -m venv $(VENV)
	@echo "Installing packages into $(VENV) (about 2 GB; a minute or two) …"
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) -e '.[dev]'
	@if ! $(PYTHON) -c 'import open3d' 2>/dev/null; then \
	  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	    echo "Installing system libraries for Open3D …"; \
	    apt-get update -qq >/dev/null && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(SYSTEM_PACKAGES) >/dev/null; \
	  else \
	    echo "Open3D needs system libraries. Run this, then make again:"; \
	    echo "  sudo apt-get install -y $(SYSTEM_PACKAGES)"; exit 1; \
	  fi; \
	fi
	@$(PYTHON) -c 'import open3d' || { echo "Open3D still cannot be imported, see above."; exit 1; }
	@touch $@

##@ Scenes (photos in SCENES_DIR/NAME/images; set SCENES_DIR=... to yours)
.PHONY: scenes
scenes: ## List the scenes in scenes/*.toml
	@for scene in $(SCENES); do \
	  printf '%-16s %s\n' "$$scene" "$$(sed -n 's/^# *//p;q' scenes/$$scene.toml)"; \
	done

.PHONY: scene-demo
scene-demo: demo

.PHONY: scene-%
scene-%: setup ## Reconstruct a scene into out/NAME and print its evaluation
	@test -f scenes/$*.toml || { echo "No scenes/$*.toml; \`make scenes\` lists what there is."; exit 2; }
	@test -d $(SCENES_DIR)/$*/images || \
	  { echo "No photos in $(SCENES_DIR)/$*/images; set SCENES_DIR=..."; exit 3; }
	@arguments="$$(sed -n 's/^#: //p' scenes/$*.toml)"; \
	$(REFDEPTH) reconstruct $(SCENES_DIR)/$*/images $(OUT)/$* --config scenes/$*.toml \
	  $${arguments//@/$(SCENES_DIR)/$*}
	@if [ -d $(SCENES_DIR)/$*/gt ]; then \
	  $(REFDEPTH) evaluate $(OUT)/$* --ground-truth $(SCENES_DIR)/$*/gt; \
	elif [ -f $(SCENES_DIR)/$*/gt_cameras.json ]; then \
	  $(REFDEPTH) evaluate $(OUT)/$* --ground-truth $(SCENES_DIR)/$*/gt_cameras.json; \
	fi

.PHONY: clean-%
clean-%: ## Remove out/NAME
	rm -rf -- $(OUT)/$*

##@ Documentation
# Photos of your own for `make gallery`, and how they are reconstructed.
GALLERY_PHOTOS ?=
GALLERY_ARGS ?=

.PHONY: gallery
gallery: setup ## Pictures of docs/gallery.md; with GALLERY_PHOTOS=folder those of your photos, in OUT
	@if [ -n "$(GALLERY_PHOTOS)" ]; then \
	  $(REFDEPTH) reconstruct "$(GALLERY_PHOTOS)" $(OUT)/gallery-run $(GALLERY_ARGS); \
	  $(PYTHON) docs/make_gallery.py $(OUT)/gallery-run $(OUT)/gallery.md; \
	else \
	  $(REFDEPTH) demo $(OUT)/demo; \
	  $(PYTHON) docs/make_gallery.py $(OUT)/demo docs/gallery.md; \
	fi

##@ Quality
.PHONY: test-faults
test-faults: setup ## Kills, full disks, damage and odd input at length (up to 30 minutes)
	$(PYTHON) -m pytest -m "faults or not faults" --timeout=1800 \
	  tests/faults tests/fuzz tests/integration/test_input_corpus.py

.PHONY: test-connections
test-connections: setup ## Every entry and export on the demo and on REFDEPTH_SCENES/hololens
	$(PYTHON) -m pytest -m "connections or not connections" --timeout=1800 $(TEST_ARGS) \
	  tests/integration/test_connections_entries.py tests/integration/test_connections_exports.py

.PHONY: fuzz
fuzz: setup ## Feed broken files to every reader for a few minutes
	$(PYTHON) tests/fuzz/fuzz.py --minutes 3

.PHONY: lint
lint: setup ## Style and types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

.PHONY: format
format: setup ## Put the code into shape
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

.PHONY: gpu-check
gpu-check: setup ## On a GPU, whichever there is: tests, the demo, what a view costs
	$(PYTHON) -m pytest -m gpu $(TEST_ARGS)
	$(REFDEPTH) demo $(OUT)/gpu-demo --renderer torch --device $(GPU)
	$(PYTHON) benchmarks/device.py

.PHONY: bench-device
bench-device: setup ## What refining a view costs on the CPU and on a GPU (BENCH_ARGS=--help)
	$(PYTHON) benchmarks/device.py --json benchmarks/results/device.json $(BENCH_ARGS)

.PHONY: kernel-signatures
kernel-signatures: setup ## List anew the kernels that are compiled ahead (minutes)
	$(PYTHON) benchmarks/kernel_signatures.py

.PHONY: bench-renderer
bench-renderer: setup ## Time the renderer against other ways
	$(PYTHON) benchmarks/renderer.py

.PHONY: bench-accuracy
bench-accuracy: setup ## Measure the depth of every preset on synthetic and given scenes
	$(PYTHON) benchmarks/accuracy.py

.PHONY: bench-throughput
bench-throughput: setup ## Views a minute of whole runs (BENCH_ARGS=--help: what else)
	$(PYTHON) benchmarks/throughput.py --json benchmarks/results/throughput.json $(BENCH_ARGS)

.PHONY: bench-scale
bench-scale: setup ## Every stage for 100 to 1,000 views (BENCH_ARGS="--views 3000")
	$(PYTHON) benchmarks/scale.py --json benchmarks/results/scale.json $(BENCH_ARGS)

.PHONY: bench-large-photos
bench-large-photos: setup ## Every stage for 23 photos of 12 megapixels and of 2
	$(PYTHON) benchmarks/large_photos.py --json benchmarks/results/large_photos.json $(BENCH_ARGS)

.PHONY: bench-detail
bench-detail: setup ## What each quality resolves of thin bars and small relief, 2 and 12 megapixels
	$(PYTHON) benchmarks/detail.py --json benchmarks/results/detail.json $(BENCH_ARGS)

.PHONY: bench-scale-sfm
bench-scale-sfm: setup ## Cameras of 300 photos with every matching and mapper (BENCH_ARGS=--help)
	$(PYTHON) benchmarks/scale_sfm.py $(BENCH_ARGS)

.PHONY: bench-scale-pairs
bench-scale-pairs: setup ## Choosing pairs among up to 10,000 photos, made-up descriptors
	$(PYTHON) benchmarks/scale_pairs.py $(BENCH_ARGS)

.PHONY: bench-looking
bench-looking: setup ## Status, report, clean and viewer on faked runs of up to 10,000 views
	$(PYTHON) benchmarks/looking.py $(BENCH_ARGS)

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-zA-Z_%-]+:.*## / {sub("%", "NAME", $$1); printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
