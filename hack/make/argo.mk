# What Argo CD knows of AuditStreams: config/argocd.

##@ GitOps with Argo CD

.PHONY: argocd-testdata
argocd-testdata: manifests generate $(call existing-cluster-or,$(API_SERVER)) ## Write the dumps in config/argocd anew, from what the operator says in each state.
	UPDATE_DUMPS=1 $(GO_TEST) -timeout $(TEST_TIMEOUT) ./internal/controller -run TestController -ginkgo.focus 'GitOps tools are told'
	UPDATE_DUMPS=1 $(GO_TEST) ./test/argocd -run 'TestHealth|TestActions'
