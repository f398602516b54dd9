// Service is what a service with an audit trail looks like: an HTTP API whose every request leaves an entry in an AuditStream, and
// which lets auditors read the trail. It is made to be copied. README.md says how to run it.
package main
