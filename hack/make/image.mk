# Container images, made without a container engine and without a registry.
#
#   make image           writes dist/image/auditstream-operator/, and
#   make image-example   writes dist/image/auditstream-example/, the service of examples/service; in each of them
#
#     oci/                        OCI image layout: an index for all of IMAGE_PLATFORMS under the tag VERSION, and an SBOM that
#                                 refers to the image of each platform
#     <name>-oci.tar              that layout as one file
#     digest                      the digest of that index, the same wherever the same commit is built with the same Go
#     <name>-linux-amd64.tar      archive of one platform, and the same for arm64, named <IMAGE>:<VERSION> once imported by
#                                 ctr -n k8s.io image import, docker load or podman load
#     <name>-linux-amd64.cdx.json SBOM (CycloneDX) of that platform's binary
#
# The program runs as 65532:65532; its entry points are /manager and /service. bin/image, which puts images together, takes
# any static Linux binary: bin/image build --help.

IMAGE ?= ghcr.io/osapi-io/auditstream-operator
EXAMPLE_IMAGE ?= ghcr.io/osapi-io/auditstream-example
IMAGE_PLATFORMS ?= linux/amd64 linux/arm64
# Version, commit and the commit's time: what a build tells about itself. Without git, give all three.
# Asked of git once, and only by targets that want to know.
VERSION ?= $(eval VERSION := v0.0.0-dev.g$$(shell git rev-parse --short=12 HEAD)$$(if $$(GIT_DIRTY),.dirty))$(VERSION)
REVISION ?= $(eval REVISION := $$(shell git rev-parse HEAD)$$(if $$(GIT_DIRTY),-dirty))$(REVISION)
SOURCE_DATE_EPOCH ?= $(eval SOURCE_DATE_EPOCH := $$(shell git log -1 --format=%ct))$(SOURCE_DATE_EPOCH)
GIT_DIRTY = $(eval GIT_DIRTY := $$(shell git status --porcelain | head -n 1))$(GIT_DIRTY)

IMAGE_TOOL := $(LOCALBIN)/image
IMAGE_DIR := dist/image/auditstream-operator
EXAMPLE_IMAGE_DIR := dist/image/auditstream-example
# Where binaries for other platforms than this one go: bin/platform/<os>-<arch>/<name>.
PLATFORM_DIR := $(LOCALBIN)/platform

MODULES += $(TOOLS_DIR)/image

##@ Images

.PHONY: image
image: $(IMAGE_TOOL) $(foreach p,$(IMAGE_PLATFORMS),$(PLATFORM_DIR)/$(subst /,-,$(p))/manager) ## Build the image for IMAGE_PLATFORMS in dist/image, with SBOM and archives; needs no container engine.
	@$(call build-image,$(IMAGE_DIR),$(IMAGE),manager,auditstream-operator,Audit streams on NATS JetStream as a Kubernetes resource)

.PHONY: image-example
image-example: $(IMAGE_TOOL) $(foreach p,$(IMAGE_PLATFORMS),$(PLATFORM_DIR)/$(subst /,-,$(p))/service) ## Build the image of examples/service in dist/image in the same way.
	@$(call build-image,$(EXAMPLE_IMAGE_DIR),$(EXAMPLE_IMAGE),service,auditstream-example,A service with an audit trail on NATS JetStream)

.PHONY: image-push
image-push: $(IMAGE_TOOL) ## Push what make image built to IMAGE, with the credentials of docker login; TAGS='v0.2 latest' sets more tags.
	@$(IMAGE_TOOL) push --layout $(IMAGE_DIR)/oci --to $(IMAGE) $(addprefix --tag ,$(TAGS))

.PHONY: image-tool
image-tool: $(IMAGE_TOOL)

.PHONY: test-image-tool
test-image-tool: ## Test bin/image, with a registry to push to.
	go test -C $(TOOLS_DIR)/image -count=1 $(GOTESTFLAGS) ./...

# The tests in test/image make a release with these.
test: $(IMAGE_TOOL) $(HELM) $(KUSTOMIZE)

# The same sources give the same bytes: no paths, no time, nothing of this machine's Go settings.
define go-build-platform # <package> <linker flags>
	@mkdir -p $(@D)
	@echo "Building $(patsubst $(CURDIR)/%,%,$@)"
	@GOOS=$(firstword $(subst -, ,$(notdir $(@D)))) GOARCH=$(lastword $(subst -, ,$(notdir $(@D)))) GOAMD64=v1 GOARM64=v8.0 \
	  CGO_ENABLED=0 GOFLAGS= GOWORK=off go build -trimpath -buildvcs=false -ldflags '-s -w $(2)' -o $@.tmp.$$$$ $(1) && \
	  mv -f $@.tmp.$$$$ $@ || { rm -f $@.tmp.$$$$; exit 1; }
endef

define build-image # <directory> <name> <binary> <title> <description>
$(IMAGE_TOOL) build --out $(1) --name $(2) --version $(VERSION) --revision $(REVISION) --created $(SOURCE_DATE_EPOCH) \
  --title '$(4)' --description '$(5)' --source https://github.com/osapi-io/auditstream-operator --licenses Apache-2.0 \
  --zoneinfo "$$(go env GOROOT)/lib/time/zoneinfo.zip" \
  $(foreach p,$(IMAGE_PLATFORMS),--binary $(p)=$(PLATFORM_DIR)/$(subst /,-,$(p))/$(3))
endef

$(PLATFORM_DIR)/%/manager: FORCE
	$(call go-build-platform,./cmd/manager,-X main.version=$(VERSION) -X main.revision=$(REVISION))

$(PLATFORM_DIR)/%/service: FORCE
	$(call go-build-platform,./examples/service)

$(IMAGE_TOOL): $(wildcard $(TOOLS_DIR)/image/*.go) $(addprefix $(TOOLS_DIR)/image/,go.mod go.sum)
	$(call go-build,.,$(TOOLS_DIR)/image)
