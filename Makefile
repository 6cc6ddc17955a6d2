# Each target does its own set-up: system packages when root, and a virtual environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a limit of seconds for each test: it ends what hangs and is no measure
PYTEST := $(BIN)/pytest --timeout 600
READY := $(VENV)/.ready
# what builds, checks and signs releases
TOOLS := build/tools
DIST := dist
CORE := $(wildcard csrc/*/*.c)
# The conversion alone, without the digests of layer.c.
EROFS := $(filter-out %/layer.c,$(wildcard csrc/tar/*.c csrc/erofs/*.c))
# Those that take seconds as they come; fuzz_fec has its own.
FUZZ := fuzz_layer fuzz_leaves fuzz_pax fuzz_tree
FUZZ_SECONDS ?= 60
WARN := -std=c11 -Wall -Wextra -Werror
SANITIZE := $(WARN) -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
LOCK := $(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-header --no-annotate
export PATH := $(PATH):/usr/sbin:/sbin

.PHONY: demo demo-node test bench docs check sanitize test-kernel kernel-table kernel-mldsa cross \
	bochs share sdist wheels test-wheels signed-dist release lock clean

$(READY): pyproject.toml setup.py csrc/build_core.py $(CORE) $(wildcard csrc/*.h csrc/*/*.h) .ci/dev.txt
	.ci/packages build
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r .ci/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

$(TOOLS)/.ready: .ci/release.txt
	.ci/packages build
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# The main job on real input: an image of packages of this machine is signed, verified, and damaged.
demo: $(READY)
	.ci/packages demo
	@cd tests && PYTHONPATH=.:envelope ../$(BIN)/python -c 'import notation; notation.unpacked(*notation.PACKAGE)' \
		2>/dev/null || echo "notation could not be fetched from the machine's mirror of Debian"
	DMSIGN_FAST=$(CURDIR)/$(BIN)/dmsign-fast PYTHON=$(CURDIR)/$(BIN)/python docs/demo.sh demo

# A node that runs only what is signed, in a virtual machine: it mounts an image and refuses others.
demo-node: $(READY)
	.ci/packages test
	cd tests && PYTHONPATH=oci ../$(BIN)/python -m kernel.demo_node

test: $(READY)
	.ci/packages test
	@echo "about 7 minutes on two idle cores, and more at first, when programs are fetched to compare with"
	$(PYTEST) -q -n auto

# Of these only what a Linux kernel, in a virtual machine, says to signed images, good and bad.
test-kernel: $(READY)
	.ci/packages test
	$(PYTEST) -v --tb=short tests/kernel

# A Markdown table on the terminal; JSON and a plot in bench/results.
bench: $(READY)
	.ci/packages bench
	$(BIN)/python bench/run.py

check: $(READY)
	.ci/packages check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for file in $(CORE) csrc/test_*.c csrc/fuzz_*.c; do \
		clang $(WARN) -O2 -fsyntax-only $$file && gcc $(WARN) -O2 -fsyntax-only $$file || exit 1; \
	done

# The C core under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer; then each fuzz
# target for FUZZ_SECONDS.
sanitize:
	.ci/packages check
	mkdir -p build/corpus
	clang $(SANITIZE) $(CORE) csrc/test_core.c -pthread -o build/test_core.asan
	build/test_core.asan
	clang $(WARN) -g -O1 -fsanitize=thread $(CORE) csrc/test_core.c -pthread -o build/test_core.tsan
	TSAN_OPTIONS=die_after_fork=0 build/test_core.tsan
	clang $(SANITIZE) $(CORE) csrc/test_fec.c -pthread -o build/test_fec.asan
	build/test_fec.asan
	clang $(WARN) -g -O1 -fsanitize=thread $(CORE) csrc/test_fec.c -pthread -o build/test_fec.tsan
	DMSIGN_TEST_QUICK=1 build/test_fec.tsan
	clang $(SANITIZE) -fsanitize=fuzzer $(CORE) csrc/fuzz_fec.c -pthread -o build/fuzz_fec
	build/fuzz_fec -max_len=80 -max_total_time=30 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix=build/
	clang $(SANITIZE) $(EROFS) csrc/test_layer.c -pthread \
		-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free -o build/test_layer.asan
	build/test_layer.asan
	tar xzf tests/erofs/corpus.tar.gz -C build/corpus
	for fuzz in $(FUZZ); do \
		case $$fuzz in fuzz_layer | fuzz_leaves) tars=build/corpus ;; *) tars= ;; esac; \
		mkdir -p build/$$fuzz.found && \
		clang $(SANITIZE) -fsanitize=fuzzer $(CORE) csrc/$$fuzz.c -pthread -o build/$$fuzz && \
		build/$$fuzz -dict=tests/erofs/tar.dict -max_len=40000 -max_total_time=$(FUZZ_SECONDS) \
			-rss_limit_mb=4000 -verbosity=0 -print_final_stats=1 -artifact_prefix=build/ \
			build/$$fuzz.found $$tars || exit 1; \
	done

# Not in the environment of tests: mkfs.erofs takes it, too.
share sdist wheels signed-dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)
# Manual pages of every command and completions of shells, which a source distribution and wheels from
# it install: `man -M share/man dmsign-fast-sign`.
share: $(READY)
	rm -rf share
	mkdir -p share/bash-completion/completions share/fish/vendor_completions.d share/zsh/site-functions
	$(BIN)/python docs/man_pages.py share/man/man1
	$(BIN)/dmsign-fast completion bash >share/bash-completion/completions/dmsign-fast
	$(BIN)/dmsign-fast completion fish >share/fish/vendor_completions.d/dmsign-fast.fish
	$(BIN)/dmsign-fast completion zsh >share/zsh/site-functions/_dmsign-fast

# packed again, since setuptools keeps times and modes of the checkout
sdist: share $(TOOLS)/.ready
	rm -rf $(DIST)
	$(TOOLS)/bin/python -m build --no-isolation --sdist --outdir $(DIST)/made . >/dev/null
	cd $(DIST)/made && tar xf *.tar.gz && for name in dmsign_fast-*[0-9]; do \
		tar --sort=name --mtime=@$(SOURCE_DATE_EPOCH) --owner=0 --group=0 --numeric-owner --mode=go=rX \
			--format=posix --pax-option=delete=atime,delete=ctime -cf - $$name | \
			gzip -n9 >../$$name.tar.gz; done
	rm -r $(DIST)/made

# For glibc and musl on x86-64 and ARMv8, all built here, into dist.
wheels: sdist
	PATH=$(CURDIR)/$(TOOLS)/bin:$$PATH .ci/wheels $(DIST)/*.tar.gz $(DIST)

# Those for glibc installed and run in clean roots of Debian and Ubuntu; for musl the C core alone. ARMv8
# by qemu-user.
test-wheels: $(TOOLS)/.ready
	.ci/packages test-wheels
	tests/wheels/musl.sh $(CURDIR)/$(TOOLS)/bin/python-zig
	tests/wheels/run.sh $(DIST)

# dist as a release: checked wheels, SHA256SUMS, and an OCI image of both, signed with KEY, whose
# certificates are in CHAIN and ROOT (PEM); without them by a test key.
signed-dist: wheels
	.ci/packages release
	PATH=$(CURDIR)/$(BIN):$(CURDIR)/$(TOOLS)/bin:$$PATH .ci/release $(DIST) $(KEY) $(CHAIN) $(ROOT)

# The same of a version that CHANGELOG.md names, tried in clean roots.
release:
	.ci/release --ready
	$(MAKE) --no-print-directory signed-dist test-wheels

# The versions and SHA-256 of what tests and releases install, for every Python.
lock: $(TOOLS)/.ready
	$(LOCK) --extra dev pyproject.toml -o .ci/dev.txt
	$(LOCK) --group release -o .ci/release.txt

# The pages and the API, to read in a browser: build/docs/index.html. A warning or dead link fails.
docs: $(READY)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . build/docs

# Implementations that this processor lacks, under emulators.
cross:
	.ci/packages cross
	tests/cross/aarch64.sh
	tests/cross/avx512.sh

# The verdicts of several kernels, for docs/kernel-compatibility.md.
kernel-table: $(READY)
	.ci/packages test
	cd tests && ../$(BIN)/python -m kernel.table ../docs/kernel-compatibility.md

# Those of a small kernel with ML-DSA, which is built once, into .cache/kernel: minutes.
kernel-mldsa: $(READY)
	.ci/packages test
	.ci/packages kernel-mldsa
	cd tests && ../$(BIN)/python -m kernel.mldsa ../docs/kernel-compatibility.md

# AVX-512 instructions one by one in Bochs 3, which Debian 13 has.
bochs:
	.ci/packages bochs
	tests/cross/bochs.sh

clean:
	rm -rf $(VENV) build demo dist share bench/results src/dmsign_fast/*.so src/*.egg-info
