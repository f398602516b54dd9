# Upgrades from the release that hack/previous-release names, and bad days.

API_COMPAT_TOOLS := $(TOOLS_DIR)/apidiff
APIDIFF := $(LOCALBIN)/apidiff
CRDIFY := $(LOCALBIN)/crdify
UPGRADE_TIMEOUT ?= 15m
BADDAYS_TIMEOUT ?= 15m
MODULES += $(API_COMPAT_TOOLS)

$(APIDIFF): $(addprefix $(API_COMPAT_TOOLS)/,go.mod go.sum)
	$(call go-build,golang.org/x/exp/cmd/apidiff,$(API_COMPAT_TOOLS))

$(CRDIFY): $(addprefix $(API_COMPAT_TOOLS)/,go.mod go.sum)
	$(call go-build,sigs.k8s.io/crdify,$(API_COMPAT_TOOLS))

##@ Upgrades

# A clone that lacks the commit of the previous release, as a shallow one does, cannot be compared with it.
ifneq ($(shell git cat-file -e "$$(grep -m 1 -v '^\#' hack/previous-release)^{commit}" 2>/dev/null && echo yes),)
verify: api-compat
endif

.PHONY: api-compat
api-compat: $(APIDIFF) $(CRDIFY) ## Fail where the CRD or a Go package breaks users of the previous release.
	@hack/api-compat.sh

.PHONY: test-upgrade
test-upgrade: manifests generate $(CONTROL_PLANE) nats-server $(MANAGER) ## Upgrade from the previous release over live streams, and go back.
	$(GO_TEST) -timeout $(UPGRADE_TIMEOUT) -v $(GOTESTFLAGS) ./test/upgrade/...

.PHONY: test-baddays
test-baddays: manifests generate $(CONTROL_PLANE) nats-server $(MANAGER) ## Try what goes wrong around the operator: installed twice, the CRD deleted, 500 resources at once.
	$(GO_TEST) -timeout $(BADDAYS_TIMEOUT) -v $(GOTESTFLAGS) ./test/baddays/...
