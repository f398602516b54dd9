package auditapi_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditapi"
)

// fixedStore stands for the *auditstore.StreamStore of a service.
type fixedStore struct{ auditstore.Store }

func (fixedStore) List(context.Context, int, int) ([]auditstore.Entry, int, error) {
	return []auditstore.Entry{{ID: "first", User: "ada"}}, 1, nil
}

func (fixedStore) ListAll(context.Context) ([]auditstore.Entry, error) {
	return []auditstore.Entry{{ID: "first", User: "ada"}}, nil
}

// mayRead stands for what the service knows about its users.
func mayRead(r *http.Request) error {
	switch r.Header.Get("Authorization") {
	case "Bearer of-the-auditor":
		return nil
	case "":
		return auditapi.ErrUnauthenticated
	}
	return auditapi.ErrForbidden
}

func Example() {
	var store auditstore.Store = fixedStore{} // in a service: auditstore.New
	reading, err := auditapi.New(auditapi.Config{Store: store, Authorize: mayRead})
	if err != nil {
		log.Panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/audit", reading)
	mux.Handle("/audit/", reading)
	mux.HandleFunc("GET /openapi.yaml", auditapi.ServeOpenAPI)
	srv := httptest.NewServer(mux)
	defer srv.Close()

	for _, token := range []string{"", "Bearer of-somebody", "Bearer of-the-auditor"} {
		fmt.Print(read(srv.URL+"/audit?limit=10", token))
	}
	// Output:
	// 401 {"error":"say who you are to read the audit trail"}
	// 403 {"error":"you may not read the audit trail"}
	// 200 {"total_items":1,"items":[{"id":"first","timestamp":"0001-01-01T00:00:00Z","user":"ada","roles":null,"method":"","path":"","source_ip":"","response_code":0,"duration_ms":0}]}
}

// A service that serves its API below a prefix mounts the handler there.
func ExampleNew_prefix() {
	reading, err := auditapi.New(auditapi.Config{Store: fixedStore{}, Authorize: mayRead})
	if err != nil {
		log.Panic(err)
	}
	mux := http.NewServeMux()
	below := http.StripPrefix("/api/v1", reading)
	mux.Handle("/api/v1/audit", below)
	mux.Handle("/api/v1/audit/", below)
	srv := httptest.NewServer(mux)
	defer srv.Close()

	answer := read(srv.URL+"/api/v1/audit/export", "Bearer of-the-auditor")
	fmt.Println(strings.Count(answer, "\n"), "entry")
	// Output: 1 entry
}

func ExampleOpenAPI() {
	fmt.Println(strings.Split(string(auditapi.OpenAPI()), "\n")[0])
	// Output: openapi: 3.1.0
}

func read(url, authorization string) string {
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, http.NoBody)
	if err != nil {
		log.Panic(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		log.Panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Panic(err) // of an export: it is not complete
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, body)
}
