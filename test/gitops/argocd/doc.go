// Package argocd has Argo CD's gitops-engine, as the process that its agent is, apply and prune AuditStreams from a git
// repository, on a real control plane with RBAC and kube-controller-manager, with a real nats-server, and the operator as a
// process of its own with the permissions that config/ gives it.
package argocd
