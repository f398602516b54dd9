// Package testenv runs the real parts that the operator works with, each as a process of its own: etcd, kube-apiserver
// and kube-controller-manager, nats-server, and the operator's manager. The demo, the tests and the benchmark share it,
// so it knows nothing of a testing framework.
//
// A start function's context bounds the start only; the process lives until it is stopped. Nothing that is started here
// outlives the program: a guard (see guard.go) ends the processes and removes the temporary directories also when the
// program is killed. Everything listens on 127.0.0.1 and on ports of its own, so that several programs can do this at
// the same time.
//
// The values returned are not safe for concurrent use.
package testenv
