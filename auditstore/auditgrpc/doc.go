// Package auditgrpc writes one audit entry for each call that a gRPC server answers. [New] makes the interceptors from a store and a
// [Config], to the same rules as package audithttp; the package never reads the trail and changes nothing about a call.
//
// # What an entry says
//
// Timestamp is when the call reached the interceptor. DurationMs ends when the handler does: for a stream that is when it ends.
// Method is "UNARY" or "STREAM": gRPC's HTTP method is always POST and would tell nothing. Path is the full method,
// "/shop.Orders/Cancel", and OperationID is the same unless Config says otherwise.
//
// ResponseCode is an HTTP status, so that one filter finds what was refused or failed over HTTP and over gRPC alike. It is what
// grpc-gateway answers for the code:
//
//	OK                                              200
//	InvalidArgument, FailedPrecondition, OutOfRange 400
//	Unauthenticated                                 401
//	PermissionDenied                                403
//	NotFound                                        404
//	AlreadyExists, Aborted                          409
//	ResourceExhausted                               429
//	Canceled                                        499
//	Unknown, Internal, DataLoss, any other          500
//	Unimplemented                                   501
//	Unavailable                                     503
//	DeadlineExceeded                                504
//
// The code is that of the error which the handler returns, as the server reads it: an error without a code is Unknown, and one of
// package context is Canceled or DeadlineExceeded. A handler that panics is recorded with 500, because the client gets no answer of
// its. The panic goes on, with its own stack, once the entry is written. runtime.Goexit counts as a panic.
//
// TraceID is the trace of the span that the call's context holds, as otelgrpc's stats handler puts it there.
//
// Values that a client chooses can not make an entry too large to be stored: Path, User and OperationID are cut at 4 KiB, and each of
// at most 128 roles at 256 bytes. A value that was cut ends in "…".
//
// A call that never reaches the interceptors has no entry: of a method that the server does not know, with a request that it cannot
// decode, or refused by an interceptor further out.
//
// # Who made the call
//
// Config's functions are called after the handler, or before the first message goes out with [FailClosed]. They get the context that
// the interceptor passed on, or the one that was last given to [Observe]. To record refused calls the interceptor has to stand
// outside authentication, and then the user is known only to a context further in: call Observe there.
//
// A function that panics neither loses the entry nor fails the call: its value stays empty, and OnError is called with a
// *[PanicError].
//
// # The client's address
//
// SourceIP is the address of the connection. Only where that is one of Config.TrustedProxies is the metadata looked at, from its right
// end, which the nearest proxy wrote: the first address that is not a trusted proxy is the client. A value that is not an address
// ends the walk, and the trusted proxy that passed it on is recorded. Where every hop is trusted it is the leftmost one. Addresses
// are recorded without port and zone. A connection without an IP address, like one on a Unix socket, has an empty SourceIP.
//
// # When an entry cannot be written
//
// The write does not end when the client goes away; it ends after Config.WriteTimeout. The interceptor waits for it, and so does the
// answer: a store that takes entries without waiting keeps the service fast while the trail is away.
//
// With [FailOpen] the entry is written after the handler. The answer is what the handler made of it, and OnError hears of the
// failure. A stream that is open has no entry yet.
//
// With [FailClosed] nothing of an answer leaves before its entry is written: no message, no header, no trailer and no status. Where
// the entry cannot be written the client gets the code Unavailable and nothing of what the handler answered; the trailer
// grpc-retry-pushback-ms keeps its retry policy from repeating the call. What that does not cover:
//   - the handler has run: what it changed stays changed, and a client that repeats the call repeats the change
//   - a stream cannot be held back, since its client may wait for one message before it sends the next: its entry is written before
//     the handler's first SendMsg or SendHeader goes on. Such an entry has 200, the duration up to then, and tells nothing of an
//     error or panic that comes later. Where it cannot be written, SendMsg and SendHeader return ErrWithheld. A call with many
//     requests and one response is no such stream: its response waits, as that of a unary call does
//   - an entry whose write timed out may be stored all the same: the trail may hold an answer that was withheld, but no client
//     has an answer that the trail lacks
//   - a handler that panics answers nothing, so its panic goes on even where its entry cannot be written. An interceptor further
//     out that recovers from it answers whether there is an entry or not: put it inside, where its answer is the one that is
//     recorded
//
// The context of a handler then has a grpc.ServerTransportStream that holds metadata back, for which grpc.SetSendCompressor and
// grpc.ClientSupportedCompressors return an error. An interceptor further out can call them.
package auditgrpc
