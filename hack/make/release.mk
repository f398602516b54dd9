# Releases: make release VERSION=v0.2.0 writes dist/release/v0.2.0/, see docs/releasing.md. SNAPSHOT=1 tries it with any
# version and any tree.

RELEASE_PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
SNAPSHOT ?=
# More tags of a published image, such as TAGS='v0.2 latest'.
TAGS ?=
# Registry and path that the chart is published to.
CHART_REPOSITORY ?= ghcr.io/osapi-io/charts
RELEASE_DIR = dist/release/$(VERSION)
# Only somebody who tries a release can leave its version to git.
RELEASE_VERSION_GIVEN := $(if $(SNAPSHOT),yes,$(filter-out undefined file,$(firstword $(origin VERSION))))

release-environment = VERSION='$(if $(RELEASE_VERSION_GIVEN),$(VERSION))' SNAPSHOT='$(SNAPSHOT)' REVISION='$(REVISION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' \
  IMAGE='$(IMAGE)' IMAGE_DIR='$(IMAGE_DIR)' IMAGE_TOOL='$(IMAGE_TOOL)' PLATFORM_DIR='$(PLATFORM_DIR)' \
  RELEASE_PLATFORMS='$(RELEASE_PLATFORMS)' HELM='$(HELM)' KUSTOMIZE='$(KUSTOMIZE)'

##@ Releases

# One make for all that is built, so that everything has the version that was checked.
.PHONY: release
release: ## Write dist/release/VERSION: binaries, image, chart, install.yaml, SBOMs, checksums, notes; SNAPSHOT=1 to try.
	@$(release-environment) hack/release/release.sh check
	@$(MAKE) --no-print-directory release-parts $(foreach v,VERSION REVISION SOURCE_DATE_EPOCH,$(v)='$($(v))')
	@$(release-environment) hack/release/release.sh assemble

.PHONY: release-parts
release-parts: image $(foreach p,$(RELEASE_PLATFORMS),$(PLATFORM_DIR)/$(subst /,-,$(p))/manager) $(HELM) $(KUSTOMIZE)

.PHONY: release-publish
release-publish: image-push $(HELM) ## Push the image and the chart of dist/release/VERSION, with the credentials of docker login.
	$(HELM) push $(RELEASE_DIR)/auditstream-operator-$(patsubst v%,%,$(VERSION)).tgz oci://$(CHART_REPOSITORY)
