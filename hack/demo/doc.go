// Demo shows the whole of the operator on one machine with real parts: a control plane, a nats-server with a legacy
// key-value bucket, the operator as a process under the roles that config/ ships, config/samples, and examples/service on
// the stream that comes of them. It says what it does, shows what comes of it and checks that it is true. With --once it
// ends then, with exit status 0 only if everything came true; otherwise it stays up until Ctrl-C. Either way it leaves
// nothing behind.
package main
