// Package clientip finds out from which address a request came: that of the connection or, where that is a proxy's which is trusted,
// the one that the proxies have written into a header. It believes nothing that a client can have made up, and does no I/O.
package clientip
