// Package apivalidation tries every rule of the AuditStream resource both ways on a real API server, through the
// server-side apply that kubectl does, and looks at the text that a person gets to read. No controller runs here.
package apivalidation
