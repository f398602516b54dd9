package audithttp

import (
	"net/http"

	"github.com/osapi-io/auditstream-operator/auditstore/internal/clientip"
)

// clientAddress is the address of the connection, or, where that is a trusted proxy's, what the trusted proxies say.
func (a *auditor) clientAddress(r *http.Request) string {
	hops := clientip.XForwardedFor(r.Header.Values("X-Forwarded-For"))
	if a.cfg.ProxyHeader == Forwarded {
		hops = clientip.Forwarded(r.Header.Values("Forwarded"))
	}
	return clientip.Find(r.RemoteAddr, a.cfg.TrustedProxies, hops)
}
