# The Helm chart in charts/auditstream-operator, and dist/install.yaml.

HELM_TOOL := $(TOOLS_DIR)/helm
HELM := $(LOCALBIN)/helm
MODULES += $(HELM_TOOL)

.PHONY: helm
helm: $(HELM)

$(HELM): $(addprefix $(HELM_TOOL)/,go.mod go.sum)
	$(call go-build,helm.sh/helm/v4/cmd/helm,$(HELM_TOOL))

##@ Packages

.PHONY: chart
chart: manifests $(KUSTOMIZE) ## Bring what the Helm chart and dist/install.yaml have from config/ up to date.
	KUSTOMIZE=$(KUSTOMIZE) hack/chart/sync.sh .

.PHONY: verify-install
verify-install: $(KUSTOMIZE) $(HELM) ## Fail where the chart or dist/install.yaml is not what config/ says; lint the chart.
	@echo "Comparing the chart and dist/install.yaml with config"
	@KUSTOMIZE=$(KUSTOMIZE) hack/chart/sync.sh --check
	@$(HELM) lint --quiet --strict charts/auditstream-operator

verify: verify-install

# The tests in test/chart run these, and manager, which has to be up to date.
test: $(HELM) $(KUSTOMIZE) $(MANAGER)
