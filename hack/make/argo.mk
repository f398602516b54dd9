# Argo CD: what it knows of AuditStreams (config/argocd), and the journey with its engine.

GITOPS_ENGINE_DIR := hack/gitops-engine
GITOPS_AGENT := $(LOCALBIN)/gitops-agent
ARGOCD_TIMEOUT ?= 15m
MODULES += $(GITOPS_ENGINE_DIR)

##@ GitOps with Argo CD

.PHONY: gitops-agent
gitops-agent: $(GITOPS_AGENT) ## Build the agent of Argo CD's gitops-engine, which hack/gitops-engine pins, into bin.

$(GITOPS_AGENT): $(addprefix $(GITOPS_ENGINE_DIR)/,go.mod go.sum)
	$(call go-build,github.com/argoproj/gitops-engine/agent,$(GITOPS_ENGINE_DIR))

.PHONY: test-argocd
test-argocd: manifests generate $(CONTROL_PLANE) nats-server $(KUSTOMIZE) $(MANAGER) $(GITOPS_AGENT) ## Run the journey with Argo CD's engine: apply, change, suspend, prune.
	$(GO_TEST) -timeout $(ARGOCD_TIMEOUT) -v $(GOTESTFLAGS) ./test/gitops/argocd/...

.PHONY: argocd-testdata
argocd-testdata: manifests generate $(API_SERVER) ## Write the dumps in config/argocd anew, from what the operator says in each state.
	UPDATE_DUMPS=1 $(GO_TEST) -timeout $(TEST_TIMEOUT) ./internal/controller -run TestController -ginkgo.focus 'GitOps tools are told'
	UPDATE_DUMPS=1 $(GO_TEST) ./test/argocd -run 'TestHealth|TestActions|TestTheConfigMap'
