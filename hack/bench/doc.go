// Command bench measures the operator as a user meets it: as a process under its own ServiceAccount, against a real
// kube-apiserver and a real nats-server with file storage. It prints each figure with the alternative's beside it where
// there is one, and ends with one JSON object. What it asserts is that the work was done, never how fast.
package main
