// Package jsclient is the only package that dials NATS. It owns the connections, one for each identity, and says in one
// place what a fault of NATS means: terminal, waiting or transient (see internal/failure).
//
// What a caller may rely on:
//
//   - A connection is never given up. It reconnects for ever, also after authentication errors, and reads credentials
//     and certificates from their files anew each time. A changed file makes it reconnect by itself.
//   - Every request is answered in bounded time, at once when NATS is known to be out of reach, and is never sent later
//     than it was made.
//   - A permission violation, which NATS reports only out of band, fails the request it belongs to and names the subject.
//   - Events arrive in order, one at a time, and are merged while they wait but never lost. Connected means that
//     anything may have changed meanwhile.
//   - No error and no log line holds a credential.
//
// It never decides what a stream should look like and knows nothing of Kubernetes beyond the condition reasons.
package jsclient
