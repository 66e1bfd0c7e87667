# Everything from a bare Debian 12 with Rust, make and python3. `make help` lists the targets.

.PHONY: help deps gpu openvino providers tools python build demo test check lint deny manual deb package clean
.DEFAULT_GOAL := help

CARGO ?= cargo
BIN := target/release/oodstream
DEMO := demo.ood.mp4
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
CRATE = target/package/oodstream-$(VERSION)

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | column -t -s '	'

deps: ## system packages and ONNX Runtime (pinned, by hash)
	@scripts/deps.sh

gpu: deps ## ONNX Runtime with the WebGPU provider, for any GPU (pinned, by hash)
	@scripts/onnxruntime.sh onnxruntime-webgpu

openvino: deps ## ONNX Runtime with the OpenVINO provider, for faster CPUs (pinned, by hash)
	@scripts/onnxruntime.sh onnxruntime-openvino

providers: deps ## what the tests of the providers need, in target/providers: both libraries and a software Vulkan
	@scripts/providers.sh

python: ## what the tests of exports, Ray and Kubernetes need, in target/python
	@scripts/python.sh

build: deps ## the program, optimised
	$(CARGO) build --release --locked

demo: build ## mark the unknown things in the sample clip
	$(BIN) run samples/street.mp4 -o $(DEMO) --overwrite
	@echo "The annotated video is $(abspath $(DEMO))"

tools: ## what the tests of the page and the dashboard need: Chromium, and Prometheus in target/tools
	@scripts/tools.sh

test: deps providers tools ## the whole test suite (shaders on lavapipe, WebGPU on SwiftShader)
	OODSTREAM_REQUIRE_GPU=1 OODSTREAM_REQUIRE_PROVIDERS=1 $(CARGO) test --release --locked

check: lint deny ## format, clippy, documents and licences

lint: deps ## rustfmt, clippy and the documents; warnings are errors
	scripts/check_docs.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	# The fuzz targets with the versions of the program; their library is only needed to link them.
	cp Cargo.lock fuzz/Cargo.lock
	CUSTOM_LIBFUZZER_PATH=$(CURDIR)/none $(CARGO) clippy --release --manifest-path fuzz/Cargo.toml --target-dir target -- -D warnings

deny: ## licences, sources and duplicate versions of all dependencies
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny --version 0.20.2
	$(CARGO) deny --locked check bans licenses sources

manual: build ## man pages and shell completions, in target/manual
	$(BIN) manual target/manual

deb: manual ## a Debian package, in target/debian; VARIANT=research adds the default model
	@command -v cargo-deb >/dev/null || $(CARGO) install --locked cargo-deb --version 3.8.0
	$(CARGO) deb --no-build $(if $(VARIANT),--variant $(VARIANT))

package: deps ## the crate: below 10 MB, builds from its own files, passes its unit tests
	$(CARGO) package --locked --no-verify $(PACKAGE)
	test "$$(stat -c %s $(CRATE).crate)" -lt 10000000
	rm -rf $(CRATE) && tar -C target/package -xzf $(CRATE).crate
	$(CARGO) test --release --locked --lib --bins --manifest-path $(CRATE)/Cargo.toml --target-dir target

clean: ## remove what was built
	rm -rf target .deps $(DEMO)
