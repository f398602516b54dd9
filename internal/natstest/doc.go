// Package natstest runs real nats-servers with file storage inside a test: alone or as a cluster of three. It is for
// tests only, and nothing that ships imports it.
package natstest
