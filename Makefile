# The ways to build, test and try Ovenbird. `make setup` is part of those that need it.

PREFIX ?= /usr/local
CARGO ?= cargo
OVENBIRD = target/release/ovenbird
TEST_HOME = target/ovenbird-test/home

.PHONY: help setup setup-run setup-bench build demo build-tests test test-base bench torture lint install

help: ## Show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## Install what this machine lacks for the tests, through its package manager
	@.ci/setup

setup-run: ## The same for building and baking only
	@.ci/setup run

setup-bench: ## The same, with the rivals that the benchmarks run
	@.ci/setup bench

build: ## Build the release binary
	$(CARGO) build --release

demo: setup-run build ## Bake, test and deliver a machine image, from nothing
	$(OVENBIRD) base build debian-12 --if-missing
	$(OVENBIRD) build recipes/demo.yml

# Tests that boot a guest share one base image. It is built once and stays, as long as target/ does.
test-base: build-tests ## Build the base image that the tests share
	target/debug/ovenbird --home $(TEST_HOME) base build debian-12 --if-missing

# By the runner itself: `cargo run` would build many crates a second time, with the features that only tests switch on left out.
build-tests: setup
	$(CARGO) nextest run --workspace --no-run

test: setup test-base ## Run all tests, those that boot guests too
	OVENBIRD_TEST_HOME=$(CURDIR)/$(TEST_HOME) $(CARGO) nextest run --workspace

# What takes too long for every run: bakes that are killed at random moments, many bakes at once, an image that is hardened.
torture: setup test-base ## Run the long trials
	OVENBIRD_TEST_HOME=$(CURDIR)/$(TEST_HOME) $(CARGO) nextest run --run-ignored only --no-capture -E 'test(torture) or test(hardening)'

bench: setup-bench build ## Run the benchmarks, rivals side by side
	$(OVENBIRD) base build debian-12 --if-missing
	OVENBIRD=$(OVENBIRD) benches/bake-vs-packer.sh
	$(CARGO) run --release --quiet --example store-scale -- $(OVENBIRD)
	benches/agent.sh
	OVENBIRD=$(OVENBIRD) benches/hardening.sh
	OVENBIRD=$(OVENBIRD) benches/ebs.sh
	OVENBIRD=$(OVENBIRD) benches/ebs.sh 1 100
	benches/disk.sh "$$($(OVENBIRD) base show debian-12 --json | jq -r '.folder + "/" + .disk')"

lint: ## Check format, lints, documentation and dependencies
	$(CARGO) fmt --all --check
	shellcheck .ci/setup .ci/run benches/*.sh
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	@command -v cargo-deny > /dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --workspace check

install: build ## Install binary, man pages, completions and the scheduler's unit below PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/lib/systemd/user \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	install -m 755 $(OVENBIRD) $(DESTDIR)$(PREFIX)/bin/ovenbird
	$(OVENBIRD) man $(DESTDIR)$(PREFIX)/share/man/man1
	$(OVENBIRD) completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/ovenbird
	$(OVENBIRD) completions zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_ovenbird
	sed 's|@PREFIX@|$(PREFIX)|' packaging/ovenbird-scheduler.service \
		> $(DESTDIR)$(PREFIX)/lib/systemd/user/ovenbird-scheduler.service
	@echo "to run pipelines by their schedules: systemctl --user enable --now ovenbird-scheduler"
