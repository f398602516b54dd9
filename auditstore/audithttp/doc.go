// Package audithttp writes one audit entry for each request that a net/http service answers. [New] makes a middleware from
// a store and a [Config]; the package never reads the trail and changes nothing about a request.
//
// # What an entry says
//
// Timestamp is when the request reached the middleware. DurationMs ends when the handler does. Method, Path and SourceIP
// are those of the request as it reached the middleware; Path has no query, which often holds secrets.
//
// ResponseCode is what the handler answered with:
//   - a handler that never writes answers 200, as net/http does for it
//   - a handler that takes over the connection (http.Hijacker) without having answered is recorded with 101: what it then
//     sends by itself is not looked at
//   - a handler that panics before its answer has left is recorded with 500, whatever status it had set, because the client
//     gets no answer. An answer has left after a Flush, and once its body is more than net/http keeps to itself: 2 KiB with HTTP/1,
//     4 KiB with HTTP/2, and 511 bytes of what io.Copy copies to a connection without TLS. The panic goes on, with its own stack,
//     once the entry is written. runtime.Goexit counts as a panic
//
// TraceID is the trace of the span that the request's context holds.
//
// Values that a client chooses can not make an entry too large to be stored: Path, User and OperationID are cut at 4 KiB, Method
// at 64 bytes and each of at most 128 roles at 256 bytes. A value that was cut ends in "…".
//
// # Who made the request
//
// Config's functions are called after the handler, or before the first byte goes out with [FailClosed]. They get the
// request that the middleware passed on, or the one that was last given to [Observe]. To record refused requests the middleware
// has to stand outside authentication, and then the user is known only to a request further in: call Observe there.
//
// A function that panics neither loses the entry nor fails the request: its value stays empty, and OnError is called with a
// *[PanicError].
//
// # The client's address
//
// SourceIP is the address of the connection. Only where that is one of Config.TrustedProxies is the header looked at, from its right
// end, which the nearest proxy wrote: the first address that is not a trusted proxy is the client. A value that is not an address
// ends the walk, and the trusted proxy that passed it on is recorded. Where every hop is trusted it is the leftmost one. Addresses
// are recorded without port and zone. A connection without an IP address, like one on a Unix socket, has an empty SourceIP.
//
// # When an entry cannot be written
//
// The write does not end when the client goes away; it ends after Config.WriteTimeout. The middleware waits for it, and so does the
// end of the response: a store that takes entries without waiting keeps the service fast while the trail is away.
//
// With [FailOpen] the entry is written after the handler. The response is what the handler made of it, and OnError hears of the
// failure.
//
// With [FailClosed] no byte of a final response leaves before its entry is written. The head and up to Config.BufferLimit bytes of
// body are held back until the handler returns. Where the entry cannot be written the client gets 503 and nothing of the
// handler's response, neither body nor headers. What that does not cover:
//   - the handler has run: what it changed stays changed, and a client that repeats the request repeats the change
//   - the handler's Flush, its Hijack and the byte that goes over BufferLimit write the entry early, so that the rest can stream.
//     Such an entry has the status as it is then and the duration up to then, and tells nothing of a later panic. Where it cannot
//     be written, Write, FlushError and Hijack return ErrWithheld
//   - an entry whose write timed out may be stored all the same: the trail may hold a response that was withheld, but no client
//     has a response that the trail lacks
//   - informational responses (1xx, other than 101) go out at once
//   - a handler that panics answers nothing, so its panic goes on even where its entry cannot be written. A middleware further out
//     that recovers from it answers whether there is an entry or not: put it inside, where its answer is the one that is recorded
//
// # The ResponseWriter
//
// Handlers get a ResponseWriter that is an http.Flusher and an http.Hijacker exactly where the server's, or one that it unwraps
// to, is one; that is an io.ReaderFrom, so that files are still sent by the kernel; and that works with
// http.NewResponseController. It is no http.Pusher and no http.CloseNotifier. Until FailClosed has written the entry, Unwrap
// leads to the controls of the connection only, and not past what is held back. As with any ResponseWriter, one goroutine at a
// time may use it.
package audithttp
