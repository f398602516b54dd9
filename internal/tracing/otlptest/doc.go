// Package otlptest is an OTLP receiver for tests: it takes spans by gRPC and by HTTP and shows what has arrived.
package otlptest
