# Prometheus and promtool, which hack/tools/prometheus pins, what is made from config/prometheus/rules.yaml, and the tests of
# metrics, alerts and the dashboard with them.

PROMETHEUS_TOOLS := $(TOOLS_DIR)/prometheus
PROMETHEUS := $(LOCALBIN)/prometheus
PROMTOOL := $(LOCALBIN)/promtool
METRICS_TIMEOUT ?= 15m
MODULES += $(PROMETHEUS_TOOLS)

##@ Metrics

.PHONY: prometheus-rule
prometheus-rule: ## Bring spec of config/prometheus/prometheusrule.yaml up to date with rules.yaml beside it.
	@{ sed '/^spec:$$/q' config/prometheus/prometheusrule.yaml; sed 's/^\(.\)/  \1/' config/prometheus/rules.yaml; } \
	  >config/prometheus/prometheusrule.yaml.tmp
	@mv config/prometheus/prometheusrule.yaml.tmp config/prometheus/prometheusrule.yaml

.PHONY: promtool prometheus
promtool: $(PROMTOOL)
prometheus: $(PROMETHEUS)

.PHONY: test-alerts
test-alerts: $(PROMTOOL) ## Check the alerts in config/prometheus with promtool and run their tests.
	$(PROMTOOL) check rules --lint=all --lint-fatal config/prometheus/rules.yaml
	$(PROMTOOL) test rules test/metrics/rules_test.yaml

.PHONY: test-metrics
test-metrics: $(call existing-cluster-or,$(API_SERVER)) nats-server $(KUSTOMIZE) $(MANAGER) $(PROMTOOL) $(PROMETHEUS) ## Run the tests of alerts and dashboard, with a Prometheus that scrapes the operator.
	PROMTOOL=$(PROMTOOL) PROMETHEUS=$(PROMETHEUS) $(GO_TEST) -timeout $(METRICS_TIMEOUT) $(GOTESTFLAGS) ./test/metrics/...

# Without service discovery, which the tests have no use for: it is most of what there is to build.
$(PROMTOOL) $(PROMETHEUS): export GOFLAGS := $(GOFLAGS) -tags=remove_all_sd
$(PROMTOOL) $(PROMETHEUS): $(addprefix $(PROMETHEUS_TOOLS)/,go.mod go.sum)
	$(call go-build,github.com/prometheus/prometheus/cmd/$(@F),$(PROMETHEUS_TOOLS))
