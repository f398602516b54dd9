// Package flux does what docs/gitops-flux.md says: Flux's own controllers apply what is committed to a git server, with
// every YAML of that page in the repository, on a real control plane with RBAC and kube-controller-manager, a real
// nats-server, and the operator as a process of its own with the permissions that Flux has installed for it.
package flux
