// Package auditstoretest helps to test what uses package auditstore.
//
// [Run] starts a nats-server inside the test, with a stream as the operator makes it, and opens a store on it. So the tests of a
// service run against the real thing, and need neither a cluster nor a container.
//
// [TestStore] checks that another implementation of [auditstore.Store] keeps what the interface promises.
//
// The package links a NATS server. Import it from tests only.
package auditstoretest
