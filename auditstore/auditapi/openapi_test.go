package auditapi

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/osapi-io/auditstream-operator/auditstore"
	"github.com/osapi-io/auditstream-operator/auditstore/auditstoretest"
)

// exchange is a request for a path of the document and its answer.
type exchange struct {
	method, path string
	answer       *httptest.ResponseRecorder
}

// exchanges provokes every answer to the document's methods and paths that a store which keeps its promises can bring about.
// Other methods and paths are 405 and 404: no operation can have these, so the document only tells of them.
func exchanges(t *testing.T) []exchange {
	t.Helper()
	store, _ := auditstoretest.Run(t)
	bare := auditstore.Entry{ID: "bare"} // no roles, no operation, no trace
	for _, e := range append(numbered(3), bare) {
		if err := store.Write(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	broken := &auditstore.CorruptError{Sequence: 7, Err: errors.New("not JSON")}
	handlers := map[string]Config{
		"a stream":        {Store: store},
		"an empty store":  {},
		"corrupt entries": {Store: stub{entries: numbered(2), err: broken}},
		"a defect":        {Store: stub{err: errors.New("a defect")}},
		"no answer":       {Store: stub{err: auditstore.ErrNotReady}},
		"nobody":          {Authorize: func(*http.Request) error { return ErrUnauthenticated }},
		"somebody":        {Authorize: func(*http.Request) error { return ErrForbidden }},
	}
	var all []exchange
	for _, cfg := range handlers {
		h, _ := newHandler(t, cfg)
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			all = append(all, exchangesWith(t, h, method, cfg.Store == nil && cfg.Authorize == nil)...)
		}
	}
	return all
}

func exchangesWith(t *testing.T, h http.Handler, method string, empty bool) (all []exchange) {
	t.Helper()
	ask := func(path, url string, minor int) {
		r := httptest.NewRequestWithContext(t.Context(), method, url, http.NoBody)
		r.Proto, r.ProtoMinor = fmt.Sprintf("HTTP/1.%d", minor), minor
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		all = append(all, exchange{method, path, w})
	}
	for _, url := range []string{"/audit", "/audit?limit=2&offset=1", "/audit?limit=0", "/audit?offset=-1"} {
		ask("/audit", url, 1)
	}
	for _, url := range []string{"/audit/e1", "/audit/bare", "/audit/none", "/audit/a.b", "/audit/*"} {
		ask("/audit/{id}", url, 1)
	}
	if !empty { // an empty export has no line to check
		ask("/audit/export", "/audit/export", 1)
	}
	ask("/audit/export", "/audit/export", 0)
	return all
}

// hold returns what is wrong between the document and the answers, in both directions.
func hold(c *contract, all []exchange) []string {
	var wrong []string
	for _, e := range all {
		wrong = append(wrong, c.answer(e.method, e.path, e.answer.Code, e.answer.Header().Get("Content-Type"), e.answer.Body.String())...)
		for header := range child(c.resolve(child(c.operation(e.method, e.path), "responses", fmt.Sprint(e.answer.Code))), "headers") {
			if e.answer.Header().Get(header) == "" {
				wrong = append(wrong, fmt.Sprintf("%s %s %d: there is no header %s", e.method, e.path, e.answer.Code, header))
			}
		}
	}
	for _, status := range c.statuses() {
		if !c.seen[status] {
			wrong = append(wrong, status+" is in the document, and no answer")
		}
	}
	return wrong
}

func TestAnswersMatchOpenAPI(t *testing.T) {
	for _, wrong := range hold(readContract(t), exchanges(t)) {
		t.Error(wrong)
	}
}

// Whatever the document and the handler differ in, the test above finds it.
func TestContractFindsDifferences(t *testing.T) {
	all := exchanges(t)
	schemas := func(c *contract, name string) object { return child(c.document, "components", "schemas", name) }
	for want, change := range map[string]func(c *contract){
		"/audit 503 is not in the document": func(c *contract) { delete(child(c.operation("get", "/audit"), "responses"), "503") },
		"/audit 418 is in the document": func(c *contract) {
			child(c.operation("get", "/audit"), "responses")["418"] = object{"$ref": "#/components/responses/Forbidden"}
		},
		`the content type "application/jsonl" is not`: func(c *contract) {
			delete(child(c.document, "components", "responses", "Export", "content"), "application/jsonl")
		},
		"trace_id is not in the document": func(c *contract) { delete(child(schemas(c, "Entry"), "properties"), "trace_id") },
		"there is no trace_id": func(c *contract) {
			schemas(c, "Entry")["required"] = append(schemas(c, "Entry")["required"].([]any), "trace_id")
		},
		"is of the type string, want integer": func(c *contract) { child(schemas(c, "Entry"), "properties", "user")["type"] = "integer" },
		"is of the type null, want array":     func(c *contract) { child(schemas(c, "Entry"), "properties", "roles")["type"] = "array" },
		"is no date-time":                     func(c *contract) { child(schemas(c, "Entry"), "properties", "user")["format"] = "date-time" },
		"breaks the maximum 1":                func(c *contract) { child(schemas(c, "Page"), "properties", "total_items")["maximum"] = 1.0 },
		"breaks the maxLength 2":              func(c *contract) { child(schemas(c, "Error"), "properties", "error")["maxLength"] = 2.0 },
		"breaks the minItems 1":               func(c *contract) { child(schemas(c, "Page"), "properties", "items")["minItems"] = 1.0 },
		"matches 0 of the schemas": func(c *contract) {
			schemas(c, "ExportLine")["oneOf"] = schemas(c, "ExportLine")["oneOf"].([]any)[:1]
		},
		"does not know the keyword pattern": func(c *contract) { child(schemas(c, "Entry"), "properties", "user")["pattern"] = "^a" },
		"there is no header Retry-After": func(c *contract) {
			child(c.document, "components", "responses", "ServiceUnavailable")["headers"] = object{"Retry-After": object{}}
		},
	} {
		c := readContract(t)
		change(c)
		if wrong := hold(c, all); !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("with the document changed, the test says %q, want %q", wrong, want)
		}
	}
}

func TestOpenAPIPaths(t *testing.T) {
	c := readContract(t)
	if version, _ := c.document["openapi"].(string); !strings.HasPrefix(version, "3.1.") {
		t.Errorf("the document is of the version %q, want 3.1", version)
	}
	documented, served := child(c.document, "paths"), (&Handler{}).routes()
	if !slices.Equal(slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(served))) {
		t.Errorf("the document has the paths %v, the handler %v", slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(served)))
	}
	operations := map[string]bool{}
	for path := range documented {
		if methods := slices.Sorted(maps.Keys(child(documented, path))); !slices.Equal(methods, []string{"get", "head"}) {
			t.Errorf("%s has the methods %v, want get and head", path, methods)
		}
		for method := range child(documented, path) {
			operations[fmt.Sprint(c.operation(method, path)["operationId"])] = true
		}
		for _, parameter := range c.parameters("get", path) {
			name, inPath := parameter["name"], parameter["in"] == "path"
			if inPath != strings.Contains(path, fmt.Sprintf("{%s}", name)) || inPath != (parameter["required"] == true) {
				t.Errorf("%s: the parameter %v does not fit the path", path, parameter)
			}
		}
		if get, head := c.parameters("get", path), c.parameters("head", path); !reflect.DeepEqual(get, head) {
			t.Errorf("%s: HEAD has the parameters %v, GET %v", path, head, get)
		}
	}
	if len(operations) != 2*len(documented) {
		t.Errorf("%d paths have the operation ids %v, want two each", len(documented), operations)
	}
}

// The handler takes exactly the values of limit and offset that the document allows.
func TestOpenAPIParameters(t *testing.T) {
	entries := numbered(MaxLimit + 20)
	store, _ := auditstoretest.Run(t)
	for _, e := range slices.Backward(entries) {
		if err := store.Write(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	h, _ := newHandler(t, Config{Store: store})
	status := func(name any, value float64) int { return get(t, h, fmt.Sprintf("/audit?%s=%.0f", name, value)).Code }
	var names []string
	for _, parameter := range readContract(t).parameters("get", "/audit") {
		name, schema := parameter["name"], child(parameter, "schema")
		names = append(names, name.(string))
		least := schema["minimum"].(float64)
		if at, below := status(name, least), status(name, least-1); at != http.StatusOK || below != http.StatusBadRequest {
			t.Errorf("%s=%v answers %d and one less %d, want 200 and 400", name, least, at, below)
		}
		if most, limited := schema["maximum"].(float64); limited {
			if at, above := status(name, most), status(name, most+1); at != http.StatusOK || above != http.StatusBadRequest {
				t.Errorf("%s=%v answers %d and one more %d, want 200 and 400", name, most, at, above)
			}
		}
		chosen := get(t, h, fmt.Sprintf("/audit?%s=%.0f", name, schema["default"])).Body.String()
		if otherwise := get(t, h, "/audit").Body.String(); otherwise != chosen {
			t.Errorf("without %s the answer is another one than with its default %v", name, schema["default"])
		}
	}
	if !slices.Equal(names, []string{"limit", "offset"}) {
		t.Errorf("GET /audit has the parameters %v, want limit and offset", names)
	}
	if got := decode[page](t, get(t, h, fmt.Sprintf("/audit?limit=%d", MaxLimit)).Body); len(got.Items) != MaxLimit {
		t.Errorf("limit=%d returned %d entries", MaxLimit, len(got.Items))
	}
	if got := decode[page](t, get(t, h, "/audit").Body); len(got.Items) != DefaultLimit {
		t.Errorf("without a limit there are %d entries, want %d", len(got.Items), DefaultLimit)
	}
}

// The document's entry has the members of auditstore.Entry, and requires those that are always written.
func TestOpenAPIEntry(t *testing.T) {
	schema := child(readContract(t).document, "components", "schemas", "Entry")
	var members, required []string
	for field := range reflect.TypeFor[auditstore.Entry]().Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		members = append(members, name)
		if options == "" {
			required = append(required, name)
		}
	}
	slices.Sort(members)
	if got := slices.Sorted(maps.Keys(child(schema, "properties"))); !slices.Equal(got, members) {
		t.Errorf("the document's entry has the members %v, auditstore's %v", got, members)
	}
	if got := typesOf(schema["required"]); !slices.Equal(got, required) {
		t.Errorf("the document's entry requires %v, auditstore always writes %v", got, required)
	}
}

func TestServeOpenAPI(t *testing.T) {
	w := get(t, http.HandlerFunc(ServeOpenAPI), "/openapi.yaml")
	if w.Code != http.StatusOK || w.Body.String() != string(OpenAPI()) || w.Header().Get("Content-Type") != "application/yaml" {
		t.Errorf("the document is served as %d %s", w.Code, w.Header().Get("Content-Type"))
	}
	OpenAPI()[0] = '!'
	if OpenAPI()[0] == '!' {
		t.Error("a caller can change the document")
	}
}
