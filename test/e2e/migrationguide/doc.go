// Package migrationguide does what docs/migration.md says, command by command and in its order, on a real control plane,
// with a nats-server that gives the operator no more permissions than the guide asks for, and with legacy writers that go
// on while the bucket changes hands.
package migrationguide
