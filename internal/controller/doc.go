// Package controller reconciles AuditStreams: it keeps the JetStream stream of each as declared, runs its migrations,
// and reports in status, events and metrics how it stands.
//
// Steps record facts in a scope and return errors; one pure function turns both into status (status.go). The package
// writes status, events and, for deletionPolicy: Delete only, a finalizer; it never writes to spec, labels or
// annotations.
package controller
