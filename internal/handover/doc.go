// Package handover takes a legacy key-value bucket's subjects away from it while writers go on: to give them to the audit
// stream (Redirect), back to the bucket (Return), or to delete the bucket (Delete). It knows NATS only.
//
// Where a bucket stands is read off the live configuration of its backing stream and of the audit stream, and written
// nowhere else, so that a pass that was killed anywhere is finished by the next one:
//
//   - own: the backing stream captures $KV.<bucket>.>, as every bucket does.
//   - fenced: it captures $AUDIT.REDIRECTED.<bucket> instead, and its metadata names the audit stream. Writers find nobody
//     who stores what they put, and nats.go tries again twice, after 250 ms each. While the operator is at it, it
//     keeps what they put and passes it on.
//   - open: the audit stream captures $KV.<bucket>.> and stores what comes there under its own subject.
//
// The way from own to open is: fence; publish a mark into the fenced bucket, which is acknowledged only after everything
// that the bucket had taken before has been committed; copy up to the mark (drain); open. No put is acknowledged by a
// stream that then loses it: the bucket takes nothing after the mark, and the stream takes nothing before it has all that
// came before the mark. Should a server that did not know of the fence yet take one all the same, or store late what it took
// before, it is above the mark: the bucket's copy goes on, and the caller has to look at the bucket again to have it begun, as
// a redirected bucket is not followed. The controller does 1, 5 and 30 seconds after the redirect, and at each resync.
package handover
