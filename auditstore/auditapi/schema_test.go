package auditapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml" //nolint:depguard // to read the document in its test; what workloads import does not read it
)

type object = map[string]any

// contract is the OpenAPI document, and what the answers have shown of it.
type contract struct {
	document object
	seen     map[string]bool // "method path status"
}

func readContract(t *testing.T) *contract {
	t.Helper()
	c := &contract{seen: map[string]bool{}}
	if err := yaml.Unmarshal(OpenAPI(), &c.document); err != nil {
		t.Fatalf("openapi.yaml: %v", err)
	}
	return c
}

// resolve follows a reference within the document.
func (c *contract) resolve(node object) object {
	ref, ok := node["$ref"].(string)
	if !ok {
		return node
	}
	target := c.document
	for name := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
		target, ok = target[name].(object)
		if !ok {
			panic(fmt.Sprintf("the document has no %s", ref))
		}
	}
	return c.resolve(target)
}

func child(node object, names ...string) object {
	for _, name := range names {
		node, _ = node[name].(object)
	}
	return node
}

func (c *contract) operation(method, path string) object {
	return child(c.document, "paths", path, strings.ToLower(method))
}

func (c *contract) parameters(method, path string) []object {
	var all []object
	list, _ := c.operation(method, path)["parameters"].([]any)
	for _, parameter := range list {
		all = append(all, c.resolve(parameter.(object)))
	}
	return all
}

// statuses returns "method path status" for every answer that the document describes.
func (c *contract) statuses() []string {
	var all []string
	for path, methods := range child(c.document, "paths") {
		for method := range methods.(object) {
			for status := range child(c.operation(method, path), "responses") {
				all = append(all, strings.ToUpper(method)+" "+path+" "+status)
			}
		}
	}
	slices.Sort(all)
	return all
}

// answer holds an answer against the document and returns what it finds wrong. The server sends no body that answers a HEAD.
func (c *contract) answer(method, path string, status int, contentType, body string) []string {
	key := fmt.Sprintf("%s %s %d", method, path, status)
	response := child(c.operation(method, path), "responses", fmt.Sprint(status))
	if response == nil {
		return []string{key + " is not in the document"}
	}
	media := child(c.resolve(response), "content", contentType)
	if media == nil {
		return []string{fmt.Sprintf("%s: the content type %q is not in the document", key, contentType)}
	}
	c.seen[key] = true
	if method == http.MethodHead {
		return nil
	}
	documents := []string{body}
	if contentType == "application/jsonl" {
		documents = strings.Split(strings.TrimSuffix(body, "\n"), "\n")
	}
	var wrong []string
	for _, document := range documents {
		var value any
		if err := json.Unmarshal([]byte(document), &value); err != nil {
			return append(wrong, fmt.Sprintf("%s: %v", key, err))
		}
		wrong = append(wrong, c.check(key, child(media, "schema"), value)...)
	}
	return wrong
}

// annotations are the keywords that check nothing. A keyword that is neither here nor in check fails, so that none is passed over.
var annotations = []string{"description", "default"}

// check holds a value against a schema. It is stricter than JSON Schema: a member that the schema does not name is wrong.
func (c *contract) check(at string, schema object, value any) (wrong []string) {
	schema = c.resolve(schema)
	fail := func(format string, args ...any) { wrong = append(wrong, at+": "+fmt.Sprintf(format, args...)) }
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		want := schema[keyword]
		switch keyword {
		case "type":
			if !slices.Contains(typesOf(want), typeOf(value)) {
				fail("%v is of the type %s, want %v", value, typeOf(value), want)
			}
		case "required":
			members, _ := value.(object)
			for _, name := range want.([]any) {
				if _, ok := members[name.(string)]; !ok {
					fail("there is no %s", name)
				}
			}
		case "properties":
			members, _ := value.(object)
			for name, member := range members {
				if property := child(want.(object), name); property == nil {
					fail("%s is not in the document", name)
				} else {
					wrong = append(wrong, c.check(at+"."+name, property, member)...)
				}
			}
		case "items":
			elements, _ := value.([]any)
			for i, element := range elements {
				wrong = append(wrong, c.check(fmt.Sprintf("%s[%d]", at, i), want.(object), element)...)
			}
		case "oneOf":
			matches := 0
			for _, option := range want.([]any) {
				if len(c.check(at, option.(object), value)) == 0 {
					matches++
				}
			}
			if matches != 1 {
				fail("%v matches %d of the schemas, want one", value, matches)
			}
		case "minimum", "maximum", "minLength", "maxLength", "minItems":
			if size, limit := sizeOf(value), want.(float64); strings.HasPrefix(keyword, "min") && size < limit ||
				strings.HasPrefix(keyword, "max") && size > limit {
				fail("%v breaks the %s %v", value, keyword, want)
			}
		case "format":
			if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(value)); want != "date-time" || err != nil {
				fail("%v is no %v", value, want)
			}
		default:
			if !slices.Contains(annotations, keyword) {
				fail("this test does not know the keyword %s", keyword)
			}
		}
	}
	return wrong
}

func typesOf(want any) []string {
	if one, ok := want.(string); ok {
		return []string{one}
	}
	var all []string
	for _, one := range want.([]any) {
		all = append(all, one.(string))
	}
	return all
}

func typeOf(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	}
	return "object"
}

func sizeOf(value any) float64 {
	switch v := value.(type) {
	case string:
		return float64(len([]rune(v)))
	case []any:
		return float64(len(v))
	case float64:
		return v
	}
	return 0
}
