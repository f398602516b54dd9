// Package argocd runs the scripts in config/argocd as Argo CD does: health.lua says how an AuditStream is, discovery.lua
// which actions it offers, and action.lua does one. Its tests run them over the dumps beside them, and compare the
// ConfigMap in docs/gitops-argocd.md with them. The controller's suite runs health.lua over every status that it sees.
package argocd
