// Package auditapi lets the clients of a service read its audit trail over HTTP.
//
//	GET /audit?limit=&offset=   a page, newest first, and how many entries there are: {"total_items": 7, "items": [...]}
//	GET /audit/{id}             one entry: {"entry": {...}}
//	GET /audit/export           every entry, newest first, as JSON Lines
//
// [New] makes the handler from a store and a function that says who may read; there is no default for either. The handler knows
// the paths above and no others; mount it at both /audit and /audit/, below a prefix with [http.StripPrefix]. [OpenAPI] returns
// the OpenAPI 3.1 document that describes it. An id that holds a slash is written %2F. An entry whose id is "export" is in the
// pages and in the export, but has no path of its own.
//
// HEAD is answered as GET is, without the body. Of an export it reads the first entry only: a 200 says that the export begins.
//
// An entry has the members of auditstore.Entry. Others that a stored message may have, as one that was moved into the stream or
// written by another program, are left out of every answer: auditstore.StreamStore.Export writes what is stored.
//
// # Errors
//
// An error is a JSON object with one member, error, which says what the client can do about it. What went wrong inside the
// service is never in it: that goes to [Config].Logger.
//
//	400  the limit, the offset or the id cannot be right
//	401  Authorize returned ErrUnauthenticated
//	403  Authorize returned ErrForbidden
//	404  the store says that it holds no such entry, or there is no such path
//	405  the method is neither GET nor HEAD
//	500  the entry is corrupt, or the service has a defect
//	503  the store is not ready, or could not be read to the end: try again
//	505  the export was asked for with HTTP/1.0, see below
//
// # What cannot be read
//
// A message that is not a readable entry neither stops a page nor goes unseen: the page has the other entries, keeps its place,
// and names the message by its sequence in the stream: {"total_items": 7, "items": [...], "corrupt": [{"sequence": 12}]}. The
// member is absent where there is none. The export has a line {"corrupt": {"sequence": 12}} for each.
//
// # The end of an export
//
// An export that ends is complete. Where an error comes before anything was sent, the answer is the error's. Where it comes
// later, the handler breaks the connection, so that the client sees an error (in HTTP/1.1 the last chunk is missing, in HTTP/2
// the stream is reset) and must not take what it has for the whole. To that end the handler panics with [http.ErrAbortHandler],
// as net/http asks of it: a middleware that recovers should let that one through. The connection is broken as well
// where the store or [Config].Export panics, and that panic goes on. HTTP/1.0 has no way to tell a broken answer from a whole
// one, so it is refused; a reverse proxy has to speak HTTP/1.1 to the service (nginx: proxy_http_version 1.1).
//
// A server's WriteTimeout breaks an export that takes longer, just as visibly.
package auditapi
