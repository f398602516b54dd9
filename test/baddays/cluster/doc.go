// Package cluster is what the suites of upgrades and of bad days stand on: a real control plane, a real nats-server, and the
// manifests as kubectl applies them. It judges nothing, and the operator's process is the suite's to start.
package cluster
