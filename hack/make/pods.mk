# The operator in real Pods: test/pods. It runs kubelet with containerd in namespaces of their own, and so needs root and a few
# of Debian's packages; hack/kubelet/require.sh says which. INSTALL=1 installs them.

INSTALL ?=
PODS_TIMEOUT ?= 15m
KUBELET := $(LOCALBIN)/kubelet
KUBE_SCHEDULER := $(LOCALBIN)/kube-scheduler
KUBELET_VERSION := $(shell awk '$$1 == "k8s.io/kubernetes" && $$2 ~ /^v/ { print $$2; exit }' hack/kubelet/go.mod)
# The images of what runs in Pods, each in bin/pods/<name>, under the names localhost/<name>:test-pods.
PODS_DIR := $(LOCALBIN)/pods
PODS_PLATFORM = linux/$(shell go env GOARCH)
PODS_IMAGES := auditstream-operator orders nats-server pause
MODULES += hack/kubelet

##@ Pods

.PHONY: test-pods
test-pods: pods-requirements pods-binaries ## Run the operator as config/default ships it in real Pods; needs root, containerd and runc (INSTALL=1 installs them).
	$(GO_TEST) -timeout $(PODS_TIMEOUT) -v $(GOTESTFLAGS) ./test/pods/...

.PHONY: pods-requirements
pods-requirements:
	@INSTALL=$(INSTALL) hack/kubelet/require.sh

.PHONY: pods-binaries
pods-binaries: $(CONTROL_PLANE) $(KUBELET) $(KUBE_SCHEDULER) $(HELM) manifests $(addprefix pods-image-,$(PODS_IMAGES)) ## Build all that test/pods runs, images included.

# As make image and make image-example build them, for this machine alone.
.PHONY: pods-image-auditstream-operator pods-image-orders
pods-image-auditstream-operator:
	@$(MAKE) --no-print-directory image IMAGE=localhost/auditstream-operator IMAGE_DIR=$(PODS_DIR)/auditstream-operator \
	  VERSION=test-pods IMAGE_PLATFORMS=$(PODS_PLATFORM)

pods-image-orders:
	@$(MAKE) --no-print-directory image-example EXAMPLE_IMAGE=localhost/orders EXAMPLE_IMAGE_DIR=$(PODS_DIR)/orders \
	  VERSION=test-pods IMAGE_PLATFORMS=$(PODS_PLATFORM)

.PHONY: pods-image-nats-server pods-image-pause
pods-image-nats-server pods-image-pause: pods-image-%: $(IMAGE_TOOL) $(LOCALBIN)/%
	@$(IMAGE_TOOL) build --out $(PODS_DIR)/$* --name localhost/$* --version test-pods --title $* --description 'For tests only' \
	  --revision none --created 0 --source none --licenses Apache-2.0 --binary $(PODS_PLATFORM)=$(LOCALBIN)/$*

# kubelet tells the API server its version.
$(KUBELET): hack/kubelet/go.mod hack/kubelet/go.sum
	@mkdir -p $(@D)
	@echo "Building bin/$(@F)"
	@CGO_ENABLED=0 GOWORK=off go build -C hack/kubelet -trimpath -o $@.tmp.$$$$ \
	  -ldflags '-s -w -X k8s.io/component-base/version.gitVersion=$(KUBELET_VERSION)' k8s.io/kubernetes/cmd/kubelet && \
	  mv -f $@.tmp.$$$$ $@ || { rm -f $@.tmp.$$$$; exit 1; }

$(KUBE_SCHEDULER): hack/controlplane/go.mod hack/controlplane/go.sum
	$(call go-build,k8s.io/kubernetes/cmd/kube-scheduler,hack/controlplane)

$(LOCALBIN)/pause: FORCE
	$(call go-build,./test/pods/pause,.)
