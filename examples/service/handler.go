package main

import (
	"context"
	"iter"
	"log/slog"
	"net/http"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditapi"
	"github.com/osapi-io/auditstream-operator/auditstore/audithttp"
)

// newHandler puts the service together: the audit stands outside of authentication, so that what that refuses is recorded too.
func newHandler(store *auditstore.Client, users users, log *slog.Logger) (http.Handler, error) {
	audit, err := audithttp.New(store, audithttp.Config{
		User:  func(r *http.Request) string { return callerOf(r).name },
		Roles: func(r *http.Request) []string { return callerOf(r).roles },
		// The pattern that the request matched, such as "PUT /orders/{id}". With an OpenAPI document it would be the operationId.
		OperationID: func(r *http.Request) string { return r.Pattern },
		// Nobody gets an answer that the trail does not have. With FailOpen, the default, the service goes on while the trail is away.
		OnFailure: audithttp.FailClosed,
		// TrustedProxies: the networks of the ingress, so that the client's address is recorded and not the ingress's.
	})
	if err != nil {
		return nil, err
	}
	trail, err := auditapi.New(auditapi.Config{
		Store:     store,
		Authorize: mayReadTrail,
		Export: func(ctx context.Context) iter.Seq2[auditstore.Entry, error] {
			return store.Query(ctx, auditstore.Query{Order: auditstore.NewestFirst})
		},
		Logger: log,
	})
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	newOrders().register(mux)
	// Reading the trail is itself audited.
	mux.Handle("/audit", trail)
	mux.Handle("/audit/", trail)
	mux.HandleFunc("GET /audit-openapi.yaml", auditapi.ServeOpenAPI)
	// The audit leaves out /livez and /readyz by default: see audithttp.DefaultExclude.
	mux.HandleFunc("GET /livez", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /readyz", ready(store))
	return audit(users.authenticate(mux)), nil
}

// ready takes the Pod out of its Service while there is no connection to NATS. A service that fails open would not do that.
func ready(store *auditstore.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := store.Err(); err != nil {
			http.Error(w, "the audit trail cannot be reached", http.StatusServiceUnavailable)
		}
	}
}
