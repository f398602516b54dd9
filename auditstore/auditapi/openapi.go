package auditapi

import (
	"bytes"
	_ "embed"
	"net/http"
)

//go:embed openapi.yaml
var document []byte

// OpenAPI returns the OpenAPI 3.1 document that describes the handler, as YAML. It names no server and no security scheme: both
// are the service's own.
func OpenAPI() []byte { return bytes.Clone(document) }

// ServeOpenAPI is an http.HandlerFunc that answers with the document. The document says nothing about the trail's content, so it
// asks for no authorization.
func ServeOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = w.Write(document) // a client that is gone needs no document
}
