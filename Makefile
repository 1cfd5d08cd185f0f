# GNU make 3.81 is enough. Everything goes into .venv; `make clean` takes it all away.
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Else each worker of the tests translates every test anew, and each child the whole tool.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup test test-slow test-online test-macos fidelity report-check docs lint format lock rehearse kill faults smoke-faults \
	smoke-hosts workflow actionlint fuzz bench clean

help:
	@echo "make rehearse     carry a whole release through look-alikes on this machine"
	@echo "make test         run the tests"
	@echo "make test-slow    run the tests that take longer"
	@echo "make test-online  run the tests that download real signed files from the package indexes"
	@echo "make fidelity     make real Apple signatures again, and say what was derived and copied"
	@echo "make test-macos   on a Mac: let Apple's tools judge what both signers wrote"
	@echo "make report-check open reports of releases in every state in a headless browser, where there is one"
	@echo "make docs         run every command line of the pages, whole releases among them"
	@echo "make lint         formatter, linter, types, layers, workflows"
	@echo "make format       put the code into the one format"
	@echo "make kill         kill a release or a rollback at every write, request and child, and fifty times at random"
	@echo "make faults       let every service of a release fail in every way, and judge what is left"
	@echo "make smoke-faults let a provider be broken in every way, and see it refused by its name"
	@echo "make smoke-hosts  smoke one release on two kinds of hosts, and merge what they saw"
	@echo "make workflow     replay release.yml here, job by job, with what GitHub would give each"
	@echo "make actionlint   let Go's actionlint read the workflows, where there is Go"
	@echo "make fuzz         give 100,000 mutated inputs to each reader of hostile bytes"
	@echo "make bench        ratios against the shell pipeline; 15 GB of scratch for a while"
	@echo "make lock         resolve the dependencies again, with hashes"
	@echo "make clean        remove the environment and every output"

setup: $(READY)

$(READY): requirements.txt pyproject.toml tools/find-python.sh
	@python=$$(sh tools/find-python.sh) || exit 3; \
	echo "Using $$python"; \
	rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
		--require-hashes -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--no-build-isolation -e .
	@touch $(READY)

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m "not online and not slow"

# What the default suite leaves out, but for what the targets below run by themselves.
test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not online" --timeout 900

test-online: $(READY)
	$(BIN)/python -m pytest -m online

fidelity: $(READY)
	$(BIN)/python tools/fidelity.py

# Both signers' work before Apple's own tools; what they say goes to the file SECOND_OPINION.
test-macos: $(READY)
	$(BIN)/python -m pytest -m macos

report-check: $(READY)
	$(BIN)/python -m pytest tests/report --timeout 600

docs: $(READY)
	$(BIN)/python -m pytest tests/pages --timeout 900

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-annotate --no-header pyproject.toml --all-extras --group dev \
		-o requirements.txt

rehearse: $(READY)
	$(BIN)/release-tool rehearse

kill: $(READY)
	$(BIN)/python -m tests.killing
	$(BIN)/python -m pytest -m "not online" tests/stages/test_races.py tests/stages/test_interrupted_release.py \
		tests/stages/test_coordinator_restarts.py tests/cli/test_full_disk.py
	$(BIN)/python -m pytest tests/stages/test_installer_file.py
	$(BIN)/python -m pytest -m "not online" tests/test_kill.py --kills 50 --timeout 3600
	$(BIN)/python -m pytest tests/stages/test_rollback.py tests/stages/test_rollback_on_look_alikes.py \
		tests/cli/test_rollback_command.py

faults: $(READY)
	$(BIN)/python tools/fault_matrix.py

smoke-faults: $(READY)
	$(BIN)/python -m pytest tests/stages/test_smoke_faults.py --timeout 600

smoke-hosts: $(READY)
	$(BIN)/python -m pytest tests/cli/test_smoke_hosts.py --timeout 900

workflow: $(READY)
	$(BIN)/python tools/workflow_replay.py

# Its wheels fetch a program while they are built; Go compares the source with its checksum database.
actionlint:
	go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

fuzz: $(READY)
	$(BIN)/python -m tests.fuzzing

bench: $(READY)
	$(BIN)/python tools/bench.py

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
