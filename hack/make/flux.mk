# Flux's controllers and their CRDs, in the versions that hack/flux/go.mod pins, and the journeys with them.

FLUX_DIR := hack/flux
FLUX_CONTROLLERS := source-controller kustomize-controller
FLUX_BINARIES := $(addprefix $(LOCALBIN)/,$(FLUX_CONTROLLERS))
FLUX_TIMEOUT ?= 15m
MODULES += $(FLUX_DIR)/artifact

##@ GitOps

.PHONY: flux
flux: $(FLUX_BINARIES) $(LOCALBIN)/flux-crds ## Build Flux's source-controller and kustomize-controller, with their CRDs, into bin.

.PHONY: test-flux
test-flux: manifests generate $(CONTROL_PLANE) nats-server $(KUSTOMIZE) $(MANAGER) flux ## Run the journeys of docs/gitops-flux.md with Flux's controllers and a git server.
	$(GO_TEST) -timeout $(FLUX_TIMEOUT) -v $(GOTESTFLAGS) ./test/gitops/flux/...

FLUX_SOURCES := $(addprefix $(FLUX_DIR)/,go.mod go.sum) $(wildcard $(FLUX_DIR)/artifact/*/*.go)

$(FLUX_BINARIES): $(FLUX_SOURCES)
	$(call go-build,github.com/fluxcd/$(@F),$(FLUX_DIR))

# The CRDs come with the modules that the controllers are built from. Those of notification-controller, which is not run, are
# generated from its types.
$(LOCALBIN)/flux-crds: $(FLUX_SOURCES) $(FLUX_DIR)/crds.go $(CONTROLLER_GEN)
	@echo "Collecting bin/$(@F)"
	@rm -rf $@.tmp && mkdir -p $@.tmp
	@cd $(FLUX_DIR) && go mod download $(addprefix github.com/fluxcd/,$(FLUX_CONTROLLERS)) && \
	  for controller in $(FLUX_CONTROLLERS); do \
	    install -m 644 -t $@.tmp "$$(go list -m -f '{{.Dir}}' github.com/fluxcd/$$controller)"/config/crd/bases/*.yaml; \
	  done && \
	  $(CONTROLLER_GEN) crd paths=github.com/fluxcd/notification-controller/api/v1beta3 output:crd:dir=$@.tmp
	@rm -rf $@ && mv $@.tmp $@
