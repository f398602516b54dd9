// Package migrate copies the entries of a NATS key-value bucket into an audit stream: live keys only, in the order of
// the bucket, each exactly once, with its retention clock going on.
//
// It never deletes or changes anything in the bucket, never overwrites anything in the stream, and knows nothing of
// Kubernetes. Running it again, from any point and after any crash, adds nothing and loses nothing, because every entry
// is published with an expected last sequence of 0 on its own subject: the server refuses what is there already.
package migrate
