# The image that docker-build makes and deploy runs.
IMG ?= controller:latest
# The container engine: docker, podman or another with the same commands.
CONTAINER_TOOL ?= docker
# What docker-buildx builds for.
PLATFORMS ?= linux/amd64,linux/arm64

SHELL = /usr/bin/env bash -o pipefail
.SHELLFLAGS = -ec
# A file target whose recipe failed is not taken for good.
.DELETE_ON_ERROR:
# What is generated is then formatted, vetted and built: in the order in which it stands, also with make -j. go uses all cores anyway.
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules

LOCALBIN := $(CURDIR)/bin
TOOLS_DIR := hack/tools
CONTROLLER_GEN := $(LOCALBIN)/controller-gen
CRD_REF_DOCS := $(LOCALBIN)/crd-ref-docs
GOLANGCI_LINT := $(LOCALBIN)/golangci-lint
KUSTOMIZE := $(LOCALBIN)/kustomize
MANAGER := $(LOCALBIN)/manager
NATS := $(LOCALBIN)/nats
NATS_SERVER := $(LOCALBIN)/nats-server

# The control plane of the tests and the demo: hack/controlplane/go.mod pins it.
K8S_VERSION := $(shell awk '$$1 == "k8s.io/kubernetes" && $$2 ~ /^v/ { print $$2; exit }' hack/controlplane/go.mod)
K8S_DIR := $(LOCALBIN)/k8s/$(K8S_VERSION)

# Somebody's own control plane (KUBEBUILDER_ASSETS) or, in tests, cluster (USE_EXISTING_CLUSTER=true) is used in place of
# ours, which is then not built. envtest's own downloads lack kube-controller-manager, which only the demo, the bench and
# the end-to-end tests need.
ifeq ($(strip $(KUBEBUILDER_ASSETS)),)
override KUBEBUILDER_ASSETS := $(K8S_DIR)
API_SERVER := control-plane
CONTROL_PLANE := control-plane
else
API_SERVER :=
CONTROL_PLANE := $(if $(wildcard $(KUBEBUILDER_ASSETS)/kube-controller-manager),,control-plane)
endif
export KUBEBUILDER_ASSETS
existing-cluster-or = $(if $(filter true,$(USE_EXISTING_CLUSTER)),,$(1))
# The kubectl that control-plane builds where none is installed is found by everything that runs here.
export PATH := $(PATH):$(K8S_DIR)
KUBECTL ?= kubectl

# RACE=1 runs the tests with the race detector, which needs a C compiler.
RACE ?=
# More flags for go test, such as GOTESTFLAGS='-run TestBuild -v'.
GOTESTFLAGS ?=
# How long the tests of a package may take. A suite that hangs must not use up the time that .ci/run has for all.
TEST_TIMEOUT ?= 20m
E2E_TIMEOUT ?= 30m
# More arguments for what run, demo and the benches start, such as ARGS=--zap-log-level=debug.
ARGS ?=
# What uninstall and undeploy do about objects that are not there.
ignore-not-found ?= false

# Results of tests against real servers say nothing about the next run: they are not cached.
GO_TEST = go test $(if $(filter 1 true yes,$(RACE)),-race) -count=1

# Directories with a go.mod that has to be tidy. Not hack/tools/natscli and hack/flux: to tidy them, go wants modules that only
# the tests of their dependencies use.
MODULES = . $(TOOLS_DIR) $(TOOLS_DIR)/golangci-lint hack/controlplane

.DEFAULT_GOAL := help

##@ General

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## "; print "Usage: make <target> [VARIABLE=value ...]" } \
	  /^##@/ { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-zA-Z0-9_-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: all
all: build

##@ Try it

.PHONY: demo
demo: $(CONTROL_PLANE) nats-server $(MANAGER) ## Show the whole of it on this machine until Ctrl-C; ONCE=1 ends by itself.
	@go build -o $(LOCALBIN)/demo ./hack/demo
	@exec $(LOCALBIN)/demo $(if $(filter 1 true yes,$(ONCE)),--once) $(ARGS)

.PHONY: bench
bench: $(CONTROL_PLANE) nats-server $(MANAGER) ## Measure, and print the figures as one line of JSON at the end.
	@go build -o $(LOCALBIN)/bench ./hack/bench
	@exec $(LOCALBIN)/bench $(ARGS)

.PHONY: bench-migrate
bench-migrate: $(CONTROL_PLANE) nats-server $(MANAGER) ## Measure the migration beside its alternatives; figures as one line of JSON at the end.
	@go build -o $(LOCALBIN)/bench-migrate ./hack/bench-migrate
	@exec $(LOCALBIN)/bench-migrate $(ARGS)

.PHONY: bench-store
bench-store: nats-server ## Measure auditstore beside what it replaces; figures as one line of JSON at the end.
	@go build -o $(LOCALBIN)/bench-store ./hack/bench-store
	@exec $(LOCALBIN)/bench-store $(ARGS)

##@ Development

.PHONY: manifests
manifests: $(CONTROLLER_GEN) ## Generate the CRD and the operator's ClusterRole from the markers in the Go code.
	$(CONTROLLER_GEN) rbac:roleName=manager-role crd paths=./api/... paths=./internal/controller/... paths=./cmd/... \
	  output:crd:artifacts:config=config/crd/bases output:rbac:artifacts:config=config/rbac

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate the DeepCopy methods of the API types.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...

.PHONY: docs-api
docs-api: $(CRD_REF_DOCS) ## Generate the API reference in docs/api.
	@mkdir -p docs/api
	$(CRD_REF_DOCS) --log-level=WARN --source-path=./api --config=hack/api-docs/config.yaml --renderer=markdown \
	  --templates-dir=hack/api-docs --output-path=docs/api/v1alpha1.md

.PHONY: fmt
fmt: ## Format the Go code.
	go fmt ./...

.PHONY: vet
vet: ## Run go vet.
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Run golangci-lint, with kube-api-linter for api/.
	$(GOLANGCI_LINT) run

.PHONY: lint-fix
lint-fix: $(GOLANGCI_LINT) ## Run golangci-lint and mend what it can.
	$(GOLANGCI_LINT) run --fix

.PHONY: verify
verify: $(CONTROLLER_GEN) $(CRD_REF_DOCS) $(KUSTOMIZE) lint vet ## Run lint and vet; fail where generated files, go.mod files or formatting are not up to date.
	@KUSTOMIZE=$(KUSTOMIZE) hack/verify.sh $(MODULES)

##@ Tests

.PHONY: test
test: manifests generate $(call existing-cluster-or,$(API_SERVER)) nats-server ## Run the unit, API-validation and controller tests; RACE=1 with the race detector.
	@packages=$$(go list ./... | grep -vE '/test/(e2e|chaos|gitops|upgrade|baddays|pods|metrics)'); set -x; \
	$(GO_TEST) -timeout $(TEST_TIMEOUT) $(GOTESTFLAGS) $$packages

.PHONY: test-e2e
test-e2e: manifests generate $(call existing-cluster-or,$(CONTROL_PLANE)) nats-server $(NATS) $(KUSTOMIZE) $(MANAGER) ## Run the end-to-end journeys, docs/migration.md and test/chaos, with the manager as a process of its own.
	$(GO_TEST) -p 1 -timeout $(E2E_TIMEOUT) -v $(GOTESTFLAGS) ./test/e2e/... ./test/chaos/...

##@ Build

.PHONY: build
build: manifests generate fmt vet $(MANAGER) ## Build the manager as bin/manager.

.PHONY: run
run: manifests generate ## Run the manager here, against the cluster of the current kubeconfig.
	go run ./cmd/manager $(ARGS)

# What the image says of itself; the versions are hack/make/image.mk's.
IMAGE_LABELS = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
  --build-arg CREATED=$$(date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%dT%H:%M:%SZ)

.PHONY: docker-build
docker-build: container-engine ## Build the manager's image as IMG.
	$(CONTAINER_TOOL) build $(IMAGE_LABELS) -t $(IMG) .

.PHONY: docker-push
docker-push: container-engine ## Push the image IMG.
	$(CONTAINER_TOOL) push $(IMG)

.PHONY: docker-buildx
docker-buildx: container-engine ## Build and push IMG for every one of PLATFORMS.
	@$(CONTAINER_TOOL) buildx version >/dev/null 2>&1 || { \
	  echo "docker-buildx needs the buildx plugin, which $(CONTAINER_TOOL) does not have here." >&2; exit 1; }
	$(CONTAINER_TOOL) buildx inspect auditstream-operator >/dev/null 2>&1 || \
	  $(CONTAINER_TOOL) buildx create --name auditstream-operator
	$(CONTAINER_TOOL) buildx build --builder auditstream-operator $(IMAGE_LABELS) --push --platform=$(PLATFORMS) --tag $(IMG) .

.PHONY: container-engine
container-engine:
	@command -v "$(CONTAINER_TOOL)" >/dev/null || { \
	  echo "This needs a container engine, and $(CONTAINER_TOOL) is not installed: install it, or set CONTAINER_TOOL to" \
	    "another, docker or podman." >&2; exit 1; }
	@message=$$("$(CONTAINER_TOOL)" info 2>&1 >/dev/null) || { \
	  echo "This needs a container engine, and $(CONTAINER_TOOL) does not answer: start its service, or set CONTAINER_TOOL to" \
	    "another, docker or podman. It says:" >&2; echo "$$message" >&2; exit 1; }

.PHONY: build-installer
build-installer: manifests generate $(KUSTOMIZE) ## Write dist/install.yaml: all that a cluster needs, with IMG as the image.
	@mkdir -p dist
	$(call with-image) >dist/install.yaml.tmp
	@mv dist/install.yaml.tmp dist/install.yaml
	@echo "dist/install.yaml is ready: kubectl apply --server-side -f dist/install.yaml"

##@ Deployment

.PHONY: install
install: manifests $(KUSTOMIZE) kubectl ## Install the CRD into the cluster of the current kubeconfig.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) apply --server-side -f -

.PHONY: uninstall
uninstall: manifests $(KUSTOMIZE) kubectl ## Delete the CRD and with it every AuditStream; ignore-not-found=true tolerates its absence.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) delete --ignore-not-found=$(ignore-not-found) -f -

.PHONY: deploy
deploy: manifests $(KUSTOMIZE) kubectl ## Deploy the operator with the image IMG to the cluster of the current kubeconfig.
	$(call with-image) | $(KUBECTL) apply --server-side -f -

# The CRD goes first, while the operator still runs and can do what deletionPolicy: Delete asks of it. It is the one object
# without this label.
.PHONY: undeploy
undeploy: $(KUSTOMIZE) kubectl ## Delete the operator, the CRD and every AuditStream; ignore-not-found=true tolerates their absence.
	$(KUSTOMIZE) build config/crd | $(KUBECTL) delete --ignore-not-found=true --timeout=2m -f -
	$(KUSTOMIZE) build config/default | $(KUBECTL) delete --ignore-not-found=$(ignore-not-found) --timeout=2m \
	  -l app.kubernetes.io/name=auditstream-operator -f -

# config/default with IMG as the manager's image. kustomize edit would do it too, but would leave the tree dirty.
with-image = $(KUSTOMIZE) build config/default | sed 's|image: controller:latest$$|image: $(IMG)|'

.PHONY: kubectl
kubectl:
	@command -v "$(KUBECTL)" >/dev/null || { \
	  echo "This needs kubectl: install it, or build it with make control-plane." >&2; exit 1; }

##@ Dependencies

.PHONY: control-plane
control-plane: ## Build etcd, kube-apiserver, kube-controller-manager and, where none is installed, kubectl into bin/k8s.
	@hack/controlplane/build.sh $(LOCALBIN)/k8s

.PHONY: nats-server
nats-server: $(NATS_SERVER) ## Build bin/nats-server in the version that go.mod pins.

.PHONY: tools
tools: controller-gen crd-ref-docs kustomize golangci-lint nats ## Build the tools that hack/tools pins into bin.

.PHONY: controller-gen crd-ref-docs kustomize golangci-lint nats
controller-gen: $(CONTROLLER_GEN)
crd-ref-docs: $(CRD_REF_DOCS)
kustomize: $(KUSTOMIZE)
golangci-lint: $(GOLANGCI_LINT)
nats: $(NATS)

.PHONY: clean
clean: ## Delete what was built, except the control plane, which takes minutes.
	rm -rf .demo
	if [ -d dist ]; then find dist -mindepth 1 -maxdepth 1 ! -name install.yaml -exec rm -rf {} +; fi
	if [ -d bin ]; then find bin -mindepth 1 -maxdepth 1 ! -name k8s -exec rm -rf {} +; fi

.PHONY: clean-all
clean-all: clean ## Delete the control plane as well.
	rm -rf bin

# A program appears under its name only once it is whole, also when two of us build at once.
define go-build # <package> <directory of its module>
	@mkdir -p $(@D)
	@echo "Building bin/$(@F)"
	@CGO_ENABLED=0 go build -C $(2) -trimpath -ldflags '-s -w' -o $@.tmp.$$$$ $(1) && mv -f $@.tmp.$$$$ $@ || { rm -f $@.tmp.$$$$; exit 1; }
endef

# The tools are built again only when their versions change.
TOOLS_MOD := $(TOOLS_DIR)/go.mod $(TOOLS_DIR)/go.sum

$(CONTROLLER_GEN): $(TOOLS_MOD)
	$(call go-build,sigs.k8s.io/controller-tools/cmd/controller-gen,$(TOOLS_DIR))

$(KUSTOMIZE): $(TOOLS_MOD)
	$(call go-build,sigs.k8s.io/kustomize/kustomize/v5,$(TOOLS_DIR))

$(CRD_REF_DOCS): $(TOOLS_MOD)
	$(call go-build,github.com/elastic/crd-ref-docs,$(TOOLS_DIR))

$(GOLANGCI_LINT): $(addprefix $(TOOLS_DIR)/golangci-lint/,go.mod go.sum main.go)
	$(call go-build,.,$(TOOLS_DIR)/golangci-lint)

$(NATS): $(addprefix $(TOOLS_DIR)/natscli/,go.mod go.sum)
	$(call go-build,github.com/nats-io/natscli/nats,$(TOOLS_DIR)/natscli)

$(NATS_SERVER): go.mod go.sum
	$(call go-build,github.com/nats-io/nats-server/v2,.)

# Whether the manager is up to date is for the go command to know.
$(MANAGER): FORCE
	$(call go-build,./cmd/manager,.)

.PHONY: FORCE
FORCE:

# Targets of one subject each.
include $(wildcard hack/make/*.mk)
